"""What agents are given in declared workflows, and what their answers mean there."""

from __future__ import annotations

import re
from typing import Any

from ...agents.agent import Agent
from ...agents.messages.spoken import as_text
from ...agents.messages.stored import dump_input, dump_output
from ...errors import InvalidInputError
from ..context import Context
from ..steps.step import Step

_YES_OR_NO = re.compile(r"\W*(yes|no|true|false)\b", re.IGNORECASE)
_OF_A_WORD = re.compile(r"\w")


def is_agent(step: Step[..., Any]) -> bool:
    """Whether a step asks an agent or a team."""
    return isinstance(step.target, Agent)


def given_to(step: Step[..., Any], value: Any) -> Any:
    """What a step is called with: an agent is given the results of parallel branches, and other data, as JSON text."""
    if not is_agent(step):
        return value
    try:
        dump_input(value)
    except InvalidInputError:
        return as_text(dump_output(value))
    return value


async def says_yes(context: Context, test: Step[..., Any], value: Any) -> bool:
    """What a test has decided."""
    if not is_agent(test):
        return bool(await context.step(test, value))
    return is_yes(await context.decide(test, is_yes, given_to(test, value)))


def is_yes(answer: Any) -> bool:
    """What an agent's answer means: `"No."` is text, and as such would be true."""
    if not isinstance(answer, str):
        return bool(answer)
    found = _YES_OR_NO.match(answer)
    if found is None:
        raise InvalidInputError(
            f"The answer must begin with yes or no; it is {answer[:200]!r}.",
            hint="Say so in the agent's instructions, or give it output_type=bool.",
        )
    return found.group(1).lower() in ("yes", "true")


def plain_words(text: str) -> str:
    """A text without what surrounds its words, in lower case."""
    first, last = _OF_A_WORD.search(text), _OF_A_WORD.search(text[::-1])
    return text[first.start() : len(text) - last.start()].casefold() if first and last else ""
