"""Conversations as the commits of sessions, made as they would have been made when it was.

Nothing in them is by chance: the same turn gives the same commit. So a second import finds it there, and one of a
source that has grown adds what has come since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ...errors import ConflictError, TooLargeError
from ...records import Entry, Run, Session, Usage
from ...storage.checks import ttl_micros
from ...storage.drafting import rewound, state_changed
from ...storage.driver import CommitRow
from ...storage.encoding import encode, encode_commit, encode_head, plain_json
from ...storage.fold import fold
from ...storage.redacting import redact_entries
from ...storage.repeating import key_of, run_key
from ...storage.settings import Settings
from ...storage.vocabulary import MessageAdded, RunAmended, RunEnded, RunStarted, SessionCreated
from .conversations import Conversation, Turn

MARK = "imported"
"""The key in a session's metadata that says where it comes from: `{"from": …, "id": …}`."""

COUNTED = 2**53
"""Counts from elsewhere are at most that: more is a mistake."""


class Built(NamedTuple):
    """What is to be written: the head that there is then, the commits, and how many messages these have."""

    head: Session
    rows: list[CommitRow]
    messages: int


def incarnation_of(source: str, said: Conversation) -> str:
    """What tells the session of a conversation from any other of its id."""
    return _hash(source, said.source, said.session_id)[:16]


def commit_id_of(incarnation: str, turn: Turn) -> str:
    """The id of the commit of a turn: another one if anything in the turn has changed."""
    return _hash(incarnation, [_content(entry) for entry in _entries(turn, 0)])[:32]


def extended_id_of(incarnation: str, turn: Turn) -> str:
    """The id of the commit by which a run became that turn that had been another one before."""
    return _hash(incarnation, "extended", commit_id_of(incarnation, turn))[:32]


def built(source: str, said: Conversation, settings: Settings, now: int) -> Built:
    """The session of a conversation. Raises `SessileError` if it is none, or over a limit of the storage.

    `now` is for times that nobody knows.
    """
    build = _Building(said, settings, now, incarnation_of(source, said))
    created = SessionCreated(
        session_id=said.session_id,
        kind=said.kind,
        agent=said.agent,
        user_id=said.user_id,
        name=said.name,
        state=plain_json(said.state, "state"),
        metadata=plain_json({**said.metadata, MARK: {"from": source, "id": said.source}}, "metadata"),
        ttl=ttl_micros(None),
        forked_from=None,
        hidden=None,
        incarnation=build.incarnation,
    )
    build.commit([created.entry()], said.created_us, _hash(build.incarnation))
    return build.with_turns(0)


def grown(
    source: str, said: Conversation, standing: Session, settings: Settings, now: int, last: Run | None = None
) -> Built:
    """What of a conversation is missing in its session, which has as many runs as it had turns before.

    `last` is the newest of these runs where its turn has changed: it is extended first. Raises `ConflictError` if the
    turn is not that run with more behind it.
    """
    build = _Building(said, settings, now, incarnation_of(source, said), standing)
    if last is not None:
        build.extend(said.turns[last.number - 1], last)
    return build.with_turns(standing.run_count)


class _Building:
    """The commits so far."""

    def __init__(
        self, said: Conversation, settings: Settings, now: int, incarnation: str, head: Session | None = None
    ) -> None:
        self._said, self._settings, self._now = said, settings, now
        self._head = head
        self._moment = 0 if head is None else head.updated_us
        self._rows: list[CommitRow] = []
        self._messages = 0
        self.incarnation = incarnation

    @property
    def head(self) -> Session:
        """The head after what was committed so far."""
        assert self._head is not None, "the first commit makes the session"
        return self._head

    def with_turns(self, known: int) -> Built:
        """Add the turns behind those that are known, each of which is the run of its place."""
        said = self._said
        for place, turn in enumerate(said.turns[known:], known):
            entries: list[Entry] = []
            if turn.after is not None:
                entries += rewound(self.head, turn.after + 1)
            entries += _entries(turn, place + 1)
            if known and place == len(said.turns) - 1:  # a new session begins with its state
                entries += self._state()
            moment = turn.ended_us or turn.started_us
            key, commit_id = run_key(turn.run_id), commit_id_of(self.incarnation, turn)
            self.commit(entries, moment, commit_id, place + 1, key)
        if said.end is not None and (back := rewound(self.head, said.end + 1)):
            self.commit(back, 0, _hash(self.incarnation, "end", len(said.turns)))
        settings = self._settings
        encode_head(self.head, max_state=settings.max_state_bytes, max_metadata=settings.max_metadata_bytes)
        return Built(self.head, self._rows, self._messages)

    def extend(self, turn: Turn, run: Run) -> None:
        """Add a commit by which a run becomes the turn that it is the beginning of."""
        whole = self._redacted(list(_entries(turn, run.number)))
        entries = _missing(whole, run)
        if run.number == len(self._said.turns):
            entries += self._redacted(self._state())
        commit_id, key = extended_id_of(self.incarnation, turn), extended_key(turn.run_id)
        self._add(entries, turn.ended_us or turn.started_us, commit_id, run.number, key)

    def _state(self) -> list[Entry]:
        """The entry by which the session gets its state; none if that is its state."""
        state = self._said.state or {}
        return state_changed(self.head, state, [name for name in self.head.state if name not in state])

    def _redacted(self, entries: list[Entry]) -> list[Entry]:
        if self._settings.redact is not None:
            redact_entries(self._settings.redact, entries)
        return entries

    def commit(self, entries: list[Entry], moment: int, commit_id: str, run: int = 0, key: str | None = None) -> None:
        """Add a commit that was made at that moment, or when the one before was."""
        self._add(self._redacted(entries), moment, commit_id, run, key)

    def _add(self, entries: list[Entry], moment: int, commit_id: str, run: int, key: str | None) -> None:
        self._moment = max(self._moment, moment) or self._now
        body = encode_commit(entries)
        if len(body) > self._settings.max_commit_bytes:
            what = f"Run {run}" if run else "The beginning"
            raise TooLargeError(
                f"{what} has {len(body):,} bytes of JSON; this storage takes {self._settings.max_commit_bytes:,}.",
                hint="Open it with a larger max_commit_bytes.",
            )
        seq = 1 if self._head is None else self._head.revision + 1
        self._rows.append(CommitRow(seq, commit_id[:32], run, self._moment, body, key))
        self._head = fold(self._head, seq, self._moment, entries)
        self._messages += sum(entry.kind == MessageAdded.KIND for entry in entries)


