"""Sessions of the OpenAI Agents SDK (`openai-agents`) in any storage of Sessile's.

    from sessile import SqliteStorage
    from sessile.integrations.openai_agents import SessileSession

    session = SessileSession("s1", SqliteStorage("sessions.db"))
    result = await Runner.run(agent, "What is the capital of France?", session=session)

One `Runner.run` is one run of the session, with the user's words as its input, the last answer as its output, and its
usage. The session is stored as `openai:ID` (`sessile.integrations.ids`), of the kind `openai-agents`.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others. Its own tests are run on it.)

from __future__ import annotations

import asyncio
import json
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..errors import missing_dependency
from ..storage.extending import (
    Core,
    Draft,
    Entry,
    Message,
    Session,
    Snapshot,
    Storage,
    Usage,
    aoperate,
    commit,
    look,
    messages_added,
    newest_messages,
    rewound,
    run_added,
    run_amended,
    started_session,
)
from .ids import stored_id
from .lines import Lines
from .openai_items import FORMAT, input_of, is_asked, is_item, output_of
from .openai_items import items as items_of

try:
    from agents.memory.session import SessionABC, _CompactionSnapshot
    from agents.memory.session_settings import SessionSettings, coerce_session_settings, resolve_session_limit
except ImportError as error:
    raise missing_dependency("openai-agents", "openai-agents", "A session of the OpenAI Agents SDK", error) from error

if TYPE_CHECKING:
    from agents.items import TResponseInputItem
    from agents.run_context import RunContextWrapper

KIND = "openai-agents"
NEWEST = 8
"""How many commits come along with a look."""

MOST_SESSIONS, MOST_KEPT, LARGEST_KEPT = 256, 64 * 1024 * 1024, 32 * 1024 * 1024
"""How many sessions are kept in memory of each storage, and how many characters of all of them, and of one of them."""

Items = list[Any]
R = TypeVar("R")


class SessileSession(SessionABC):
    """The items of one conversation, for `Runner.run(…, session=…)`.

    Every method is one commit or one look, safe with any number of processes on the same session. What other programs
    have added to the session meanwhile is seen by the next call. Items keep their JSON; of a session that an agent of
    Sessile's has continued, its messages come as items of the Responses API.

    Args:
        session_id: the conversation; any text.
        storage: where it is kept. The caller closes it. `storage.for_user("ada")` makes it that user's own.
        session_settings: `SessionSettings(limit=…)`: how many items `get_items` brings if it is not told.
    """

    def __init__(
        self,
        session_id: str,
        storage: Storage,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = session_id
        self.storage = storage
        self.stored_id = stored_id("openai", session_id)
        self.session_settings = (
            SessionSettings() if session_settings is None else coerce_session_settings(session_settings)
        )
        self._runs: weakref.WeakKeyDictionary[Any, _Place] = weakref.WeakKeyDictionary()
        self._known: Snapshot | None = None

    # ------------------------------------------------------------ the framework's methods

    async def get_items(
        self, limit: int | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> list[TResponseInputItem]:
        """The newest `limit` items, oldest first; all if it is None and the settings have none, or below 0."""
        count = resolve_session_limit(limit, self.session_settings)
        items = await aoperate(self.storage, self._get, None if count is None or count < 0 else count)
        return cast("list[TResponseInputItem]", items)

    async def add_items(
        self, items: list[TResponseInputItem], *, wrapper: RunContextWrapper[Any] | None = None
    ) -> None:
        """Append the items, all or none. They belong to the run that `wrapper` stands for."""
        if items:
            await _settled(self._in_line(self._add, [dict(item) for item in items], wrapper))

    async def pop_item(self, *, wrapper: RunContextWrapper[Any] | None = None) -> TResponseInputItem | None:
        """Remove the newest item and return it; None if there is none. The log keeps what was there."""
        return cast("TResponseInputItem | None", await _settled(self._in_line(self._pop)))

    async def clear_session(self, *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """Delete the session with all that it has; it may be used again at once."""
        self._known = None
        await _settled(self.storage.adelete(self.stored_id))

    async def _get_compaction_snapshot(
        self, limit: int, *, prune_prefix: Callable[[TResponseInputItem], bool] | None = None
    ) -> _CompactionSnapshot | None:
        """The newest items, and how the end of them is replaced in one commit: for compaction."""
        seen = await aoperate(self.storage, self._newest, limit + 1)
        complete, seen = len(seen) <= limit, seen[-limit:]
        if any(not is_item(message) for message in seen):
            return None

        async def replace_suffix(start: int, output: list[TResponseInputItem]) -> bool:
            new = [dict(one) for one in output]
            return await _settled(self._in_line(self._replace, seen[start:], new, prune_prefix))

        items = cast("list[TResponseInputItem]", [message.data for message in seen])
        return _CompactionSnapshot(items, complete, replace_suffix)

    # ------------------------------------------------------------ reading

    async def _get(self, core: Core, count: int | None) -> Items:
        snapshot = await look(core, self.stored_id, newest=NEWEST if count is None else min(NEWEST, max(count, 1)))
        self._known = snapshot
        if count == 0 or snapshot.head is None:
            return []
        if count is None:
            return (await _followed(core, self.storage, self.stored_id, snapshot)).items()
        return [item for message in await newest_messages(core, snapshot, count) for item in items_of(message)][-count:]

    async def _newest(self, core: Core, count: int) -> list[Message]:
        snapshot = await look(core, self.stored_id, newest=NEWEST)
        return await newest_messages(core, snapshot, count)

    # ------------------------------------------------------------ writing

    async def _in_line(self, operation: Any, *given: Any) -> Any:
        async with _lines.setdefault(self.storage, Lines()).at(self.stored_id):
            return await aoperate(self.storage, operation, *given)

    async def _add(self, core: Core, items: list[dict[str, Any]], wrapper: Any) -> None:
        place = None if wrapper is None else self._runs.setdefault(wrapper, _Place())
        told: list[_Place] = []

        async def change(snapshot: Snapshot) -> Draft:
            head, first = started_session(core, snapshot, self.stored_id, kind=KIND)
            now = place or _Place()
            usage = _usage_of(wrapper) - now.usage
            text = output_of(items)
            if now.goes_on(head):
                number, run_id = now.number, now.run_id
            elif place is None and not is_asked(items[0]) and _may_go_on(head):
                number, run_id = head.tip, await _run_id(core, snapshot)
            else:
                number, run_id = head.run_count + 1, ""
            if run_id:
                output: dict[str, Any] = {} if text is None else {"output": text}
                entries = run_amended(number, run_id, messages=items, format=FORMAT, usage=usage or None, **output)
            else:
                run_id = _new_id(head, number)
                entries = run_added(
                    head, run_id, input=input_of(items), output=text, messages=items, format=FORMAT, usage=usage
                )[1]
            told[:] = [_Place(head.incarnation, number, run_id, now.usage + usage)]
            return Draft([*first, *entries], number)

        await self._commit(core, change)
        if place is not None:
            place.take(told[0])

    async def _commit(self, core: Core, change: Any) -> None:
        known, self._known = self._known, None
        committed = await commit(core, self.stored_id, change, known=known)
        self._known = Snapshot(committed.head, [], core.clock.now())

    async def _pop(self, core: Core) -> Any:
        popped: list[Any] = []

        async def change(snapshot: Snapshot) -> Draft:
            found = await newest_messages(core, snapshot, 1)
            if snapshot.head is None or not found:
                raise _NothingError
            last = found[-1]
            items = items_of(last)
            popped[:] = items[-1:]
            return await _without_last(core, snapshot, last, items[:-1])

        try:
            await commit(core, self.stored_id, change, known=await look(core, self.stored_id, newest=NEWEST))
        except _NothingError:
            return None
        self._known = None
        return popped[0]

    async def _replace(
        self,
        core: Core,
        expected: Sequence[Message],
        output: list[dict[str, Any]],
        prune: Callable[[Any], bool] | None,
    ) -> bool:
        """Put items in the place of the newest ones, if those are still the same."""

        async def change(snapshot: Snapshot) -> Draft:
            found = await newest_messages(core, snapshot)
            start = len(found) - len(expected)
            if snapshot.head is None or start < 0 or [*map(_key, found[start:])] != [*map(_key, expected)]:
                raise _NothingError
            pruned = 0
            while prune is not None and pruned < start and prune(found[pruned].data):
                pruned += 1
            oldest = 1 if pruned else min(message.run for message in found[start:])
            kept = [message for message in found[pruned:start] if message.run >= oldest]
            return _anew(snapshot.head, oldest, [*(item for one in kept for item in items_of(one)), *output])

        if not expected:
            return False
        try:
            await commit(core, self.stored_id, change)
        except _NothingError:
            return False
        self._known = None
        return True


async def _settled(work: Coroutine[Any, Any, R]) -> R:
    """Do what changes the session to its end, also when the caller is cancelled, who hears of that afterwards.

    The Runner takes back what it has written, and must know what that is.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = cancelled or error
    try:
        return task.result()
    finally:
        if cancelled is not None:
            raise cancelled


