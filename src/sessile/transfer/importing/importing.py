"""Taking over what other libraries have stored: read as conversations, put into a storage as sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Literal, get_args

from ...errors import AlreadyExistsError, ConflictError, SessileError, StorageError
from ...records import Run, Session
from ...storage import Storage
from ...storage.absence import as_row
from ...storage.checks import check_choice
from ...storage.core import Core
from ...storage.driver import Span
from ...storage.ids import check_id, check_optional_id, check_session_id
from ...storage.repeating import run_key
from ...storage.runs import read_run
from ...storage.storage import operate
from .. import placing
from .building import Built, built, commit_id_of, extended_id_of, extended_key, grown, incarnation_of
from .conversations import Conversation, Conversations, Skip

Library = Literal["agno", "openai-agents", "google-adk", "langgraph", "pydantic-ai", "openai", "chatgpt", "claude"]
"""Whose files are read."""

LIBRARIES: tuple[Library, ...] = get_args(Library)


@dataclass(slots=True)
class Imported:
    """What was taken over.

    Attributes:
        sessions, runs, messages: how many sessions were made or have grown, and what they have.
        unchanged: how many sessions stood here already with all that the source has.
        skipped: what was left out, and why: by where it stands in the source.
    """

    sessions: int = 0
    runs: int = 0
    messages: int = 0
    unchanged: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


ATTEMPTS = 20
"""How often writing a session is tried that others write at the same time: each time somebody has come further."""

Progress = Callable[[Imported], None]
"""Is told what was taken over so far, after each conversation."""


def import_conversations(
    source: str,
    storage: Storage,
    *,
    library: Library,
    user_id: str | None = None,
    agent: str | None = None,
    prefix: str = "",
    zone: str | None = None,
    key: str | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Take over the conversations that another library has stored, as sessions that agents continue.

    The source is only read. Each session is written whole or not at all, with the times that its turns had, and is in
    no list before. A second import changes nothing; one of a source that has grown adds what has come since. A session
    that was continued here, and in the source, too, is left alone and named in `skipped`; so is what cannot be read or
    understood, and all else is taken over. After a crash call it again.

    Args:
        source: the path of a file or folder, or a URL of SQLAlchemy's.
        storage: where the sessions come.
        library: whose files these are.
        user_id: whose sessions they become where the source does not say.
        agent: the name of the agent that they become sessions of, where the source does not say.
        prefix: what the ids of sessions begin with here, before those that they had.
        zone: the time zone (`Europe/Berlin`) of times that the source has without one. Default: UTC.
        key: the key that the source is encrypted with, of the OpenAI Agents SDK's `EncryptedSession`.
        progress: is called after each conversation.

    Raises:
        InvalidInputError: an argument is wrong, or the source is none of that library's.
        CorruptDataError: the source cannot be read at all.
        StorageError: this database failed; call it again.
    """
    check_choice(library, "library", LIBRARIES)
    check_optional_id(user_id, "user_id")
    check_optional_id(agent, "agent")
    done = Imported()

    def skip(where: str, why: str) -> None:
        done.skipped.append((where, why))

    for said in _read(library, source, skip, zone, key):
        owned = replace(
            said,
            session_id=f"{prefix}{said.session_id}",
            user_id=said.user_id or user_id,
            agent=said.agent or agent,
        )
        _take(storage, library, owned, done)
        if progress is not None:
            progress(done)
    return done


def _read(library: Library, source: str, skip: Skip, zone: str | None, key: str | None) -> Conversations:
    """The conversations of a source; what only one library needs is imported here."""
    if library in ("openai", "pydantic-ai", "chatgpt", "claude"):
        return getattr(import_module(".chats", __package__), library.replace("-", "_"))(source, skip)
    reader = import_module(f".{library.replace('-', '_')}", __package__).conversations
    more = {"openai-agents": (key,), "google-adk": (zone,)}.get(library, ())
    return reader(source, skip, *more)


