"""What is stored, as plain data: no I/O, no database, no agent framework.

Inside, times are integer microseconds UTC (fields that end in `_us`), and money is an integer number of nano-dollars
(1e-9 US dollars). Users see aware datetimes, `timedelta` and `Decimal` dollars: beside such a field stands a property.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

from .errors import SessileError
from .money import NANO as NANO
from .times import EPOCH as EPOCH
from .times import MICROSECOND as MICROSECOND
from .times import Duration as Duration
from .times import Timed, datetime_of, timedelta_of
from .times import micros_of as micros_of
from .usage import COUNTS as COUNTS
from .usage import Usage as Usage

JsonObject = dict[str, Any]
"""A JSON object as Python data."""

Status = Literal["running", "paused", "completed", "failed", "cancelled", "interrupted"]
"""What has become of a run. `paused` waits for a decision; `interrupted` means that its process is gone."""

FINISHED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
"""The statuses whose runs histories hold."""

T = TypeVar("T")


class AnyUser(Enum):
    """The type of `ANY_USER`."""

    ANY_USER = "any user"

    def __repr__(self) -> str:
        return "ANY_USER"


ANY_USER = AnyUser.ANY_USER
"""As a `user_id`: whoever's session it is. For administrators, the command line, and jobs; None means "no user"."""

UserId = str | None | AnyUser
"""Whose sessions a call reaches: one user's, those that have no user (None), or all (`ANY_USER`)."""


@dataclass(slots=True)
class Entry:
    """One record inside a commit.

    Attributes:
        kind: what it is (`run.started`, `message`, `run.ended`, `state.patched`, …); unknown kinds stay as they are.
        data: its content, JSON.
        run_id: the run that it belongs to, or None.
        run: the number of the top-level run that it belongs to, or None.
        parent_run_id: for entries of member and nested runs, the run above.
        agent: the name of the agent, team or workflow that wrote it.
        format: the format of `data` where it is not our own (`pydantic-ai/2`, `openai`, …).
        seq: the commit that it is in; 0 before it is written.
        time_us: when that commit was made; `time` as a datetime.
        more: what else stands beside the data, which only later versions understand; it is kept.
    """

    kind: str
    data: Any = None
    run_id: str | None = None
    run: int | None = None
    parent_run_id: str | None = None
    agent: str | None = None
    format: str | None = None
    seq: int = 0
    time_us: int = 0
    more: JsonObject | None = None

    @property
    def time(self) -> datetime:
        """When the commit that it is in was made."""
        return datetime_of(self.time_us)


@dataclass(slots=True)
class OpenRun:
    """A top-level run that has not finished, as the head knows it.

    Attributes:
        run_id: its id.
        status: `running`, `paused`, `interrupted`, or `failed` (of a workflow, which can be resumed).
        epoch: raised by one whenever a process takes the run; a writer with a lower one has lost it.
        until_us: when its lease ends, as far as the log knows (renewals stand in the lease record).
        scope_ids: changes of the state of user or application that may not be written there yet; see `storage.scope`.
        more: what else a later version has written about it; it is kept.
    """

    run_id: str
    status: Status = "running"
    epoch: int = 1
    until_us: int = 0
    more: tuple[Any, ...] = ()