class _NothingError(Exception):
    """There is nothing to write."""


# ---------------------------------------------------------------- runs


@dataclass
class _Place:
    """Where the items of one `Runner.run` are: the run in its session, and what it is known to have used."""

    incarnation: str = ""
    number: int = 0
    run_id: str = ""
    usage: Usage = field(default_factory=Usage)

    def goes_on(self, head: Session) -> bool:
        return self.incarnation == head.incarnation and head.on_path(self.number)

    def take(self, other: _Place) -> None:
        self.incarnation, self.number, self.run_id = other.incarnation, other.number, other.run_id
        self.usage = other.usage


def _may_go_on(head: Session) -> bool:
    return head.tip > 0 and head.tip not in head.open_runs


async def _run_id(core: Core, snapshot: Snapshot) -> str:
    """The id of the newest run, if its newest message is an item: then it goes on."""
    found = await newest_messages(core, snapshot, 1)
    same = bool(found) and snapshot.head is not None and found[0].run == snapshot.head.tip and is_item(found[0])
    return (found[0].run_id or "") if same else ""


def _new_id(head: Session, number: int) -> str:
    return f"{KIND}/{head.incarnation}/{number}"


async def _without_last(core: Core, snapshot: Snapshot, last: Message, rest: Items) -> Draft:
    """The draft that takes the newest message away, and leaves of it what `rest` has."""
    head = snapshot.head
    assert head is not None, "it has a message"
    before = (await newest_messages(core, snapshot, 2))[:-1]
    if last.run == head.tip and not rest and not any(one.run == last.run for one in before):
        return Draft(rewound(head, _parent(head, last.run)))
    entries = run_amended(last.run, last.run_id or "", drop=1, messages=rest, format=FORMAT, agent=last.agent)
    return Draft(entries, last.run)


