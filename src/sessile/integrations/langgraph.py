"""LangGraph's checkpoints in any storage of Sessile's.

    from sessile import SqliteStorage
    from sessile.integrations.langgraph import SessileSaver

    graph = builder.compile(checkpointer=SessileSaver(SqliteStorage("sessions.db")))
    graph.invoke({"messages": […]}, {"configurable": {"thread_id": "42"}})

A thread is a session, `langgraph:THREAD`, of the kind `langgraph`; each namespace of a subgraph is another one
(`sessile.integrations.ids`). A checkpoint is one commit, and so are the writes of one task.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others. Its own tests are run on it.)

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from ..errors import SessionNotFoundError, missing_dependency
from ..storage.extending import (
    Core,
    Draft,
    Entry,
    Session,
    Snapshot,
    Storage,
    all_entries,
    aoperate,
    commit,
    look,
    operate,
    state_changed,
    tail,
)
from .langgraph_pieces import Pieces
from .langgraph_saved import CHECKPOINT, WRITES, Making, Moment, Saved, Values, copied, folded, pruned
from .langgraph_store import SessileStore
from .langgraph_threads import (
    GONE,
    PAGE,
    Config,
    adrop_each,
    all_but_newest,
    asessions_of,
    config_of,
    drop_each,
    entries_at,
    key_of,
    made_for,
    matching,
    moment_of,
    newest_of,
    of_runs,
    path_of,
    place_of,
    session_id_of,
    sessions_of,
)
from .langgraph_values import serializer
from .lines import Lines, ThreadLines
from .stored import passing_over, reads_stored

try:
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
        get_checkpoint_id,
        get_checkpoint_metadata,
    )
except ImportError as error:
    raise missing_dependency("langgraph-checkpoint", "langgraph", "A saver of LangGraph's", error) from error

__all__ = ["SessileSaver", "SessileStore"]


class SessileSaver(BaseCheckpointSaver[str]):
    """Checkpoints of graphs: `builder.compile(checkpointer=SessileSaver(storage))`, synchronous and asynchronous.

    Safe with any number of threads and processes. Writes that arrive before their checkpoint are kept. What `prune` and
    `delete_for_runs` take out is hidden by one commit, and then removed, where the database can rewrite its log.

    Args:
        storage: where threads are kept. The caller closes it. `storage.for_user("ada")` makes them that user's own.
        serde: how values become bytes. None: as LangGraph's serializer does it, but read with care: what is stored
            imports no module, and makes only models, dataclasses, enumerations and named tuples that are imported.
    """

    def __init__(self, storage: Storage, *, serde: Any = None) -> None:
        super().__init__(serde=serializer() if serde is None else serde)
        self.storage = storage
        self._lines, self._alines = ThreadLines(), Lines()
        self._values = Values(self.serde, storage.settings.inline_media_bytes, Pieces() if serde is None else None)

    # ------------------------------------------------------------ one checkpoint

    def put(
        self, config: Config, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> Config:
        """Store a checkpoint; one of the same id is replaced. One commit."""
        self._in_line(config, self._drafted(config, checkpoint, metadata, new_versions))
        return config_of(*place_of(config), checkpoint["id"])

    async def aput(
        self, config: Config, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> Config:
        """As `put`."""
        await self._ain_line(config, self._drafted(config, checkpoint, metadata, new_versions))
        return config_of(*place_of(config), checkpoint["id"])

    def put_writes(self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = "") -> None:
        """Store what a task has written, also before its checkpoint. One commit."""
        self._in_line(config, self._written(config, writes, task_id, task_path))

    async def aput_writes(
        self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `put_writes`."""
        await self._ain_line(config, self._written(config, writes, task_id, task_path))

    def get_tuple(self, config: Config) -> CheckpointTuple | None:
        """The checkpoint of `checkpoint_id`, or the newest one by its id; None if there is none."""
        return operate(self.storage, self._get, config)

    async def aget_tuple(self, config: Config) -> CheckpointTuple | None:
        """As `get_tuple`."""
        return await aoperate(self.storage, self._get, config)

    # ------------------------------------------------------------ many

    def list(
        self,
        config: Config | None,
        *,
        filter: dict[str, Any] | None = None,
        before: Config | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest id first; of all threads if `config` is None. Reads their whole sessions."""
        found, upto = list[tuple[Session, Saved]](), [one and get_checkpoint_id(one) for one in (config, before)]
        for session in sessions_of(self.storage, config):
            with passing_over(session.session_id):
                found += operate(self.storage, matching, session, filter, *upto)
        for session, saved in newest_of(found, limit):
            made: list[CheckpointTuple] = []
            with passing_over(session.session_id):
                made.append(operate(self.storage, self._tuple, session, saved))
            yield from made

    async def alist(
        self,
        config: Config | None,
        *,
        filter: dict[str, Any] | None = None,
        before: Config | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `list`."""
        found, upto = list[tuple[Session, Saved]](), [one and get_checkpoint_id(one) for one in (config, before)]
        for session in await asessions_of(self.storage, config):
            with passing_over(session.session_id):
                found += await aoperate(self.storage, matching, session, filter, *upto)
        for session, saved in newest_of(found, limit):
            made: CheckpointTuple | None = None
            with passing_over(session.session_id):
                made = await aoperate(self.storage, self._tuple, session, saved)
            if made is not None:
                yield made

    def delete_thread(self, thread_id: str) -> None:
        """Delete a thread with all its namespaces."""
        for session in sessions_of(self.storage, config_of(thread_id, None, None)):
            self.storage.delete(session.session_id)
        self.storage.delete(session_id_of(thread_id, ""))  # of which perhaps nothing else can be read

    async def adelete_thread(self, thread_id: str) -> None:
        """As `delete_thread`."""
        for session in await asessions_of(self.storage, config_of(thread_id, None, None)):
            await self.storage.adelete(session.session_id)
        await self.storage.adelete(session_id_of(thread_id, ""))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that runs of these ids have made, and their writes. Reads all threads."""
        drop_each(self.storage, None, of_runs(run_ids))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `delete_for_runs`."""
        await adrop_each(self.storage, None, of_runs(run_ids))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete all but the newest checkpoint of each namespace, and what its delta channels are made of.

        With `strategy="delete"` delete the threads.
        """
        for thread_id in thread_ids:
            if strategy == "delete":
                self.delete_thread(thread_id)
            else:
                drop_each(self.storage, config_of(thread_id, None, None), all_but_newest)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `prune`."""
        for thread_id in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread_id)
            else:
                await adrop_each(self.storage, config_of(thread_id, None, None), all_but_newest)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints and writes of a thread, with their ids, to another thread."""
        for session in sessions_of(self.storage, config_of(source_thread_id, None, None)):
            operate(self.storage, self._copy, session, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `copy_thread`."""
        for session in await asessions_of(self.storage, config_of(source_thread_id, None, None)):
            await aoperate(self.storage, self._copy, session, target_thread_id)

    def get_delta_channel_history(
        self, *, config: Config, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What delta channels are made of: reads back from the end of the log, as far as it must."""
        return operate(self.storage, self._history, config, channels)

    async def aget_delta_channel_history(
        self, *, config: Config, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `get_delta_channel_history`."""
        return await aoperate(self.storage, self._history, config, channels)

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """The version that follows: in order as texts, and in no two branches the same."""
        number = 0 if current is None else current if isinstance(current, int) else int(current.split(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    # ------------------------------------------------------------ writing

    def _drafted(
        self, config: Config, checkpoint: Checkpoint, metadata: CheckpointMetadata, new_versions: ChannelVersions
    ) -> Making:
        """Makes the entry of a checkpoint, for a session as it is at a moment, and what is to be put beside it."""
        said = {
            "id": checkpoint["id"],
            "parent": config["configurable"].get("checkpoint_id"),
            "metadata": json.loads(json.dumps(get_checkpoint_metadata(config, metadata))),
        }
        rest = {name: value for name, value in checkpoint.items() if name != "channel_values"}
        versions = checkpoint.get("channel_versions") or {}

        def make(moment: Moment) -> tuple[Entry, dict[str, bytes]]:
            contents: dict[str, bytes] = {}
            channels = {
                name: self._values.dump_version(
                    value,
                    moment,
                    contents,
                    (name, versions.get(name)),
                    new=name in new_versions or versions.get(name) is None,
                )
                for name, value in checkpoint["channel_values"].items()
            }
            whole = {**said, "checkpoint": self._values.dump(rest, moment, contents), "channels": channels}
            return Entry(CHECKPOINT, whole), contents

        return make

    def _written(self, config: Config, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str) -> Making:
        """As `_drafted`, for what a task has written."""

        def make(moment: Moment) -> tuple[Entry, dict[str, bytes]]:
            contents: dict[str, bytes] = {}
            said = [
                {
                    "task": task_id,
                    "path": task_path,
                    "idx": WRITES_IDX_MAP.get(channel, idx),
                    "channel": channel,
                    "value": self._values.dump(value, moment, contents),
                }
                for idx, (channel, value) in enumerate(writes)
            ]
            return Entry(WRITES, {"id": str(config["configurable"]["checkpoint_id"]), "writes": said}), contents

        return make

    def _in_line(self, config: Config, make: Making) -> None:
        """Write, one after the other in this process: the tasks of a step end together."""
        with self._lines.at(session_id_of(*place_of(config))):
            operate(self.storage, self._put, *place_of(config), make)

    async def _ain_line(self, config: Config, make: Making) -> None:
        async with self._alines.at(session_id_of(*place_of(config))):
            await aoperate(self.storage, self._put, *place_of(config), make)

    async def _put(self, core: Core, thread_id: str, ns: str, make: Making) -> None:
        session_id = session_id_of(thread_id, ns)
        made: tuple[Moment, Entry] | None = None

        async def change(snapshot: Snapshot) -> Draft:
            nonlocal made
            head = snapshot.head
            if head is None:
                raise SessionNotFoundError(f"Session {session_id!r} was deleted while it was written to.")
            if made is None or made[0] != moment_of(head):
                entry, contents = make(moment_of(head))
                await self._values.put(core, head, contents)
                made = moment_of(head), entry
            entry = Entry(made[1].kind, made[1].data)
            if entry.kind != CHECKPOINT:
                return Draft([entry], key=key_of(entry.data["id"]))
            newest = max(str(head.state.get("latest") or ""), entry.data["id"])
            return Draft([entry, *state_changed(head, {"latest": newest})], key=key_of(entry.data["id"]))

        try:
            await commit(core, session_id, change)
        except SessionNotFoundError:
            await commit(core, session_id, change, known=await made_for(core, thread_id, ns))

    # ------------------------------------------------------------ reading

    async def _get(self, core: Core, config: Config) -> CheckpointTuple | None:
        thread_id, ns = place_of(config)
        head, checkpoint_id = (await look(core, session_id_of(thread_id, ns))).head, get_checkpoint_id(config)
        if head is None:
            return None
        checkpoint_id = checkpoint_id or str(head.state.get("latest") or "")
        entries = await entries_at(core, head, key_of(checkpoint_id)) if checkpoint_id else []
        if pruned(head):
            entries = sorted([*entries, *await entries_at(core, head, GONE)], key=lambda entry: entry.seq)
        saved = folded(entries).get(checkpoint_id)
        if saved is None or saved.said is None:
            return None
        return await self._tuple(core, head, saved, (thread_id, ns))

    @reads_stored
    async def _tuple(self, core: Core, session: Session, saved: Saved, at: Any = None) -> CheckpointTuple:
        said, told = saved.said or {}, session.metadata
        thread, ns = at or (told["thread_id"], told["checkpoint_ns"])
        writes = saved.in_order()
        stored = [said["checkpoint"], *said["channels"].values(), *(one["value"] for one in writes)]
        contents = await self._values.read(core, session, stored)
        channels = {name: self._values.load(value, contents) for name, value in said["channels"].items()}
        checkpoint = {**self._values.load(said["checkpoint"], contents), "channel_values": channels}
        parent = said["parent"]
        return CheckpointTuple(
            config_of(thread, ns, saved.checkpoint_id),
            checkpoint,  # type: ignore[arg-type] (it is what was put)
            said["metadata"],
            config_of(thread, ns, parent) if parent else None,
            [(one["task"], one["channel"], self._values.load(one["value"], contents)) for one in writes],
        )

    async def _history(self, core: Core, config: Config, channels: Sequence[str]) -> dict[str, Any]:
        if not channels:
            return {}
        target = await self._get(core, config)
        session_id = session_id_of(*place_of(config))
        parent = None if target is None else get_checkpoint_id(target.parent_config or config_of("", "", None))
        entries, before = list[Entry](), None
        while True:
            page = await tail(core, session_id, PAGE, before=before)
            if page is None:
                return {channel: {"writes": []} for channel in channels}
            entries[:0] = reversed(page.entries)
            before = page.before
            path, whole = path_of(folded(entries), parent, channels)
            if whole or before is None:
                return await self._told(core, page.head, path, channels)

    @reads_stored
    async def _told(self, core: Core, head: Session, path: list[Saved], channels: Sequence[str]) -> dict[str, Any]:
        result: dict[str, Any] = {channel: {"writes": []} for channel in channels}
        for channel, told in result.items():
            for saved in path:
                wanted = [one for one in saved.in_order() if one["channel"] == channel]
                contents = await self._values.read(core, head, (one["value"] for one in wanted))
                said = [(one["task"], channel, self._values.load(one["value"], contents)) for one in wanted]
                told["writes"][:0] = said
                seed = (saved.said or {"channels": {}})["channels"].get(channel)
                if seed is not None:
                    told["seed"] = self._values.load(seed, await self._values.read(core, head, [seed]))
                    break
        return result

    # ------------------------------------------------------------ taking away, copying

    @reads_stored
    async def _copy(self, core: Core, session: Session, target: str) -> None:
        ns = session.metadata["checkpoint_ns"]
        for saved in folded(await all_entries(core, session)).values():
            for entry in saved.entries():
                await self._put(core, target, ns, await copied(core, session, entry))
