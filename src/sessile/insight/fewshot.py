"""Few-shot examples: good runs, picked so that they differ from each other and fit what is asked."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast, overload

from ..errors import CorruptDataError, InvalidInputError, NewerVersionError, RunNotFoundError, SessionNotFoundError
from ..records import ANY_USER, JsonObject
from ..storage import Storage
from ..storage.checks import check_count
from ..storage.vocabulary import ERASED
from ..tokens import units
from .found import FoundRun
from .texts import words_in
from .tooluses import ToolUse, tool_rounds

LOOKED_AT = 300
"""Among how many of the newest good runs examples are picked."""

ALIKE = 0.8
"""From which share of common words on two questions are taken for the same one."""

SPREAD = 0.4
"""How much it counts against an example that it is like one that is picked already."""

LETTERS = 4
"""How many characters a token has, about."""

Redaction = Callable[[str], str]
"""Takes out of a text what must not be passed on."""


@dataclass(slots=True, frozen=True)
class Example:
    """A question and its good answer, and the run that they are from.

    Attributes:
        session_id, number, run_id: which run.
        question, answer: what was asked and what came out, as text; the answer is the correction of a rating, if one
            has any.
        corrected: whether it is.
        tools: what it did before it answered, in rounds of calls that were made at once; empty unless it was asked for.
    """

    session_id: str
    number: int
    run_id: str
    question: str
    answer: str
    corrected: bool = False
    tools: tuple[tuple[ToolUse, ...], ...] = ()

    @property
    def tokens(self) -> int:
        """About how many tokens it has."""
        calls = [
            part for round in self.tools for use in round for part in (use.tool, _plain(use.args), _plain(use.result))
        ]
        return sum(map(len, (self.question, self.answer, *calls))) // LETTERS + 8 * (1 + len(calls) // 3)


class Examples(Sequence[Example]):
    """Some examples, in the order in which they are to be shown: the best one last, next to the question."""

    def __init__(self, items: Sequence[Example]) -> None:
        self._items = tuple(items)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> Example: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Example, ...]: ...

    def __getitem__(self, place: int | slice) -> Example | tuple[Example, ...]:
        return self._items[place]

    def __iter__(self) -> Iterator[Example]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"Examples({list(self._items)!r})"

    @property
    def used(self) -> list[JsonObject]:
        """Which runs they are from, as JSON."""
        return [{"session_id": one.session_id, "run": one.number, "run_id": one.run_id} for one in self._items]

    def prompt(self, heading: str = "Examples of good answers:") -> str:
        """As a block of a prompt, for instructions; empty if there are none."""
        if not self._items:
            return ""
        return "\n\n".join([heading, *map(_block, self)])

    def openai(self) -> list[JsonObject]:
        """As messages in OpenAI's form (chat completions): two for each, and those of its tool calls between them."""
        messages: list[JsonObject] = []
        for place, one in enumerate(self):
            messages.append({"role": "user", "content": one.question})
            for call_ids, uses in _rounds(place, one):
                calls = [
                    {"id": call, "type": "function", "function": {"name": use.tool, "arguments": _json(use.args)}}
                    for call, use in zip(call_ids, uses, strict=True)
                ]
                messages.append({"role": "assistant", "content": None, "tool_calls": calls})
                messages += [
                    {"role": "tool", "tool_call_id": call, "content": _plain(use.result)}
                    for call, use in zip(call_ids, uses, strict=True)
                ]
            messages.append({"role": "assistant", "content": one.answer})
        return messages

    def pydantic_ai(self) -> list[Any]:
        """As messages of Pydantic AI's, for `message_history`: two for each, and its tool calls. Imports it."""
        made: Any = import_module("pydantic_ai.messages")
        messages: list[Any] = []
        for place, one in enumerate(self):
            messages.append(made.ModelRequest(parts=[made.UserPromptPart(content=one.question)], run_id=one.run_id))
            for call_ids, uses in _rounds(place, one):
                pairs = list(zip(call_ids, uses, strict=True))
                calls = [made.ToolCallPart(use.tool, use.args, tool_call_id=call) for call, use in pairs]
                returns = [made.ToolReturnPart(use.tool, use.result, tool_call_id=call) for call, use in pairs]
                messages.append(made.ModelResponse(parts=calls, run_id=one.run_id))
                messages.append(made.ModelRequest(parts=returns, run_id=one.run_id))
            messages.append(made.ModelResponse(parts=[made.TextPart(content=one.answer)], run_id=one.run_id))
        return messages


def _block(one: Example) -> str:
    calls = [f"Tool {use.tool} {_json(use.args)} returned: {_plain(use.result)}" for uses in one.tools for use in uses]
    lines = [f"Question: {one.question}", *calls, f"Answer: {one.answer}"]
    return "\n".join(["<example>", *lines, "</example>"])


