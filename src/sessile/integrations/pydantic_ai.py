"""Pydantic AI's `ConversationStore` in any storage of Sessile's.

    from sessile import SqliteStorage
    from sessile.integrations.pydantic_ai import SessileConversationStore

    store = SessileConversationStore(SqliteStorage("sessions.db"))
    conversation = await store.load("c1") or Conversation(conversation_id="c1")
    result = await agent.run("Hello", conversation=conversation)
    await store.save(result)

A conversation is stored as `pydantic-ai:CONVERSATION` (`sessile.integrations.ids`), of the kind `pydantic-ai`; each
save is one run of it. Its scope is the session's user.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..errors import SessionNotFoundError, missing_dependency
from ..storage.extending import (
    ANY_USER,
    Core,
    Draft,
    Entry,
    Session,
    Snapshot,
    Storage,
    Usage,
    UserId,
    all_entries,
    aoperate,
    commit,
    keep_media,
    look,
    rewound,
    run_added,
    started_session,
    state_changed,
    tail,
    with_media,
)
from .conversation_log import ENTRIES, FORMAT, Logged, line_of, logged, words_of
from .ids import digest, is_usable, short, stored_id
from .stored import passing_over, reading, reads_stored

try:
    from pydantic import TypeAdapter
    from pydantic_ai.conversation_store import (
        ConversationConflict,
        ConversationEntry,
        ConversationRecord,
        ConversationStore,
    )
    from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
except ImportError as error:
    raise missing_dependency(
        "pydantic-ai-slim>=2.66", "openai", "A conversation store of Pydantic AI's", error
    ) from error

KIND = "pydantic-ai"
BEGUN = "pydantic-ai.begun"
MOST_PLACES = 10_000

_record: TypeAdapter[ConversationRecord] = TypeAdapter(ConversationRecord)


class SessileConversationStore(ConversationStore):
    """Conversations with their branches and forks: `await store.load(id)`, `await store.save(result)`.

    A save is one commit, and is refused with `ConversationConflict` if anybody has saved since. Runs that an agent of
    Sessile's has added to the session are part of the conversation. A fork has copies of the messages that it begins
    with, so that each conversation stands alone: deleting one deletes its messages, and leaves its forks as they are.
    Content over the storage's `inline_media_bytes` (images, documents) is media of the session, each stored once.

    Args:
        storage: where conversations are kept. The caller closes it.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._places: OrderedDict[str, str] = OrderedDict()
        """By the ids of entries, the sessions that they are in: what was read last."""

    # ------------------------------------------------------------ the five primitives, and histories at once

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """See `ConversationStore`."""
        stored = stored_id(KIND, conversation_id)
        return await aoperate(self.storage, self._log_read, stored, conversation_id)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> Sequence[ConversationRecord]:
        """See `ConversationStore`."""
        found: list[ConversationRecord] = []
        cursor: str | None = None
        whose = ANY_USER if scope is None else short(scope)
        while limit is None or len(found) < limit:
            size = 100 if limit is None else min(100, limit - len(found))
            page = await self.storage.asessions(kind=KIND, user_id=whose, cursor=cursor, limit=size, with_state=True)
            for one in page:
                with passing_over(one.session_id):
                    if "record" in one.state and (scope is None or one.state["record"]["scope"] == scope):
                        found.append(await aoperate(self.storage, self._log_shown, one, None))
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """See `ConversationStore`. One commit, with all new entries."""
        stored = stored_id(KIND, record.conversation_id)
        copied: list[ConversationEntry] = []
        if expected_revision is None and record.head_id not in (None, *(entry.id for entry in new_entries)):
            try:
                copied = await self.read_history(record.head_id)
            except LookupError:
                raise ConversationConflict(record.conversation_id) from None
        if record.scope is not None and expected_revision is not None:
            found = await self.read_record(record.conversation_id)
            if found is None or found.revision != expected_revision:
                raise ConversationConflict(record.conversation_id)  # before it is anybody's
            with suppress(SessionNotFoundError):  # then it has its scope, or is gone, which is seen below
                await self.storage.aclaim(stored, short(record.scope))
        await aoperate(self.storage, self._log_write, stored, record, [*copied, *new_entries], expected_revision)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """See `ConversationStore`. Deletes the conversation's messages; forks have copies of their own."""
        found = await self.read_record(conversation_id)
        if found is None or found.revision != expected_revision:
            raise ConversationConflict(conversation_id)
        if not await self.storage.adelete(stored_id(KIND, conversation_id), user_id=ANY_USER):
            raise ConversationConflict(conversation_id)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """See `ConversationStore`. Looks into all conversations if it is in none that was read before."""
        return (await self.read_history(entry_id, limit=1))[-1]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """See `ConversationStore`. Reads back from the end of the log, as far as it must."""
        if head_id is None or limit == 0:
            return []
        place = self._places.get(head_id)
        for stored in [place] if place is not None else await self._log_all():
            found = await aoperate(self.storage, self._log_history, stored, head_id, limit)
            if found is not None:
                return found
        if place is None:
            raise LookupError(f"There is no entry {head_id!r}.")
        self._places.pop(head_id, None)
        return await self.read_history(head_id, limit=limit)

    # ------------------------------------------------------------ reading

    async def _log_all(self) -> list[str]:
        found: list[str] = []
        cursor: str | None = None
        while True:
            page = await self.storage.asessions(kind=KIND, user_id=ANY_USER, cursor=cursor, limit=100)
            found += [one.session_id for one in page]
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def _log_read(self, core: Core, stored: str, conversation_id: str) -> ConversationRecord | None:
        head = (await look(core, stored, user_id=ANY_USER)).head
        if head is None or "record" not in head.state:
            return None
        return await self._log_shown(core, head, conversation_id)

    @reads_stored
    async def _log_shown(self, core: Core, head: Session, conversation_id: str | None) -> ConversationRecord:
        """The record of a session, as it is after what others have added to it.

        It is the record of the conversation whose session it is, whatever it says itself; of a list, if it says so.
        """
        record = _record.validate_python(head.state["record"])
        if conversation_id is not None:
            record = replace(record, conversation_id=conversation_id)
        elif stored_id(KIND, record.conversation_id) != head.session_id:
            raise ValueError("it is another conversation's")
        if _is_foreign(head):
            line = line_of(await _logged(core, head), None)
            if line:
                record = replace(record, head_id=line[-1].id)
            record = replace(record, revision=_revision(head), updated_at=head.updated_at)
        for entry_id in (record.head_id, *record.branches):
            if entry_id is not None:
                self._log_remember(entry_id, head.session_id)
        return record

    def _log_remember(self, entry_id: str, stored: str) -> None:
        self._places[entry_id] = stored
        if len(self._places) > MOST_PLACES:
            self._places.popitem(last=False)

    async def _log_history(
        self, core: Core, stored: str, head_id: str, limit: int | None
    ) -> list[ConversationEntry] | None:
        """The entries up to one; None if the session does not have it."""
        entries: list[Entry] = []
        before: int | None = None
        while True:
            count = 200 if limit is None else min(200, 2 * limit + 4)
            page = await tail(core, stored, count, before=before, user_id=ANY_USER)
            if page is None:
                return None
            entries[:0] = reversed(page.entries)
            before = page.before
            whole = before is None
            if not whole and _is_foreign(page.head):  # ids of others' messages are counted from the beginning
                continue
            line = line_of(logged(entries, page.head, whole=whole), head_id)
            if line and ((limit is not None and len(line) >= limit) or line[0].parent is None):
                return await self._log_made(core, page.head, line if limit is None else line[-limit:])
            if whole:
                return None

    async def _log_made(self, core: Core, head: Session, line: list[Logged]) -> list[ConversationEntry]:
        data = [await with_media(core, head, one.message) for one in line]
        with reading():
            messages = ModelMessagesTypeAdapter.validate_python(data)
        made: list[ConversationEntry] = []
        for one, message in zip(line, messages, strict=True):
            made.append(ConversationEntry(id=one.id, parent_id=one.parent, message=message))
            self._log_remember(one.id, head.session_id)
        return made

    # ------------------------------------------------------------ writing

    async def _log_write(
        self, core: Core, stored: str, record: ConversationRecord, new: list[ConversationEntry], expected: str | None
    ) -> None:
        told: dict[str, Any] = _record.dump_python(record, mode="json")
        user = None if record.scope is None else short(record.scope)
        known = await look(core, stored, newest=4, user_id=ANY_USER)
        if known.head is None and self.storage.settings.require_user and user is None:
            raise ConversationConflict(record.conversation_id)
        whose = user if known.head is None else known.head.user_id
        beside: list[Session] = []

        async def there() -> Session:
            beside.append(known.head or await _begun(core, stored, whose))
            return beside[0]

        async def change(snapshot: Snapshot) -> Draft:
            now = snapshot.head
            if (None if now is None or "record" not in now.state else _revision(now)) != expected:
                raise ConversationConflict(record.conversation_id)
            if any(now is None or now.incarnation != one.incarnation for one in beside):
                raise ConversationConflict(record.conversation_id)  # it was deleted, and the contents with it
            head, first = started_session(
                core, snapshot, stored, user_id=user if now is None else now.user_id, kind=KIND
            )
            parent = new[0].parent_id if new else record.head_id
            entries, copies = await self._log_placed(core, head, parent, record.conversation_id)
            number = 0
            if new or copies:
                entries = [*entries, *self._log_run(core, head, new, [*copies, *messages], len(copies))]
                number = head.run_count + 1
            last = number or (entries[-1].data["run"] if entries else head.tip)
            changed = state_changed(head, {"record": told, "tip": last})
            key = _key(record.head_id) if record.head_id and new else None
            return Draft([*first, *entries, *changed], number, key=key)

        try:
            messages = await keep_media(core, there, _dumped([entry.message for entry in new]))
            committed = await commit(
                core, stored, change, known=known if known.head or not beside else None, user_id=whose
            )
        except SessionNotFoundError:
            raise ConversationConflict(record.conversation_id) from None
        for entry in new:
            self._log_remember(entry.id, committed.head.session_id)

    async def _log_placed(
        self, core: Core, head: Session, parent: str | None, conversation_id: str
    ) -> tuple[list[Entry], list[Any]]:
        """What leads to the entry that comes before: a rewind, and the messages of a run that is left in its middle."""
        with reading():
            before = head.state.get("record", {}).get("head_id")
        if parent == before and not _is_foreign(head):
            return [], []
        if parent is None or not head.tip:
            return (rewound(head, 0), []) if head.tip else ([], [])
        everything = await _logged(core, head)
        line = line_of(everything, parent)
        if not line:
            raise ConversationConflict(conversation_id)
        last = line[-1]
        if last.is_last:
            return rewound(head, last.run), []
        above = next((one.run for one in reversed(line) if one.run != last.run), 0)
        return rewound(head, above), [one.message for one in line if one.run == last.run]

    def _log_run(
        self, core: Core, head: Session, new: list[ConversationEntry], messages: list[Any], copied: int
    ) -> list[Entry]:
        number = head.run_count + 1
        run_id = f"{KIND}/{head.incarnation}/{number}"
        asked, said = words_of(messages)
        usage = _used([entry.message for entry in new])
        _, entries = run_added(head, run_id, input=asked, output=said, messages=messages, format=FORMAT, usage=usage)
        links = [[entry.id, entry.parent_id] for entry in new]
        entries.insert(1, Entry(ENTRIES, {"entries": links, "copied": copied}, run_id, number))
        return entries


