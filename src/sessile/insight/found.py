"""What the index answers with: plain records, without the texts of runs, which stay in the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from ..records import NANO, Page, Rating, Status, T, Usage
from ..times import Timed, datetime_of, timedelta_of


@dataclass(slots=True)
class FoundRun(Timed):
    """A run as the index has it; `storage.get_run(session_id, number, user_id=…)` reads it whole.

    Attributes:
        session_id, number, run_id: which run; a member's has the number of the top-level run above it.
        parent_run_id: of a member's or nested run: the id of the run above it.
        agent, user_id: which agent's run it is, and whose session.
        session_name: the name of its session.
        model: the model that it used most, or None.
        status: what has become of it, as the log says; one whose process is gone is `interrupted` once that is noted.
        error: the type of its error, or None.
        started_us, ended_us: when; `started_at`, `ended_at`, `duration` as datetimes and as a `timedelta`.
        first_token_us: how long it took until the first part of an answer came, microseconds; None where responses were
            not streamed; `first_token` as a `timedelta`.
        on_branch: whether it lies on its session's current branch, or (False) was left by a rewind.
        usage: what it used itself, without the runs below it.
        total_tokens: input and output tokens, with all runs below it.
        total_nano_dollars, total_unpriced: what is known of its cost with all runs below it, in 1e-9 dollars, and how
            many requests have no known price; `cost` is None where there are any.
        ratings: by source, the newest one of each, without their comments.
        tools: how often it called each tool.
        row: the index's own number of it.
    """

    session_id: str
    number: int
    run_id: str
    parent_run_id: str | None
    agent: str | None
    user_id: str | None
    session_name: str | None
    model: str | None
    status: Status
    error: str | None
    started_us: int
    ended_us: int | None
    first_token_us: int | None
    on_branch: bool
    usage: Usage
    total_tokens: int
    total_nano_dollars: int
    total_unpriced: int
    ratings: dict[str, Rating] = field(default_factory=dict[str, Rating])
    tools: dict[str, int] = field(default_factory=dict[str, int])
    row: int = field(default=0, repr=False, compare=False)

    @property
    def duration(self) -> timedelta | None:
        """How long it took; None while it is not over."""
        return None if self.ended_us is None else timedelta_of(max(0, self.ended_us - self.started_us))

    @property
    def first_token(self) -> timedelta | None:
        """How long it took until the first part of an answer came; None where responses were not streamed."""
        return None if self.first_token_us is None else timedelta_of(self.first_token_us)

    @property
    def cost(self) -> Decimal | None:
        """Dollars, with all runs below it; None where the price of a request is not known."""
        return None if self.total_unpriced else Decimal(self.total_nano_dollars) / NANO


@dataclass(slots=True)
class FoundPage(Page[T]):
    """One page of what the index has found.

    `unreadable` names runs and sessions that cannot be read, as `session` or `session#run`, wherever they would stand.

    Attributes:
        complete_until_us: all that was committed before is in the answer; `complete_until` as a datetime.
    """

    complete_until_us: int = 0

    @property
    def complete_until(self) -> datetime:
        """All that was committed before this moment is in the answer."""
        return datetime_of(self.complete_until_us)


@dataclass(slots=True, frozen=True)
class Snippet:
    """A place where something was found.

    Attributes:
        where: `input`, `output`, `tool`, `error`, `comment`, `name`, `metadata`, `thinking`, or a message's role.
        text: some words around it, from what is stored; `…` stands for what was left out.
        marks: ranges `(start, end)` of `text` that were searched for.
    """

    where: str
    text: str
    marks: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Hit:
    """A run, or a session by its name or metadata, in which something was found.

    Attributes:
        session_id, session_name, user_id: which session, and whose.
        run: the run as the index has it; None if the session's own name or metadata were meant.
        snippets: where in it, at most one for each searched word.
        score: how well it fits (`order="best"`), larger is better; 0 else.
    """

    session_id: str
    session_name: str | None
    user_id: str | None
    run: FoundRun | None
    snippets: list[Snippet] = field(default_factory=list[Snippet])
    score: float = 0.0