@dataclass(slots=True)
class Session:
    """A session: the current summary of its log, a pure fold of its commits, and the runs that were loaded with it.

    Attributes:
        session_id: the caller's id.
        incarnation: random; a session that is deleted and made again is another one.
        kind: `agent`, `team`, `workflow`, or what the caller says.
        agent: the name of the agent, team or workflow that made it.
        user_id: whose session it is, or None.
        name: a title for people, or None.
        revision: `seq` of the last commit.
        run_count: how many top-level runs were ever started, on all branches.
        status: `running` while the newest run is in progress; else `paused` if a run of the current branch waits for a
            decision (`waiting`), whatever followed it; else the newest run's. None before the first.
        last_status: the newest run's own status.
        usage: the sum over all runs, members' included, on all branches.
        state: the session's state, a JSON object. Lists bring it only if they are asked for it (`with_state=True`);
            else looking into it is an `InvalidInputError`.
        metadata: what the application keeps beside the session and filters lists by.
        created_us, updated_us: times of the first and the last commit; `created_at`, `updated_at` as datetimes.
        ttl_us: how long after the last commit the session expires, or None; `ttl` as a `timedelta`.
        expires_us: when that is, or None; `expires_at` as a datetime.
        forked_from: `{"session_id": …, "run": …}` of a fork, or None.
        tip: number of the last run of the current branch; 0 if the branch is empty.
        segments: the tree of branches: `(parent, first)` says that the runs from `first` up to the next
            segment follow run `parent`.
        open_runs: the runs that have not finished, by number.
        summary: `{"upto": run number, "text": …}`, the rolling summary of the older runs, or None.
        hidden: None, `"building"` (a fork in the making), `"cache"` (a step's result), `"scope"` or `"deleted"`.
        trimmed: the number of the last run whose contents were removed from the beginning of the session; 0: none.
        hold: why the session must not be deleted, nor anything in it; None: it may.
        handoffs: the newest handoffs between members of teams, on all branches, oldest first:
            `(run, team, from, to)`; see `lead_of`.
        more: what else a later version has stored in the head; it is kept.
        runs: the runs that were asked for, oldest first; those that cannot be read are named beside them.
    """

    session_id: str
    incarnation: str
    kind: str = "agent"
    agent: str | None = None
    user_id: str | None = None
    name: str | None = None
    revision: int = 0
    run_count: int = 0
    status: Status | None = None
    usage: Usage = field(default_factory=Usage)
    state: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    created_us: int = 0
    updated_us: int = 0
    ttl_us: int | None = None
    expires_us: int | None = None
    forked_from: JsonObject | None = None
    tip: int = 0
    segments: list[tuple[int, int]] = field(default_factory=list)
    open_runs: dict[int, OpenRun] = field(default_factory=dict)
    summary: JsonObject | None = None
    hidden: Literal["building", "cache", "scope", "deleted"] | None = None
    last_status: Status | None = None
    trimmed: int = 0
    hold: str | None = None
    scope_ids: list[str] = field(default_factory=list)
    handoffs: list[tuple[int, str, str, str]] = field(default_factory=list)
    more: JsonObject | None = field(default=None, compare=False)
    runs: PartialList[Run] = field(default_factory=lambda: PartialList["Run"](), compare=False)

    @property
    def created_at(self) -> datetime:
        """When the session was made."""
        return datetime_of(self.created_us)

    @property
    def updated_at(self) -> datetime:
        """When it last changed."""
        return datetime_of(self.updated_us)

    @property
    def ttl(self) -> timedelta | None:
        """How long after its last change it expires; None: never."""
        return None if self.ttl_us is None else timedelta_of(self.ttl_us)

    @property
    def expires_at(self) -> datetime | None:
        """When it expires if nothing changes; None: never."""
        return None if self.expires_us is None else datetime_of(self.expires_us)

    @property
    def waiting(self) -> list[int]:
        """The numbers of the runs of the current branch that wait for a decision or an event, oldest first."""
        if not self.open_runs:
            return []
        paused = sorted(number for number, run in self.open_runs.items() if run.status == "paused")
        return [number for number in paused if self.on_path(number)] if paused else []

    @property
    def messages(self) -> list[Message]:
        """The messages of the runs that were loaded, flat, in order."""
        return [message for run in self.runs for message in run.messages]

    def path(self, upto: int | None = None) -> list[tuple[int, int]]:
        """The run ranges `(first, last)` of the branch that ends at run `upto` (default: the current one)."""
        ranges: list[tuple[int, int]] = []
        run = self.tip if upto is None else upto
        for parent, first in reversed(self.segments):
            if first <= run:
                ranges.append((first, run))
                run = parent
        ranges.reverse()
        if self.trimmed:
            ranges = [(max(first, self.trimmed + 1), last) for first, last in ranges if last > self.trimmed]
        return ranges

    def on_path(self, run: int) -> bool:
        """Whether a run lies on the current branch."""
        return run > self.trimmed and self._on_branch(run)

    def _on_branch(self, run: int) -> bool:
        """Whether a run lies on the current branch, or did before it was trimmed."""
        last = self.tip
        for parent, first in reversed(self.segments):
            if first <= run <= last:
                return True
            if first <= last:
                last = parent
        return False

    @property
    def lead(self) -> str | None:
        """The member of the session's team that answers: the one to whom was handed over last; None: nobody was."""
        return self.lead_of("")

    def lead_of(self, team: str) -> str | None:
        """As `lead`, of a team within the session's: its name, below those of the teams around it (`desk/billing`).

        What counts are the handoffs of the current branch. One whose member did not lead any more, because a run
        beside it had handed over before, was for its own run alone.
        """
        lead: str | None = None
        for run, where, was, to in self.handoffs:
            if where == team and (lead is None or lead == was) and self._on_branch(run):
                lead = to
        return lead

    def last_on_path(self, count: int, *, below: int | None = None) -> list[int]:
        """The numbers of the last `count` runs of the current branch (that are less than `below`), ascending."""
        numbers: list[int] = []
        last, trimmed = self.tip, self.trimmed
        for parent, first in reversed(self.segments):
            if first <= last:
                top = last if below is None else min(last, below - 1)
                numbers.extend(range(top, max(first, trimmed + 1, top - (count - len(numbers)) + 1) - 1, -1))
                if len(numbers) >= count:
                    break
                last = parent
        numbers.reverse()
        return numbers

    def branches(self) -> list[Branch]:
        """All branches of the session, oldest tip first; the current one is marked."""
        parents = {parent for parent, _ in self.segments}
        lasts = [first - 1 for _, first in self.segments[1:]] + [self.run_count]
        tips = {last for last in lasts if last and last not in parents} | {self.tip}
        return [
            Branch(tip=tip, runs=sum(last - first + 1 for first, last in self.path(tip)), current=tip == self.tip)
            for tip in sorted(tips)
        ]