def _rounds(place: int, one: Example) -> Iterator[tuple[list[str], tuple[ToolUse, ...]]]:
    """The rounds of calls, with ids that no two of them share."""
    for number, uses in enumerate(one.tools):
        yield [f"example_{place}_{number}_{call}" for call in range(len(uses))], uses


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def pick(
    storage: Storage,
    candidates: Iterator[FoundRun],
    *,
    like: str | None,
    limit: int,
    tokens: int | None,
    redact: Redaction | None,
    tools: bool = False,
) -> Examples:
    """Pick examples among runs, the newest of which come first; see `Index.examples`."""
    check_count(limit, "limit", least=1, most=LOOKED_AT)
    if tokens is not None:
        check_count(tokens, "tokens", least=1)
    asked: Any = like
    if asked is not None and not isinstance(asked, str):
        raise InvalidInputError(f"like must be the text of a question; it is {asked!r}.")
    read = _read(storage, candidates, redact, tools)
    vectors = _vectors([*(one.question for one in read), like or ""])
    wanted = vectors.pop()
    chosen: list[int] = []
    left, spent = list(range(len(read))), 0
    while left and len(chosen) < limit:
        near = {place: max((_cosine(vectors[place], vectors[one]) for one in chosen), default=0.0) for place in left}
        left = [place for place in left if near[place] < ALIKE]
        if not left:
            break
        fit = {place: (_cosine(vectors[place], wanted) if like else 1.0) - SPREAD * near[place] for place in left}
        best = max(left, key=lambda place: (round(fit[place], 9), -place))
        left.remove(best)
        if tokens is None or spent + read[best].tokens <= tokens:
            chosen.append(best)
            spent += read[best].tokens
    return Examples([read[place] for place in reversed(chosen)])


def _read(storage: Storage, candidates: Iterator[FoundRun], redact: Redaction | None, tools: bool) -> list[Example]:
    """The candidates, from the first on, as many as have `max_read_bytes` of text together."""
    read: list[Example] = []
    left = storage.settings.max_read_bytes
    for found in candidates:
        one = _example(storage, found, redact, tools)
        if one is not None:
            read.append(one)
            left -= len(_block(one))
        if left <= 0:
            break
    return read


def _example(storage: Storage, found: FoundRun, redact: Redaction | None, tools: bool) -> Example | None:
    """The run as an example, unless it has no text, or is gone."""
    try:
        run = storage.get_run(found.session_id, found.number, user_id=ANY_USER)
    except (RunNotFoundError, SessionNotFoundError, CorruptDataError, NewerVersionError):
        return None
    correction = next((one.correction for one in reversed(run.ratings) if one.correction is not None), None)
    question, answer = _text(run.input), _text(run.output if correction is None else correction)
    if not question or not answer:
        return None
    uses = tuple(tool_rounds(run)) if tools else ()
    if redact is not None:
        question, answer = redact(question), redact(answer)
        uses = tuple(
            tuple(ToolUse(use.tool, _redacted(use.args, redact), _redacted(use.result, redact)) for use in round)
            for round in uses
        )
    return Example(found.session_id, found.number, found.run_id, question, answer, correction is not None, uses)


def _redacted(value: Any, redact: Redaction) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_redacted(item, redact) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _redacted(item, redact) for key, item in cast(JsonObject, value).items()}
    return value


def _text(value: Any) -> str:
    """A value as text: as it is, the texts of a list with media, or JSON; empty where it was erased."""
    if isinstance(value, str):
        return value if any(True for _ in words_in(value)) else ""
    if isinstance(value, list):
        return "\n".join(item for item in cast("list[Any]", value) if isinstance(item, str) and item != ERASED)
    return "" if value is None or not any(True for _ in words_in(value)) else json.dumps(value, ensure_ascii=False)


def _vectors(texts: Sequence[str]) -> list[dict[str, float]]:
    """The texts by their words, rare words counting more, each of length 1."""
    counts = [Counter(units(text)) for text in texts]
    having = Counter(word for one in counts for word in one)
    made: list[dict[str, float]] = []
    for one in counts:
        weights = {word: count * math.log(1 + len(texts) / having[word]) for word, count in one.items()}
        length = math.sqrt(math.fsum(weight * weight for weight in weights.values())) or 1.0
        made.append({word: weight / length for word, weight in weights.items()})
    return made


def _cosine(one: dict[str, float], other: dict[str, float]) -> float:
    small, large = (one, other) if len(one) < len(other) else (other, one)
    return math.fsum(weight * large[word] for word, weight in small.items() if word in large)


__all__ = ["Example", "Examples", "Redaction", "ToolUse", "pick"]
