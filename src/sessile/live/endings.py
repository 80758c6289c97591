"""How a run ends that has no result: one rule for agents, teams and workflows.

What stops the process or the task (a deploy, a client that has gone) interrupts the run, an error fails it, and only
somebody who cancels the run itself ends it for good. Interrupted runs can be continued, and failed ones as well,
where their steps are stored.
"""

from __future__ import annotations

import asyncio

from ..errors import problem_of
from ..storage.vocabulary import RunEnded


def unfinished(error: BaseException, *, cancelled: bool, stepwise: bool) -> RunEnded:
    """The end of a run that an error has ended.

    Args:
        error: what has come out of the run.
        cancelled: whether somebody has cancelled the run itself, as `storage.cancel_run` does.
        stepwise: whether its steps are stored, so that it can be continued where it stopped.
    """
    problem = problem_of(error)
    if cancelled:
        return RunEnded(status="cancelled", error=problem)
    if is_stop(error):
        return RunEnded(status="interrupted", error=problem)
    return RunEnded(status="failed", error=problem, resumable=stepwise)


def is_stop(error: BaseException) -> bool:
    """Whether an error is one by which a task or a process is told to stop."""
    return isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception)
