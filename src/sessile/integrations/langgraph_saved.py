"""What a thread of LangGraph's keeps: values as JSON or beside the log, and checkpoints folded from its entries.

A value is stored in the form that LangGraph's serializer gives it. Small ones stand in their entry, as base64; larger
ones are records of the session, under the hash of their content: a channel that has not changed is stored once. A long
list is stored in pieces of `PIECE` items, so that what grows at its end is not written again from its beginning.
"""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

import base64
import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CorruptDataError, UnknownFormatError
from ..storage.extending import Core, Entry, Session, read_record, read_records, write_record
from .stored import reads_stored

CHECKPOINT, WRITES, DROPPED = "langgraph.checkpoint", "langgraph.writes", "langgraph.dropped"
RECORDS = "langgraph/"
PIECE = 64
"""How many items of a list are one piece."""

REPEATED, REPEATED_BYTES = 64, 256 * 1024 * 1024
"""Contents that are named more than once are made as often: so many times what is stored, and these bytes, at most."""

MOST_KNOWN, MOST_VERSIONS = 20_000, 2000
"""How many contents are remembered as stored, and how many versions of channels."""


class Values:
    """Stores values of one saver, and remembers which contents are stored already.

    `serde` is LangGraph's serializer: `dumps_typed`, `loads_typed`.
    """

    def __init__(self, inline: int) -> None:
        self._inline = inline
        self._lock = threading.Lock()
        self._versions: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._known: OrderedDict[tuple[str, int, str], None] = OrderedDict()

    def dump(self, serde: Any, value: Any, contents: dict[str, bytes]) -> dict[str, Any]:
        """The value as JSON; what is to be put beside the log is added to `contents`, by hash."""
        if type(value) is list and len(value) > PIECE:
            parts = [value[start : start + PIECE] for start in range(0, len(value), PIECE)]
            return {"list": [self._dump(serde, part, contents) for part in parts]}
        return self._dump(serde, value, contents)

    def dump_version(
        self, serde: Any, value: Any, contents: dict[str, bytes], version: tuple[Any, ...], *, new: bool
    ) -> dict[str, Any]:
        """As `dump`, but for a version of a channel that is not new and was stored before: that stays as it is."""
        said = None if new else self._versions.get(version)
        if said is None:
            said = self.dump(serde, value, contents)
            with self._lock:
                self._versions[version] = said
                if len(self._versions) > MOST_VERSIONS:
                    self._versions.popitem(last=False)
        return said

    def _dump(self, serde: Any, value: Any, contents: dict[str, bytes]) -> dict[str, Any]:
        kind, data = serde.dumps_typed(value)
        if len(data) <= self._inline:
            return {"type": kind, "data": base64.b64encode(data).decode()}
        digest = hashlib.sha256(data).hexdigest()
        contents[digest] = data
        return {"type": kind, "at": digest}

    async def put(self, core: Core, head: Session, contents: dict[str, bytes]) -> None:
        """Put contents beside the log, but for those that are known to be there."""
        size = core.driver.capabilities.max_record_bytes
        for digest, data in contents.items():
            key = (head.incarnation, pruned(head), digest)
            if key in self._known:
                continue
            for place, part in enumerate(_parts(data, size)):
                await write_record(core, head, _name(digest, place), part)
            with self._lock:
                self._known[key] = None
                if len(self._known) > MOST_KNOWN:
                    self._known.popitem(last=False)


@reads_stored
def pruned(head: Session) -> int:
    """How often something was taken out of the session."""
    return int(head.state.get("pruned") or 0)


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    """A content in as many records as the database needs: all but the last are full."""
    for start in range(0, len(data) + 1, size):
        yield data[start : start + size]


def _name(digest: str, place: int) -> str:
    return f"{RECORDS}{digest}" if place == 0 else f"{RECORDS}{digest}.{place}"


