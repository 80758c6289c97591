"""Results of steps that are kept for other runs."""

from __future__ import annotations

import logging
from typing import Any, cast

from ...agents.agent import Agent, shown_of
from ...agents.team import Team
from ...errors import InvalidInputError, InvalidStateError, UnknownFormatError
from ...storage import cache
from ...storage.computing import computed
from ...storage.encoding import encode
from ...storage.storage import Storage, aoperate, whole
from ...storage.vocabulary import ResultKept
from ..run.runtime import WorkflowRun
from ..run.values import dump, load
from .call import Call, Outcome
from .step import inputs_of, qualified_name_of

logger = logging.getLogger("sessile")


def key_of(run: WorkflowRun, call: Call) -> str:
    """What a result is kept under: whose it is, the step, its version and what it was called with.

    Of an agent, what its instructions show of the state belongs to that.

    Whoever has no user shares nothing with others who have none: nobody knows whether they are one person.
    """
    step = call.step
    try:
        inputs = dump(inputs_of(step.target, call.args, call.kwargs), f"An input of step {step.name!r}")
    except InvalidStateError as error:
        raise InvalidInputError(f"{error.message} Its results cannot be cached.") from error
    nobodys = run.journal.turn.spec.session_id if run.user_id is None and not step.shared else None
    whose = (_user_of(run, call), nobodys)
    what = (qualified_name_of(step.target), step.name, step.version, encode(inputs), *_shown(call))
    return cache.cache_key(*whose, *what)


def _shown(call: Call) -> list[str]:
    """What an agent's instructions show of the workflow's state, which it sees unless it has a session of its own."""
    target: Any = call.step.target
    if not isinstance(target, Agent) or isinstance(target, Team) or "session_id" in call.kwargs:
        return []
    shown = shown_of(cast("Agent[Any]", target), call.scope.state, call.kwargs.get("instructions"))
    return [encode(shown)] if shown else []


def _user_of(run: WorkflowRun, call: Call) -> str | None:
    """Whose a kept result is; what is shared is nobody's."""
    return None if call.step.shared else run.user_id


def _place_of(run: WorkflowRun, call: Call) -> Storage:
    """Where it is kept; what is shared is in no user's own space."""
    return whole(run.storage) if call.step.shared else run.storage


async def found_in_cache(run: WorkflowRun, call: Call, key: str) -> Outcome | None:
    """The result that is kept, if there is one that this program can read; whatever else is there, it is computed."""
    assert call.step.cache is not None, "asked before"
    try:
        found = await aoperate(
            _place_of(run, call), cache.read_result, key, call.step.cache, user_id=_user_of(run, call)
        )
        if found is None:
            return None
        return Outcome(await computed(lambda: load(found.output), found.output), found.output)
    except UnknownFormatError:  # another version of the program has computed it
        return None
    except Exception as error:  # noqa: BLE001 (no run ends because a result that it can do without cannot be read)
        logger.warning("A kept result of step %r could not be read: %s", call.name, error)
        return None


async def keep_in_cache(run: WorkflowRun, call: Call, key: str, outcome: Outcome) -> None:
    """Keep a result for others; that this fails is no reason to stop a run whose own result is kept."""
    assert call.step.cache is not None, "asked before"
    try:
        await aoperate(
            _place_of(run, call),
            cache.keep_result,
            key,
            ResultKept(name=call.name, output=outcome.data),
            call.step.cache,
            user_id=_user_of(run, call),
            agent=run.journal.turn.spec.agent,
        )
    except Exception as error:  # noqa: BLE001 (what a step returned is never lost for that)
        logger.warning("The result of step %r could not be cached: %s", call.name, error)
