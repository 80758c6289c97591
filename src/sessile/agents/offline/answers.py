"""What the offline model says: rules from the texts that it has heard to an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

INTRODUCTION = "(I am a small offline stand-in that ships with Sessile, not a language model.)"
"""The line under the first answer of a conversation."""

ABOUT = (
    "I am the small offline model that ships with Sessile: a stand-in, not a language model. From the messages that "
    "I am given I tell what you said about yourself, what you asked, how many messages there were; I know some "
    "capitals, can summarize, and call a tool when you write: call TOOL {json}."
)
"""The answer to "who are you?"."""

CAPITALS = {
    "australia": "Canberra",
    "austria": "Vienna",
    "belgium": "Brussels",
    "brazil": "Brasília",
    "canada": "Ottawa",
    "china": "Beijing",
    "denmark": "Copenhagen",
    "egypt": "Cairo",
    "finland": "Helsinki",
    "france": "Paris",
    "germany": "Berlin",
    "greece": "Athens",
    "india": "New Delhi",
    "ireland": "Dublin",
    "italy": "Rome",
    "japan": "Tokyo",
    "kenya": "Nairobi",
    "mexico": "Mexico City",
    "netherlands": "Amsterdam",
    "norway": "Oslo",
    "poland": "Warsaw",
    "portugal": "Lisbon",
    "spain": "Madrid",
    "sweden": "Stockholm",
    "switzerland": "Bern",
    "turkey": "Ankara",
}

_COUNTRY = re.compile(rf"\b({'|'.join(CAPITALS)})\b", re.IGNORECASE)
_FACT = re.compile(
    r"\b(?:my|the user['’]s) (?P<what>[\w'’ -]{1,40}?) (?:is|are) (?!not\b)(?P<value>[^.!?;,\"\n]+)", re.IGNORECASE
)
_FURTHER = re.compile(r"(?<=\s)(?:and|but)\s")
_ASKED_FACT = re.compile(r"\b(?:what|which|who)(?:['’]s| is| are| was) my (?P<what>[\w'’ -]{1,40})", re.IGNORECASE)
_ASKED_LAST = re.compile(
    r"\bmy (?P<which>last|previous|first) (?P<what>question|message)|\bwhat did I (?:just )?(?P<verb>ask|say)",
    re.IGNORECASE,
)
_ASKED_COUNT = re.compile(r"\bhow many (?:messages|questions|turns)\b", re.IGNORECASE)
_ASKED_ABOUT = re.compile(
    r"\b(?:who|what) are you\b|\blanguage model\b|\bare you (?:an? )?(?:AI|LLM|real|offline)\b", re.IGNORECASE
)
_ASKED_INSTRUCTIONS = re.compile(r"\byour (?:instructions|system prompt)\b", re.IGNORECASE)
_ASKED_TOOLS = re.compile(r"\b(?:what|which) tools\b", re.IGNORECASE)
_FOLLOW_UP = re.compile(r"^\s*(?:and|what about|how about)\b", re.IGNORECASE)
_SUMMARIZE = re.compile(r"\bsummar(?:y|i[sz]e)", re.IGNORECASE)
_TOLD_TO_SUMMARIZE = re.compile(r"\s*summari[sz]e\b", re.IGNORECASE)
_SUMMARY_BEFORE = re.compile(r"^summary of our conversation\b.*:\n", re.IGNORECASE)
_HEADING = re.compile(r"^(?:(?:the )?summary so far|what was said since):$", re.IGNORECASE)


@dataclass
class Heard:
    """The messages of a request, as far as this model understands them.

    Attributes:
        question: the user's newest text.
        asked_at: when it was asked; with `called` it makes ids of tool calls.
        earlier: the user's texts before it, oldest first.
        answered: how many answers in text the messages hold.
        returned: how many messages with results of tools came before the question.
        called: how many times tools were called since the question.
        results: what they returned, a line each.
        instructions: instructions and system prompts.
        summaries: summaries of what was said before, which a history window may put in the user's place.
        tokens: an estimate of the length of all that.
    """

    question: str = ""
    asked_at: str = ""
    earlier: list[str] = field(default_factory=list[str])
    answered: int = 0
    returned: int = 0
    called: int = 0
    results: list[str] = field(default_factory=list[str])
    instructions: str = ""
    summaries: list[str] = field(default_factory=list[str])
    tokens: int = 0

    @property
    def summarizes(self) -> bool:
        """Whether the instructions are to summarize what comes, not to answer it."""
        return _TOLD_TO_SUMMARIZE.match(self.instructions) is not None

    def ask(self, text: str, asked_at: str) -> None:
        """Take a newer text of the user, or a summary that stands in the user's place."""
        if _SUMMARY_BEFORE.match(text):
            self.summaries.append(text)
            return
        if self.question:
            self.earlier.append(self.question)
        self.returned += 1 if self.results else 0
        self.question, self.asked_at, self.called, self.results = text, asked_at, 0, []