def digests(said: Any) -> list[str]:
    """The hashes of all that a stored value, or an entry of them, has beside the log."""
    found: list[str] = []
    todo = [said]
    while todo:
        one = todo.pop()
        if isinstance(one, dict) and isinstance(one.get("at"), str) and "type" in one:
            found.append(one["at"])
        elif isinstance(one, dict | list):
            todo += one.values() if isinstance(one, dict) else one
    return found


async def content_of(core: Core, head: Session, digest: str) -> bytes:
    """What is kept under a hash; `CorruptDataError` if it is not there."""
    size = core.driver.capabilities.max_record_bytes
    data, place = b"", 0
    while True:
        part = await read_record(core, head, _name(digest, place))
        data += part or b""
        if part is None or len(part) < size:
            break
        place += 1
    if hashlib.sha256(data).hexdigest() != digest:
        raise CorruptDataError(f"A value of session {head.session_id!r} is missing or damaged.")
    return data


async def drop_contents(core: Core, head: Session, gone: Iterable[str]) -> None:
    """Remove contents that nothing names any longer."""
    size = core.driver.capabilities.max_record_bytes
    for digest in gone:
        place = 0
        while True:
            part = await read_record(core, head, _name(digest, place))
            await write_record(core, head, _name(digest, place), None)
            if part is None or len(part) < size:
                break
            place += 1


async def contents_of(core: Core, head: Session, said: Iterable[Any]) -> dict[str, bytes]:
    """By their hashes, all that stored values have beside the log."""
    named = Counter(digest for one in said for digest in digests(one))
    wanted = list(named)
    size = core.driver.capabilities.max_record_bytes
    found: dict[str, bytes] = {}
    for digest, data in zip(wanted, await read_records(core, head, [_name(one, 0) for one in wanted]), strict=True):
        whole = data is not None and len(data) < size and hashlib.sha256(data).hexdigest() == digest
        found[digest] = data if data is not None and whole else await content_of(core, head, digest)
    made = sum(count * len(found[digest]) for digest, count in named.items())
    if made > REPEATED_BYTES + REPEATED * sum(map(len, found.values())):
        raise UnknownFormatError(f"A checkpoint of session {head.session_id!r} is {made} bytes of the same few.")
    return found


@reads_stored
def load(serde: Any, said: dict[str, Any], contents: dict[str, bytes]) -> Any:
    """A stored value."""
    if "list" in said:
        return [item for part in said["list"] for item in load(serde, part, contents)]
    data = contents[said["at"]] if "at" in said else base64.b64decode(said["data"])
    return serde.loads_typed((said["type"], data))


# ---------------------------------------------------------------- checkpoints


@dataclass
class Saved:
    """One checkpoint as it is stored, None before it has come, and its writes by task and place."""

    checkpoint_id: str
    said: dict[str, Any] | None = None
    writes: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict["tuple[str, int]", "dict[str, Any]"])

    @reads_stored
    def in_order(self) -> list[dict[str, Any]]:
        """The writes in the order in which a run applies them."""
        return [one for _, one in sorted(self.writes.items(), key=lambda item: (item[1]["path"], *item[0]))]


@reads_stored
def folded(entries: Sequence[Entry]) -> dict[str, Saved]:
    """The checkpoints of a session by their ids, from its entries in the order of the log.

    A checkpoint that is put again replaces the one before. A write of the same task and place that is there already
    stays, but for those of errors, interrupts and the like, whose places are below 0.
    """
    found: dict[str, Saved] = {}
    for entry in entries:
        if entry.kind == DROPPED:
            for checkpoint_id in entry.data["ids"]:
                found.pop(checkpoint_id, None)
        elif entry.kind in (CHECKPOINT, WRITES):
            if not isinstance(entry.data["id"], str):
                raise TypeError("an id is a text")
            saved = found.setdefault(entry.data["id"], Saved(entry.data["id"]))
            if entry.kind == CHECKPOINT:
                saved.said = entry.data
            for one in entry.data.get("writes", ()):
                place = (one["task"], one["idx"])
                if one["idx"] < 0 or place not in saved.writes:
                    saved.writes[place] = one
    return found
