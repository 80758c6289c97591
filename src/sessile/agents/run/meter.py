"""What a run has used, whatever ends it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage
from pydantic_ai.usage import RunUsage

from ...records import Usage
from ..messages.counted import NOTHING, count_responses, count_returned, models_asked, plus, run_usage, usage_of


class Meter:
    """The usage of one run, out of Pydantic AI's count.

    That count is one for a whole tree of runs: it begins with what counts for the run's limits beside the run itself,
    and runs below it may have counted in it, too. The log has the usage of each run by itself.
    """

    def __init__(self) -> None:
        self.before = NOTHING
        """What the count began with, that is not this run's."""
        self.earlier = NOTHING
        """Of a resumed run: what the log says that it had used before it was paused."""
        self.unstored = NOTHING
        """Of a resumed run: what it had used beyond that before it was interrupted; the count begins with it, too."""
        self.beside = NOTHING
        """What has been used for this run outside of Pydantic AI's count: to summarise what came before."""
        self.below = NOTHING
        """What runs below this one have used, as far as it was counted with this one."""
        self.made_up = 0
        """How many of the responses that Pydantic AI has counted no model was asked for."""
        self._count: RunUsage | None = None

    def observe(self, count: RunUsage) -> None:
        """Remember where Pydantic AI's count stands."""
        self._count = count

    def start(self) -> RunUsage:
        """What Pydantic AI's count begins with."""
        return run_usage(plus(self.before, self.unstored))

    def used(self, own: Sequence[ModelMessage]) -> Usage:
        """What this attempt of the run has used itself; of one that failed without a count, what its messages say."""
        if self._count is not None:
            return self._own_part(self._count, own)
        seen = usage_of(count_responses(own), own) + Usage(tool_calls=count_returned(own))
        return seen + self.unstored + self.beside

    def _own_part(self, count: RunUsage, own: Sequence[ModelMessage]) -> Usage:
        """Of what Pydantic AI has counted what this attempt of the run has used itself, with its messages."""
        part = usage_of(count)
        for other in (self.before, self.below):
            if other is not NOTHING:
                part -= other
        part.requests -= self.made_up
        # The count does not say which requests have a price. Its own messages do; of what agents in tools have counted
        # with it, there are no messages here: it has one if it has added to the cost.
        seen = plus(models_asked(own), self.unstored)
        others = part.requests - seen.requests
        priced = part.nano_dollars > seen.nano_dollars
        part.unpriced = (seen.unpriced or 0) + (0 if priced else max(others, 0))
        return plus(part, self.beside)