async def _begun(core: Core, stored: str, user: UserId) -> Session:
    """The session of a conversation that has no record yet, so that contents may be put beside its log."""

    async def begin(snapshot: Snapshot) -> Draft:
        _, first = started_session(core, snapshot, stored, user_id=user, kind=KIND)
        return Draft(first or [Entry(BEGUN)])

    return (await commit(core, stored, begin, user_id=user)).head


def _is_foreign(head: Session) -> bool:
    """Whether others have added runs to the session, or rewound it, since the record was written."""
    return head.state.get("tip", head.tip) != head.tip


@reads_stored
def _revision(head: Session) -> str:
    stored = head.state["record"]["revision"]
    return f"{stored}@{head.tip}.{head.run_count}" if _is_foreign(head) else stored


def _key(entry_id: str) -> str:
    return f"pydantic-ai:{entry_id}" if is_usable(f"pydantic-ai:{entry_id}") else f"pydantic-ai:~{digest(entry_id)}"


async def _logged(core: Core, head: Session) -> list[Logged]:
    """All entries of a conversation's session."""
    return logged(await all_entries(core, head), head, whole=True)


def _dumped(messages: list[ModelMessage]) -> list[Any]:
    return ModelMessagesTypeAdapter.dump_python(messages, mode="json")


def _used(messages: list[ModelMessage]) -> Usage:
    """What the responses among these messages have used."""
    total = Usage()
    for message in messages:
        if message.kind == "response":
            said = message.usage
            total += Usage(1, said.input_tokens, said.output_tokens, said.cache_read_tokens, said.cache_write_tokens)
    return total