def _parent(head: Session, run: int) -> int:
    """The run before one of the current branch; 0 if it is the first."""
    before = head.last_on_path(1, below=run)
    return before[0] if before else 0


def _anew(head: Session, oldest: int, items: Items) -> Draft:
    """The draft that goes back before a run, and adds a run of these items."""
    number = head.run_count + 1
    entries: list[Entry] = rewound(head, _parent(head, oldest))
    if items:
        entries += run_added(
            head, _new_id(head, number), input=input_of(items), output=output_of(items), messages=items, format=FORMAT
        )[1]
    return Draft(entries, number if items else 0)


def _key(message: Message) -> tuple[int, int, str]:
    return message.seq, message.run, json.dumps(message.data, sort_keys=True)


def _usage_of(wrapper: Any) -> Usage:
    said = getattr(wrapper, "usage", None)
    if said is None:
        return Usage()
    details = getattr(said, "input_tokens_details", None)
    return Usage(
        requests=int(getattr(said, "requests", 0) or 0),
        input_tokens=int(getattr(said, "input_tokens", 0) or 0),
        output_tokens=int(getattr(said, "output_tokens", 0) or 0),
        cache_read_tokens=int(getattr(details, "cached_tokens", 0) or 0),
    )


# ---------------------------------------------------------------- what was read already


@dataclass(frozen=True)
class _Kept:
    """The items of a session at a revision, as JSON: the next look reads only what has followed."""

    incarnation: str
    revision: int
    texts: list[str]
    size: int

    def items(self) -> Items:
        return json.loads(f"[{','.join(self.texts)}]")


_kept: weakref.WeakKeyDictionary[Storage, OrderedDict[str, _Kept]] = weakref.WeakKeyDictionary()
"""Of each storage the sessions that were read whole last: servers make a session object for each request."""

_keeping = threading.Lock()
_lines: weakref.WeakKeyDictionary[Storage, Lines] = weakref.WeakKeyDictionary()


async def _followed(core: Core, storage: Storage, session_id: str, snapshot: Snapshot) -> _Kept:
    """All items of the snapshot's session; what was kept of it spares reading all but what is new."""
    head = snapshot.head
    assert head is not None, "the caller has looked"
    with _keeping:
        kept = _kept.get(storage, {}).get(session_id)
    same = kept if kept is not None and kept.incarnation == head.incarnation else None
    if same is not None and same.revision == head.revision:
        return same
    added = None if same is None else messages_added(snapshot, same.revision)
    messages = await newest_messages(core, snapshot) if added is None else added
    texts = [json.dumps(item) for one in messages for item in items_of(one)]
    size = sum(map(len, texts))
    if added is not None and same is not None:
        texts, size = [*same.texts, *texts], same.size + size
    now = _Kept(head.incarnation, head.revision, texts, size)
    with _keeping:
        sessions = _kept.setdefault(storage, OrderedDict())
        sessions.pop(session_id, None)
        if size <= LARGEST_KEPT and not head.open_runs:
            sessions[session_id] = now
        while len(sessions) > MOST_SESSIONS or sum(one.size for one in sessions.values()) > MOST_KEPT:
            sessions.popitem(last=False)
    return now
