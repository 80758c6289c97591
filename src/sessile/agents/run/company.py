"""Who may work beside a run, for it: the members of a team, or nobody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from pydantic_ai import DeferredToolResults
from pydantic_ai.messages import ModelMessage, ModelResponse

from ...live.result import RunResult
from ...records import Usage


class Company(Protocol):
    """What a run asks of those who work beside it."""

    results: dict[str, RunResult[Any]]
    """Their results, in the order in which they began."""

    given: DeferredToolResults
    """Of a run that is resumed: what was decided, also about calls that they wait for."""

    delegated: Sequence[str]
    """Of a run that is paused: its own calls that wait because they do."""

    def member_job(self, name: str) -> Any:
        """What a run of one of them is driven with, a `Job`; None if there is nobody of that name."""
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
        """Take note that the run has come to a result: what they have not ended, nobody goes on with."""
        ...


class Alone:
    """The company of a run that nobody works beside."""

    def __init__(self) -> None:
        self.results: dict[str, RunResult[Any]] = {}
        self.given = DeferredToolResults()
        self.delegated: Sequence[str] = ()

    def member_job(self, name: str) -> Any:
        """See `Company`."""
        return None

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


def usage_of_all(company: Company) -> Usage:
    """What all of them have used."""
    return sum((result.usage for result in company.results.values()), Usage())