def say(heard: Heard, tools: Sequence[str], unknown: Sequence[str]) -> str:
    """The answer in words; `tools` are those that the model has, `unknown` those that it was asked for in vain."""
    if heard.results:
        return "\n".join(heard.results)
    if unknown:
        return f"I have no tool {unknown[0]!r}. {_tool_list(tools)}"
    if _ASKED_TOOLS.search(heard.question):
        return _tool_list(tools)
    for skill in _SKILLS:
        answer = skill(heard)
        if answer is not None:
            return answer
    return f"You said: {quote(heard.question)}"


def _tool_list(tools: Sequence[str]) -> str:
    return f"My tools are: {', '.join(tools)}." if tools else "I have no tools."


def _summary(heard: Heard) -> str | None:
    """Of the text that is given with the request, if there is one, else of the conversation."""
    if heard.summarizes:
        lines = heard.question.splitlines()
    elif _SUMMARIZE.search(heard.question):
        lines = heard.question.splitlines()[1:] or [*heard.summaries, *heard.earlier]
    else:
        return None
    said = [_sentence(line) for line in lines if _is_said(line)]
    if not said:
        return "There is nothing to summarize yet."
    if len(said) > 12:  # what people say about themselves is kept longest
        said = [line for line in said[:-6] if _FACT.search(line)][-6:] + said[-6:]
    return f"Summary: {' '.join(said)}"


def _is_said(line: str) -> bool:
    return bool(line.strip()) and not _HEADING.match(line.strip()) and line.strip() != INTRODUCTION


def _sentence(line: str) -> str:
    """A line as a sentence, so that lines can stand one after the other."""
    text = clip(_SUMMARY_BEFORE.sub("", line).strip().removeprefix("Summary: "), 400)
    return text if text[-1] in ".!?…" else f"{text}."


def _told_fact(heard: Heard) -> str | None:
    asked = _ASKED_FACT.search(heard.question)
    if asked is None or _ASKED_LAST.search(heard.question):
        return None
    what = asked["what"].strip().lower()
    for text in [heard.question, *reversed([heard.instructions, *heard.summaries, *heard.earlier])]:
        for fact in reversed(list(_FACT.finditer(text))):
            if fact["what"].strip().lower() == what:
                return f"Your {what} is {_value(fact)}."
    return f"I do not know your {what}: nothing that I was given says it."


def _value(fact: re.Match[str]) -> str:
    return _FURTHER.split(fact["value"])[0].strip()


def _last_question(heard: Heard) -> str | None:
    asked = _ASKED_LAST.search(heard.question)
    if asked is None:
        return None
    is_question = "question" in asked[0].lower() or asked[0].lower().endswith("ask")
    candidates = [text for text in heard.earlier if "?" in text] if is_question else heard.earlier
    if not candidates:
        what = "question" if heard.earlier else "message"
        return f"I cannot know: no earlier {what} of yours reached me."
    word = "question" if is_question else "message"
    which = (asked["which"] or "last").lower()
    return f"Your {which} {word} was: {quote(candidates[0 if which == 'first' else -1])}"


def _message_count(heard: Heard) -> str | None:
    if not _ASKED_COUNT.search(heard.question):
        return None
    parts = [f"{len(heard.earlier)} of yours", f"{heard.answered} of mine"]
    if heard.returned:
        parts.insert(1, f"{heard.returned} with results of tools")
    total = len(heard.earlier) + heard.answered + heard.returned
    return f"Before this one I was given {total} message{'' if total == 1 else 's'}: {', '.join(parts)}."


def _about(heard: Heard) -> str | None:
    return ABOUT if _ASKED_ABOUT.search(heard.question) else None


def _instructions(heard: Heard) -> str | None:
    if not _ASKED_INSTRUCTIONS.search(heard.question):
        return None
    return f"My instructions are: {heard.instructions}" if heard.instructions else "I was given no instructions."


def _capital(heard: Heard) -> str | None:
    """Also "And of Italy?" after an earlier question for a capital."""
    country = _COUNTRY.search(heard.question)
    asked = "capital" in heard.question.lower()
    before = any("capital" in text.lower() for text in heard.earlier)
    if country is None or not (asked or (before and _FOLLOW_UP.search(heard.question))):
        return None
    name = country[1].lower()
    article = "the " if name == "netherlands" else ""
    return f"The capital of {article}{name.title()} is {CAPITALS[name]}."


def _heard_fact(heard: Heard) -> str | None:
    fact = _FACT.search(heard.question)
    if fact is None:
        return None
    what = fact["what"].strip().lower()
    return f"Nice to meet you, {_value(fact)}." if what == "name" else f"Noted: your {what} is {_value(fact)}."


_SKILLS: Sequence[Callable[[Heard], str | None]] = (
    _summary,
    _last_question,
    _told_fact,
    _message_count,
    _about,
    _instructions,
    _capital,
    _heard_fact,
)


def quote(text: str) -> str:
    """A text as a quotation, cut where it is long."""
    return f'"{clip(text, 300)}"'


def clip(text: str, length: int) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
