"""Histories of a long session compared: what they cost, and what a later question finds in them.

`python -m bench.histories` needs `tiktoken` and its file for `o200k_base` (`TIKTOKEN_CACHE_DIR`). No
model is asked: what counts is whether the text that answers a question is among what would be sent. The summariser is a
stand-in as well, which keeps the first sentence of what the user has said, up to 600 words, the newest last; so the
figures of summaries say what such a summary costs, and what a good one may keep.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import tiktoken
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.messages import ToolReturnPart as Returned
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from sessile import Agent, Auto, Budget, MemoryStorage, Relevant, RollingSummary, Shortened, TokenBudget

RUNS = 150
TOKENS = 4_000
KEPT_WORDS = 600

FACTS = {
    "My dog is called Rex.": "What is the name of my dog?",
    "The invoice number is 48-113.": "Which invoice number did I give you?",
    "We decided to use PostgreSQL.": "Which database did we decide on, was it PostgreSQL?",
    "Open task: call the plumber about the boiler.": "Which open task was there about the plumber?",
    "I am allergic to nuts.": "What should the cook know about nuts and my allergies?",
    "The meeting moved to Thursday.": "When is the meeting now?",
    "We decided against the blue logo.": "What became of the blue logo?",
    "Open task: renew the passport.": "What about my passport?",
    "The wifi password hint is the lighthouse.": "What was the hint for the wifi?",
    "My sister lives in Bergen.": "Where does my sister live?",
}
WORDS = [
    "tide", "harbour", "river", "stone", "market", "window", "letter", "engine", "garden", "winter", "bridge", "paper",
    "signal", "copper", "island", "kettle", "carpet", "ladder", "meadow", "pocket", "silver", "timber", "valley",
]  # fmt: skip

encoding = tiktoken.get_encoding("o200k_base")


def tokens(messages: Sequence[ModelMessage]) -> int:
    """What messages have of text, by the tokenizer."""
    parts = [part for message in messages for part in message.parts]
    texts = [str(getattr(part, "content", "") or "") for part in parts]
    texts += [json.dumps(part.args) for part in parts if isinstance(part, ToolCallPart)]
    return len(encoding.encode("\n".join(texts)))


def prose(chance: random.Random, count: int) -> str:
    return " ".join(chance.choice(WORDS) for _ in range(count)).capitalize() + "."


class Talk:
    """A model, and what it was sent."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.seen = ""
        self.chance = random.Random(7)

    def answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        size = tokens(messages)
        self.sent.append(size)
        self.seen = ModelMessagesTypeAdapter.dump_json(messages).decode()
        looks = "look it up" in str(messages[-1].parts[-1]) and not isinstance(messages[-1].parts[-1], Returned)
        parts: list[Any] = [ToolCallPart("look_up", {})] if looks else [TextPart(prose(self.chance, 60))]
        usage = RequestUsage(input_tokens=size + 300, output_tokens=tokens([ModelResponse(parts)]))
        return ModelResponse(parts, usage=usage)


class Summariser:
    """Keeps the first sentence of what the user has said."""

    def __init__(self) -> None:
        self.sent: list[int] = []

    def answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.sent.append(tokens(messages))
        told = str(messages[-1].parts[-1].content)  # type: ignore[union-attr]
        before, _, since = told.partition("What was said since:") if "What was said since:" in told else ("", "", told)
        kept = before.removeprefix("The summary so far:").split("\n")
        kept += [
            line.partition(": ")[2].partition(".")[0] + "." for line in since.split("\n") if line.startswith("User: ")
        ]
        kept = [line for line in kept if line.strip(" .")]
        while sum(len(line.split()) for line in kept) > KEPT_WORDS:
            kept.pop(0)
        return ModelResponse([TextPart("\n".join(kept))])


def look_up() -> str:
    """Look something up."""
    return prose(random.Random(3), 900)


def compare(name: str, make: Any) -> None:
    talk, summariser, chance = Talk(), Summariser(), random.Random(1)
    history = make(FunctionModel(summariser.answer))
    storage = MemoryStorage()
    agent = Agent(FunctionModel(talk.answer), storage=storage, tools=[look_up], history=history)
    facts = list(FACTS)
    for number in range(RUNS):
        fact = facts[number // 15] + " " if number % 15 == 4 else ""
        asked = "Please look it up." if number % 6 == 5 else prose(chance, 25)
        agent.run(f"{fact}{asked}", session_id="s")
    cost = sum(talk.sent)
    found = 0
    for fact, question in FACTS.items():
        copy = agent.session("s").fork()
        copy.run(question)
        found += fact[:-1] in talk.seen
    beside = sum(summariser.sent)
    print(f"{name:44} {cost / RUNS:9,.0f} {beside / RUNS:9,.0f} {max(talk.sent):9,} {found:3} of {len(FACTS)}")


def main() -> None:
    print(f"{'history':44} {'sent/run':>9} {'summary':>9} {'most':>9} found")
    histories: dict[str, Any] = {
        "LastRuns(3)": lambda model: 3,
        '"all"': lambda model: "all",
        "TokenBudget(4000)": lambda model: TokenBudget(TOKENS),
        "Budget(tokens=4000)": lambda model: Budget(tokens=TOKENS),
        "Relevant(tokens=4000)": lambda model: Relevant(tokens=TOKENS),
        "RollingSummary()": lambda model: RollingSummary(model=model),
        "Auto(tokens=4000)": lambda model: Auto(tokens=TOKENS, model=model),
        "Auto(tokens=4000, calibrate=True)": lambda model: Auto(tokens=TOKENS, model=model, calibrate=True),
        "Shortened(Auto(tokens=4000), tokens=200)": lambda model: Shortened(Auto(tokens=TOKENS, model=model), 200),
        "Shortened(Relevant(tokens=4000), tokens=200)": lambda model: Shortened(Relevant(tokens=TOKENS), 200),
    }
    for name, make in histories.items():
        compare(name, make)


if __name__ == "__main__":
    main()
