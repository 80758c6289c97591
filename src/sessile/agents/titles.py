"""Names of sessions: the first words of what was asked first, or what a small model makes of it."""

from __future__ import annotations

import logging
from typing import Any, cast

from pydantic_ai import Agent as ModelAgent
from pydantic_ai import capture_run_messages
from pydantic_ai.models import Model

from ..errors import InvalidInputError
from ..records import Usage
from ..storage.ids import MAX_ID_BYTES
from .messages.counted import usage_of

logger = logging.getLogger("sessile")

WORDS = "words"

LONGEST = 60
"""How many characters a name has at most that is made here."""

MOST_ASKED = 4_000
"""How many characters of a question a model is shown to name it."""

INSTRUCTIONS = (
    "Write a title for a conversation that begins with the user's message: at most six words, in the language of the "
    "message, no quotes, no full stop. Do not answer the message. Reply with the title alone."
)

Titles = Model | str | None
"""How sessions get their names: `"words"`, or a model, by name or ready; None: not at all."""


def check_titles(titles: Any) -> Titles:
    """Refuse what names nothing."""
    if titles is None or isinstance(titles, Model) or (isinstance(titles, str) and titles):
        return cast(Titles, titles)
    raise InvalidInputError(f"titles must be 'words', a model or None, not {titles!r}.")


def first_words(question: str) -> str | None:
    """The first words of a question, as many as a name has room for; None if it has none."""
    text = " ".join(question.replace("\0", " ").split())
    if len(text) > LONGEST:
        whole, _, _ = text[:LONGEST].rpartition(" ")
        text = f"{whole if len(whole) > LONGEST // 2 else text[: LONGEST - 1]}…"
    while len(text.encode(errors="replace")) > MAX_ID_BYTES:
        text = text[:-2].rstrip("…") + "…"
    return text.encode(errors="replace").decode() or None


async def title_of(titles: Titles, question: str) -> tuple[str | None, Usage]:
    """The name for a session that begins with a question, and what a model has used to find it.

    The first words, where the model does not answer or has nothing to say.
    """
    words = first_words(question)
    if words is None or titles is None or titles == WORDS:
        return words, Usage()
    try:
        agent = ModelAgent(titles, instructions=INSTRUCTIONS)
        with capture_run_messages():  # so that it is not taken for the run that a caller captures
            result = await agent.run(question[:MOST_ASKED])
        return first_words(result.output.strip().strip("\"'")) or words, usage_of(result.usage, result.all_messages())
    except Exception as error:  # noqa: BLE001 (whatever a provider's client raises: the run itself can do without)
        logger.warning("A session could not be named by its model, and is named by its first words: %s", error)
        return words, Usage()