@dataclass(slots=True, frozen=True)
class Handoff:
    """What comes of a member's run that has handed the conversation over.

    Attributes:
        to: the name of the member that answers from then on.
        reason: why, in the words of the one who has handed over; it may be empty.
    """

    to: str
    reason: str = ""


@dataclass(slots=True, frozen=True)
class Branch:
    """One branch of a session: the number of its last run, how many runs it holds, whether it is the current one."""

    tip: int
    runs: int
    current: bool


@dataclass(slots=True)
class Message:
    """One model request or response inside a run, tool calls and tool results included.

    `data` is the message in the format that `format` names, media replaced by references
    (`{"$blob": hash}`) where they were kept apart.
    """

    data: JsonObject
    format: str | None
    run: int
    run_id: str | None
    agent: str | None
    seq: int
    time_us: int

    @property
    def time(self) -> datetime:
        """When it was stored."""
        return datetime_of(self.time_us)


@dataclass(slots=True, frozen=True)
class Rating:
    """What somebody has said about a run.

    Attributes:
        source: whose scale it is: `user`, `reviewer`, the name of an evaluator.
        score: a number of that scale, or None.
        label: a category, or None.
        comment: words, or None.
        by: who has said it, or None.
        seq: the commit that it is in.
        time_us: when that was made; `time` as a datetime.
        correction: what should have come out, JSON, or None.
    """

    source: str = "user"
    score: float | None = None
    label: str | None = None
    comment: str | None = None
    by: str | None = None
    seq: int = 0
    time_us: int = 0
    correction: Any = None

    @property
    def time(self) -> datetime:
        """When it was said."""
        return datetime_of(self.time_us)


@dataclass(slots=True)
class Run(Timed):
    """One request and all that answers it.

    Attributes:
        number: 1, 2, 3 … in its session; a member's run has the number of the top-level run above it.
        run_id, parent_run_id: its id, and that of the run above a member's or nested run.
        status: see `Status`.
        input, output: what was asked and what came out, JSON.
        error: `{"type": …, "message": …}` of a failed run.
        usage: what it used, with all runs below it; `own_usage` is without them.
        pending: what a paused run waits for.
        messages: its own messages, in order; never the history that was sent along.
        children: member and nested runs, in the order of their start.
        steps: entries of other kinds (tool calls, workflow steps), in order.
        started_us, ended_us: times; `ended_us` is None while it is open; `started_at`, `ended_at` as datetimes.
        key: of a member's or nested run: what in the run above it is answered by it (a tool call's id, for example).
        given: what an agent's run was given beside its input, as far as it holds when the run is resumed.
        ratings: what was said about it, oldest first; of each source the newest counts (`rating`).
        epoch: 1, and one more for each process that has taken it over.
        counted_there: of a run below another one: it has worked in a session of its own in the same database, whose
            runs have it as well; a sum over all sessions takes what it has used from there.
        first_token_us: how long after it began the first part of its first model response came, microseconds; None
            where responses are not streamed; `first_token` as a `timedelta`.
        answers: of a member's run: it answers the user in the place of its team (`mode="handoff"`).
        handoff: to whom and why a member has handed over, instead of an output; else None.
    """

    number: int
    run_id: str
    status: Status
    input: Any = None
    output: Any = None
    error: JsonObject | None = None
    usage: Usage = field(default_factory=Usage)
    agent: str | None = None
    parent_run_id: str | None = None
    pending: Any = None
    durability: str = "run"
    messages: list[Message] = field(default_factory=list)
    children: list[Run] = field(default_factory=list)
    steps: list[Entry] = field(default_factory=list)
    started_us: int = 0
    ended_us: int | None = None
    metadata: JsonObject = field(default_factory=dict)
    key: str | None = None
    given: JsonObject = field(default_factory=dict)
    ratings: list[Rating] = field(default_factory=list)
    epoch: int = 1
    counted_there: bool = False
    first_token_us: int | None = None
    answers: bool = False
    handoff: Handoff | None = None

    @property
    def answered_by(self) -> str | None:
        """The member that has answered in the place of its team, or was to: the last one to whom was handed over."""
        return next((child.agent for child in reversed(self.children) if child.answers), None)

    @property
    def first_token(self) -> timedelta | None:
        """How long after it began the first part of an answer came; None where responses are not streamed."""
        return None if self.first_token_us is None else timedelta_of(self.first_token_us)

    def rating(self, source: str = "user") -> Rating | None:
        """The rating that counts of a source: the newest one."""
        return next((one for one in reversed(self.ratings) if one.source == source), None)

    @property
    def examples(self) -> list[JsonObject]:
        """The runs that the model was shown as examples: `session_id`, `run` (number) and `run_id` of each."""
        return list(self.given.get("examples") or [])

    @property
    def own_usage(self) -> Usage:
        """What it used itself, without the runs below it."""
        return self.usage - sum((child.usage for child in self.children), Usage())


