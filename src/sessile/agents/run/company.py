"""Who may work beside a run, for it: the members of a team, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_ai import DeferredToolResults
from pydantic_ai.messages import ModelMessage, ModelResponse

from ...live.result import RunResult
from ...records import ANY_USER, Run, Usage
from ...storage.turns import TurnSpec


@dataclass(frozen=True, slots=True)
class TeamRequest:
    """What a team is asked, for a function that chooses who works on it.

    Attributes:
        question: the text of the request; of one with media, what of it is text.
        session_id: the session of the team's run.
        user_id: whose session it is; None: nobody's.
    """

    question: str
    session_id: str
    user_id: str | None = None


def asked_of(question: str, spec: TurnSpec) -> TeamRequest:
    """What a run is asked, for whoever chooses who works on it."""
    return TeamRequest(question, spec.session_id, None if spec.user_id is ANY_USER else spec.user_id)


class UnchosenError(Exception):
    """Of a run that is to be resumed, those who work beside it must be found first; nothing was written."""

    def __init__(self, run: Run) -> None:
        super().__init__("members must be found first")
        self.run = run


class Company(Protocol):
    """What a run asks of those who work beside it."""

    results: dict[str, RunResult[Any]]
    """Their results, in the order in which they began."""

    given: DeferredToolResults
    """Of a run that is resumed: what was decided, also about calls that they wait for."""

    delegated: Sequence[str]
    """Of a run that is paused: its own calls that wait because they do."""

    async def choose(self, request: TeamRequest) -> list[str] | None:
        """Decide who they are, for a new run: the names that are stored; None where they are always the same."""
        ...

    def check_chosen(self, run: Run) -> None:
        """Raise `UnchosenError` if it was decided when this run began who they are, and they are not found yet."""
        ...

    async def find(self, run: Run, session_id: str, user_id: str | None) -> None:
        """Find those again who were chosen when this run began; `NotResumableError` if one of them is not there."""
        ...

    def take_members(self, other: Any) -> None:
        """Take those whom another object for the same run has found."""
        ...

    def member_job(self, name: str, run_id: str | None = None) -> Any:
        """What a run of one of them is driven with, a `Job`; None if there is nobody of that name.

        `run_id` names one of their runs that goes on.
        """
        ...

    def member_jobs(self) -> dict[str, Any]:
        """What runs of each of them are driven with, by name."""
        ...

    @property
    def speaks(self) -> bool:
        """Whether `next_response` may ever answer, so that each of the run's requests must be watched."""
        ...

    def delegates(self, tool: str) -> bool:
        """Whether calls of this tool of the run ask them, and so wait for them, and for no decision."""
        ...

    def begin(self, recorder: Any, job: Any) -> None:
        """Take up the run of this recorder and this job: a new one, or one that is resumed."""
        ...

    def next_response(self, messages: Sequence[ModelMessage]) -> ModelResponse | None:
        """What is said in the place of the run's model; None: the model is asked."""
        ...

    def come_to(self, output: Any) -> Any:
        """The result of the run, made of the result of its agent."""
        ...

    async def settle(self) -> None:
        """End what they are still doing, because nobody waits for it any more."""
        ...

    def dismiss(self) -> None:
        """Take note that the run has a result: what they have not ended, nobody continues."""
        ...


class Alone:
    """The company of a run that nobody works beside."""

    def __init__(self) -> None:
        self.results: dict[str, RunResult[Any]] = {}
        self.given = DeferredToolResults()
        self.delegated: Sequence[str] = ()

    async def choose(self, request: TeamRequest) -> list[str] | None:
        """See `Company`."""
        return None

    def check_chosen(self, run: Run) -> None:
        """See `Company`."""

    async def find(self, run: Run, session_id: str, user_id: str | None) -> None:
        """See `Company`."""

    def take_members(self, other: Any) -> None:
        """See `Company`."""

    def member_job(self, name: str, run_id: str | None = None) -> Any:
        """See `Company`."""
        return None

    def member_jobs(self) -> dict[str, Any]:
        """See `Company`."""
        return {}

    @property
    def speaks(self) -> bool:
        """See `Company`."""
        return False

    def delegates(self, tool: str) -> bool:
        """See `Company`."""
        return False

    def begin(self, recorder: Any, job: Any) -> None:
        """See `Company`."""

    def next_response(self, messages: Sequence[ModelMessage]) -> ModelResponse | None:
        """See `Company`."""
        return None

    def come_to(self, output: Any) -> Any:
        """See `Company`."""
        return output

    async def settle(self) -> None:
        """See `Company`."""

    def dismiss(self) -> None:
        """See `Company`."""


def with_all(usage: Usage, company: Company) -> Usage:
    """This usage, and what all of them have used."""
    return sum((result.usage for result in company.results.values()), usage)