def _take(storage: Storage, library: Library, said: Conversation, done: Imported) -> None:
    """Put one conversation into the storage. What is wrong with it alone is noted, and stops no others."""
    try:
        _check(said)
        written = operate(storage, _put, library, said)
    except SessileError as error:
        if isinstance(error, StorageError) and error.retryable:
            raise  # the database, and not the conversation
        done.skipped.append((said.source, error.message))
        return
    if written is None:
        done.unchanged += 1
    else:
        done.sessions += 1
        done.runs += sum(row.run > 0 for row in written.rows)
        done.messages += written.messages


def _check(said: Conversation) -> None:
    check_session_id(said.session_id)
    check_id(said.kind, "kind")
    for value, what in ((said.user_id, "user_id"), (said.agent, "agent"), (said.name, "name")):
        check_optional_id(value, what)
    for turn in said.turns:
        check_id(turn.run_id, "run_id")
        check_optional_id(turn.agent, "agent")


async def _put(core: Core, library: Library, said: Conversation) -> Built | None:
    """Write what is not there yet, and return it; None if all of it is.

    Of several imports at once each goes on where another one has got to.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return await _put_once(core, library, said)
        except AlreadyExistsError as error:
            if not error.retryable:
                raise
    return await _put_once(core, library, said)


async def _put_once(core: Core, library: Library, said: Conversation) -> Built | None:
    deadline = core.deadline()
    await core.prepare(deadline)
    await core.set_clock(deadline)
    now, incarnation = core.clock.now(), incarnation_of(library, said)
    standing = await placing.make_room(core, said.session_id, incarnation)
    if standing is None or standing.hidden == "building":
        return await _put_new(core, library, said, standing, now)
    known, last = await _known(core, said, standing)
    if known == len(said.turns) and last is None:
        return None
    if known != standing.run_count or (said.turns and standing.run_count > len(said.turns)):
        raise AlreadyExistsError(
            f"Session {said.session_id!r} was continued here, and has grown in the source, too.",
            hint="Import into a storage of its own, or with a prefix.",
        )
    more = grown(library, said, standing, core.settings, now, last)
    await placing.append(core, standing, more.rows, more.head)
    return more


async def _put_new(core: Core, library: Library, said: Conversation, begun: Session | None, now: int) -> Built:
    """Write a session, or the rest of one whose import was broken off.

    What is there must be its beginning: if the source has changed since then, it is begun anew.
    """
    if begun is not None:
        session = built(library, said, core.settings, begun.created_us)
        there = await core.all_rows(begun, Span(last=begun.revision), core.deadline())
        if there == session.rows[: begun.revision] and begun.revision < len(session.rows):
            await placing.append(core, begun, session.rows[begun.revision :], session.head)
            return session
        if not await core.bury(as_row(begun), core.deadline()):
            raise placing.being_put(said.session_id)
        await core.remove(begun.session_id, begun.incarnation, core.deadline())
    session = built(library, said, core.settings, now)
    await placing.append(core, None, session.rows, session.head)
    return session


async def _known(core: Core, said: Conversation, standing: Session) -> tuple[int, Run | None]:
    """How many turns are there; and the newest of these runs, if its turn is another one now."""
    for place in range(len(said.turns) - 1, -1, -1):
        turn = said.turns[place]
        found = await core.find(standing, run_key(turn.run_id), core.deadline(), limit=1)
        if not found:
            continue
        if found[0].commit_id == commit_id_of(standing.incarnation, turn):
            return place + 1, None
        extended = await core.find(standing, extended_key(turn.run_id), core.deadline())
        if extended_id_of(standing.incarnation, turn) in [row.commit_id for row in extended]:
            return place + 1, None
        if place < standing.trimmed:
            raise ConflictError(f"Run {place + 1} has changed in the source, and was removed here.")
        snapshot = await core.look(said.session_id, core.deadline(), newest=1)
        return place + 1, await read_run(core, snapshot, place + 1, core.deadline())
    return 0, None