class PartialList(list[T]):
    """A list that names what belongs in it and cannot be read, damaged or written by a newer version, and why.

    Attributes:
        unreadable: by the number of the run, or, where the list is of entries of the log, of the commit.
    """

    __slots__ = ("unreadable",)

    def __init__(self, items: Iterable[T] = (), unreadable: Mapping[int, SessileError] | None = None) -> None:
        if items:
            super().__init__(items)
        self.unreadable: dict[int, SessileError] = dict(unreadable) if unreadable else {}


@dataclass(slots=True)
class Page(Generic[T]):
    """One page of a list, newest first; pass `next_cursor` as `cursor=` for the next, None at the end.

    `unreadable` names what belongs on the page and cannot be shown, and why.
    """

    items: list[T]
    next_cursor: str | None = None
    unreadable: dict[str, SessileError] = field(default_factory=dict)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(slots=True)
class Waiting:
    """A run that waits for somebody.

    Attributes:
        session: the session as it is now.
        run: the number of the run, by which it is resumed.
        run_id: its id.
        agent: the agent, team or workflow whose run it is.
        since_us: since when it waits, microseconds UTC; `since` as a datetime.
        asked: what is asked, one object each: `{"kind": "approval", "tool_name": …, "tool_call_id": …, "args": …}` for
            a call that needs approval, `call` for one that is executed elsewhere, `unsure` for one that may have
            happened before an interruption, and `{"kind": "event", "name": …}` for an event of a workflow. A `form` has
            a `question`, the JSON `schema` of what is filled in, and the `problem` with what was filled in last, if
            there was one; an event that is to fill a form has these, too. Of a `review` the `args` are
            `{"output": …}`, what the run answers if somebody accepts it, and its `schema`.
        pending: the same as it is stored: `Run.pending`.
        decided: what was decided already (`storage.decide`), and takes effect when the run is resumed: by tool call id
            true, false, a call's result, or how it was approved or denied.
        epoch: which pause of the run this is: decisions that name it are about this question and no later one.
    """

    session: Session
    run: int
    run_id: str
    agent: str | None
    since_us: int
    asked: list[JsonObject]
    pending: JsonObject
    decided: JsonObject = field(default_factory=dict)
    epoch: int = 1

    @property
    def is_decided(self) -> bool:
        """Whether all calls that it waits for are decided about, so that `resume` continues with it."""
        calls = [one["tool_call_id"] for one in self.asked if one["kind"] != "event"]
        return len(calls) == len(self.asked) and all(call in self.decided for call in calls)

    @property
    def since(self) -> datetime:
        """Since when it waits."""
        return datetime_of(self.since_us)


@dataclass(slots=True)
class ChangedPage(Page[Session]):
    """One page of the sessions that have changed since a moment, oldest change first.

    Attributes:
        complete_until_us: up to when this round is complete; `complete_until` as a datetime.
    """

    complete_until_us: int = 0

    @property
    def complete_until(self) -> datetime:
        """When the last page has been read, all that has changed before this moment has been in these pages.

        The next round begins with it as `since`, and meets a few changes again. Take that of the first page of a round.
        """
        return datetime_of(self.complete_until_us)