def extended_key(run_id: str) -> str:
    """The key of the commits by which a run was extended."""
    return key_of("imported", run_id)


def _missing(whole: Sequence[Entry], run: Run) -> list[Entry]:
    """What of a turn's entries a run lacks that is the beginning of it."""
    said: dict[str | None, list[Entry]] = {}
    for entry in whole:
        said.setdefault(entry.run_id, []).append(entry)
    own = said[run.run_id]
    more = _behind(own, run)
    there = {child.run_id: child for child in run.children}
    for run_id, entries in said.items():
        if run_id in there and (_behind(entries, there[run_id]) or _outcome(entries[-1], there[run_id])):
            raise _changed(run)
    if not there.keys() <= said.keys():
        raise _changed(run)
    outcome = _outcome(own[-1], run) or RunAmended()
    below = [entry for entry in whole if entry.run_id != run.run_id and entry.run_id not in there]
    return [outcome.entry(run.run_id, run.number, None, run.agent), *more, *below]


def _behind(entries: Sequence[Entry], run: Run) -> list[Entry]:
    """The messages behind those that the run has, which must be the same, as must be what was asked."""
    messages = [entry for entry in entries if entry.kind == MessageAdded.KIND]
    asked = RunStarted.of(entries[0].data)
    same = asked.input == run.input and (asked.metadata or {}) == run.metadata
    if not same or [one.data for one in messages[: len(run.messages)]] != [one.data for one in run.messages]:
        raise _changed(run)
    return messages[len(run.messages) :]


def _outcome(entry: Entry, run: Run) -> RunAmended | None:
    """What has come of a run otherwise than it says; None: nothing."""
    ended = RunEnded.of(entry.data)
    used = Usage.from_json(ended.usage or {})
    if (ended.status, ended.output, ended.error, used) == (run.status, run.output, run.error, run.own_usage):
        return None
    usage = (used - run.own_usage).to_json() or None
    return RunAmended(status=ended.status, output=ended.output, error=ended.error, usage=usage)


def _changed(run: Run) -> ConflictError:
    return ConflictError(f"Run {run.number} has changed in the source, or here, since it was imported.")


def _hash(*parts: Any) -> str:
    return hashlib.sha256(encode(list(parts)).encode("utf-8", "surrogatepass")).hexdigest()


def _content(entry: Entry) -> list[Any]:
    """What of an entry is the source's. Costs are not: lists of prices change."""
    data = entry.data
    if entry.kind == RunEnded.KIND and (used := RunEnded.of(data).usage):
        data = {**data, "usage": {name: value for name, value in used.items() if name not in ("cost", "unpriced")}}
    return [entry.kind, entry.run_id, entry.parent_run_id, entry.agent, entry.format, data]


def _entries(turn: Turn, number: int, parent: str | None = None) -> Iterator[Entry]:
    """A run from its start to its end, with those below it between."""
    common: dict[str, Any] = {"run_id": turn.run_id, "run": number, "agent": turn.agent, "parent_run_id": parent}
    began, over = turn.started_us or turn.ended_us or None, turn.ended_us or turn.started_us or None
    asked = plain_json(turn.input, "input")
    yield RunStarted(input=asked, metadata=turn.metadata or None, started_at=began).entry(**common)
    for message in turn.messages:
        yield MessageAdded(plain_json(message, "a message")).entry(**common, format=turn.format)
    for below in turn.below:
        yield from _entries(below, number, turn.run_id)
    usage = None if turn.usage is None else turn.usage.to_json() or None
    came_out = plain_json(turn.output, "output")
    ended = RunEnded(status=turn.status, output=came_out, error=turn.error, usage=usage, ended_at=over)
    yield ended.entry(**common)


def count(value: Any) -> int:
    """A count of another library's as one of ours: lists are added up, what is none is 0."""
    if isinstance(value, list):
        return sum(count(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= COUNTED:
        return 0
    return int(value)
