"""What is stored, as plain data: no I/O, no database, no agent framework.

Times are integer microseconds UTC. Cost is an integer number of nano-dollars (1e-9 US dollars).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from .errors import SessileError

JsonObject = dict[str, Any]
"""A JSON object as Python data."""

Status = Literal["running", "paused", "completed", "failed", "cancelled", "interrupted"]
"""What has become of a run. `paused` waits for a decision; `interrupted` means that its process is gone."""

FINISHED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
"""The statuses whose runs histories hold."""

MICROSECOND = 1_000_000
"""Microseconds in a second."""

T = TypeVar("T")


@dataclass(slots=True)
class Usage:
    """What runs have used: counts of requests, tokens and tool calls, and cost in nano-dollars."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    tool_calls: int = 0
    cost: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.tool_calls + other.tool_calls,
            self.cost + other.cost,
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.requests - other.requests,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.cache_read_tokens - other.cache_read_tokens,
            self.cache_write_tokens - other.cache_write_tokens,
            self.tool_calls - other.tool_calls,
            self.cost - other.cost,
        )

    def to_json(self) -> dict[str, int]:
        """The counts that are not zero."""
        counts = (
            ("requests", self.requests),
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
            ("cache_read_tokens", self.cache_read_tokens),
            ("cache_write_tokens", self.cache_write_tokens),
            ("tool_calls", self.tool_calls),
            ("cost", self.cost),
        )
        return {name: count for name, count in counts if count}

    @classmethod
    def from_json(cls, data: JsonObject) -> Usage:
        """The inverse of `to_json`; counts of later versions are left out."""
        return cls(
            data.get("requests", 0),
            data.get("input_tokens", 0),
            data.get("output_tokens", 0),
            data.get("cache_read_tokens", 0),
            data.get("cache_write_tokens", 0),
            data.get("tool_calls", 0),
            data.get("cost", 0),
        )


@dataclass(slots=True)
class Entry:
    """One record inside a commit.

    Attributes:
        kind: what it is (`run.started`, `message`, `run.ended`, `state.patched`, …); unknown kinds stay as they are.
        data: its content, JSON.
        run_id: the run that it belongs to, or None.
        run: the number of the top-level run that it belongs to, or None.
        parent_run_id: for entries of member and nested runs, the run above.
        owner: the name of the agent, team or workflow that wrote it.
        format: the format of `data` where it is not our own (`pydantic-ai/2`, `openai`, …).
        seq: the commit that it is in; 0 before it is written.
        time: when that commit was made.
    """

    kind: str
    data: Any = None
    run_id: str | None = None
    run: int | None = None
    parent_run_id: str | None = None
    owner: str | None = None
    format: str | None = None
    seq: int = 0
    time: int = 0


@dataclass(slots=True)
class OpenRun:
    """A top-level run that has not finished, as the head knows it.

    Attributes:
        run_id: its id.
        status: `running`, `paused`, `interrupted`, or `failed` (of a workflow, which can be resumed).
        epoch: raised by one whenever a process takes the run; a writer with a lower one has lost it.
        until: its lease, as far as the log knows (renewals stand in the lease record).
    """

    run_id: str
    status: Status = "running"
    epoch: int = 1
    until: int = 0


@dataclass(slots=True)
class Head:
    """The current summary of a session: a pure fold of its commits.

    Attributes:
        session_id: the caller's id.
        incarnation: random; a session that is deleted and made again is another one.
        kind: `agent`, `team`, `workflow`, or what the caller says.
        owner: the name of the agent, team or workflow that made it.
        user_id: whose session it is, or None.
        name: a title for people, or None.
        revision: `seq` of the last commit.
        run_count: how many top-level runs were ever started, on all branches.
        status: the status of the newest run, None before the first.
        usage: the sum over all runs, members' included, on all branches.
        state: the session's state, a JSON object.
        metadata: what the application keeps beside the session and filters lists by.
        created_at, updated_at: times of the first and the last commit.
        ttl: microseconds after `updated_at` at which the session expires, or None.
        expires_at: `updated_at + ttl`, or None.
        forked_from: `{"session_id": …, "run": …}` of a fork, or None.
        tip: number of the last run of the current branch; 0 if the branch is empty.
        segments: the tree of branches: `(parent, first)` says that the runs from `first` up to the next
            segment follow run `parent`.
        open_runs: the runs that have not finished, by number.
        summary: `{"upto": run number, "text": …}`, the rolling summary of the older runs, or None.
        hidden: None, `"building"` (a fork in the making), `"cache"` (a kept result of a step) or `"deleted"`.
    """

    session_id: str
    incarnation: str
    kind: str = "agent"
    owner: str | None = None
    user_id: str | None = None
    name: str | None = None
    revision: int = 0
    run_count: int = 0
    status: Status | None = None
    usage: Usage = field(default_factory=Usage)
    state: JsonObject = field(default_factory=dict[str, Any])
    metadata: JsonObject = field(default_factory=dict[str, Any])
    created_at: int = 0
    updated_at: int = 0
    ttl: int | None = None
    expires_at: int | None = None
    forked_from: JsonObject | None = None
    tip: int = 0
    segments: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    open_runs: dict[int, OpenRun] = field(default_factory=dict[int, OpenRun])
    summary: JsonObject | None = None
    hidden: Literal["building", "cache", "deleted"] | None = None

    def path(self, upto: int | None = None) -> list[tuple[int, int]]:
        """The run ranges `(first, last)` of the branch that ends at run `upto` (default: the current one)."""
        ranges: list[tuple[int, int]] = []
        run = self.tip if upto is None else upto
        for parent, first in reversed(self.segments):
            if first <= run:
                ranges.append((first, run))
                run = parent
        ranges.reverse()
        return ranges

    def on_path(self, run: int) -> bool:
        """Whether a run lies on the current branch."""
        return any(first <= run <= last for first, last in self.path())

    def last_on_path(self, count: int, *, below: int | None = None) -> list[int]:
        """The numbers of the last `count` runs of the current branch (that are less than `below`), ascending."""
        numbers: list[int] = []
        for first, last in reversed(self.path()):
            top = last if below is None else min(last, below - 1)
            numbers.extend(range(top, max(first, top - (count - len(numbers)) + 1) - 1, -1))
            if len(numbers) >= count:
                break
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
    owner: str | None
    seq: int
    time: int


@dataclass(slots=True)
class Run:
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
        started_at, ended_at: times; `ended_at` is None while it is open.
        key: of a member's or nested run: what in the run above it is answered by it (a tool call's id, for example).
    """

    number: int
    run_id: str
    status: Status
    input: Any = None
    output: Any = None
    error: JsonObject | None = None
    usage: Usage = field(default_factory=Usage)
    owner: str | None = None
    parent_run_id: str | None = None
    pending: Any = None
    durability: str = "run"
    messages: list[Message] = field(default_factory=list[Message])
    children: list[Run] = field(default_factory=list["Run"])
    steps: list[Entry] = field(default_factory=list[Entry])
    started_at: int = 0
    ended_at: int | None = None
    metadata: JsonObject = field(default_factory=dict[str, Any])
    key: str | None = None

    @property
    def own_usage(self) -> Usage:
        """What it used itself, without the runs below it."""
        return self.usage - sum((child.usage for child in self.children), Usage())


@dataclass(slots=True)
class SessionView:
    """A session as one look brought it: its head and some of its runs, oldest first."""

    head: Head
    runs: list[Run]

    @property
    def state(self) -> JsonObject:
        """The session's state."""
        return self.head.state

    @property
    def messages(self) -> list[Message]:
        """The messages of these runs, flat, in order."""
        return [message for run in self.runs for message in run.messages]


@dataclass(slots=True)
class Page(Generic[T]):
    """One page of a list, newest first; pass `next_cursor` as `cursor=` for the next, None at the end.

    `unreadable` names what belongs on the page and cannot be shown, and why.
    """

    items: list[T]
    next_cursor: str | None = None
    unreadable: dict[str, SessileError] = field(default_factory=dict[str, "SessileError"])

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)
