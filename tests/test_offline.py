"""The offline model, used through Pydantic AI as any other model is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

import pytest

pytest.importorskip("pydantic_ai")

from pydantic import BaseModel, Field
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ModelRetry, NativeOutput, PromptedOutput
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import (
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextContent,
    ToolCallPart,
)
from pydantic_ai.usage import UsageLimits

from sessile import Agent as SessionAgent
from sessile import MemoryStorage, RollingSummary
from sessile.agents.offline import OfflineModel

NOT_A_MODEL = "not a language model"


def talk(agent: Agent[None, Any], *texts: str, history: Sequence[ModelMessage] = ()) -> tuple[list[Any], Any]:
    """The answers to some texts, one after the other, and the last result."""
    answers: list[Any] = []
    messages, result = list(history), None
    for text in texts:
        result = agent.run_sync(text, message_history=messages)
        messages = result.all_messages()
        answers.append(result.output)
    return answers, result


def ask(*texts: str, instructions: str | None = None) -> str:
    """The answer to the last of some texts, without the introduction."""
    answers, _ = talk(Agent(OfflineModel(introduce=False), instructions=instructions), *texts)
    return answers[-1]


# ---------------------------------------------------------------- answers from the history


def test_remembers_a_name_that_the_history_holds() -> None:
    assert ask("My name is Ada.", "What is the capital of Japan?", "What is my name?") == "Your name is Ada."
    assert "do not know your name" in ask("What is my name?")


def test_remembers_what_was_said_last() -> None:
    texts = ("My favourite colour is green and I like tea.", "My favourite colour is dark red!")
    assert ask(*texts, "what's my favourite colour?") == "Your favourite colour is dark red."


def test_remembers_what_the_instructions_say() -> None:
    assert ask("What is my name?", instructions="The user's name is Grace Hopper.") == "Your name is Grace Hopper."
    assert ask("My name is Ada.", "What is my name?", instructions="The user's name is Bo.") == "Your name is Ada."


def test_quotes_questions_and_messages() -> None:
    said = ("What is the capital of Italy?", "And of Spain?", "Thank you.")
    assert ask(*said, "What was my last question?") == 'Your last question was: "And of Spain?"'
    assert ask(*said, "What was my first question?") == 'Your first question was: "What is the capital of Italy?"'
    assert ask(*said, "What was my last message?") == 'Your last message was: "Thank you."'
    assert ask(*said, "What did I just say?") == 'Your last message was: "Thank you."'
    assert ask(*said, "What did I ask?") == 'Your last question was: "And of Spain?"'


def test_says_that_it_cannot_know_without_a_history() -> None:
    assert ask("What was my last question?") == "I cannot know: no earlier message of yours reached me."
    only_told = ask("My name is Ada.", "What was my last question?")
    assert only_told == "I cannot know: no earlier question of yours reached me."


def test_counts_messages() -> None:
    assert ask("How many messages were there?").startswith("Before this one I was given 0 messages")
    counted = ask("My name is Ada.", "Hello.", "How many messages were there?")
    assert counted == "Before this one I was given 4 messages: 2 of yours, 2 of mine."


def test_knows_capitals_and_understands_a_follow_up() -> None:
    assert ask("What is the capital of France?") == "The capital of France is Paris."
    assert ask("what is the capital of the netherlands?") == "The capital of the Netherlands is Amsterdam."
    assert ask("What is the capital of France?", "And of Sweden?") == "The capital of Sweden is Stockholm."
    assert "Stockholm" not in ask("And of Sweden?")


def test_tells_its_instructions() -> None:
    assert "Speak of the sea." in ask("What are your instructions?", instructions="Speak of the sea.")
    assert ask("What are your instructions?") == "I was given no instructions."


def test_reads_system_prompts_and_prompts_in_parts() -> None:
    agent = Agent(OfflineModel(introduce=False), system_prompt="The user's name is Ada.")
    parts = [TextContent(content="Hello."), ImageUrl(url="https://example.com/a.png"), "What is my name?"]
    assert agent.run_sync(parts).output == "Your name is Ada."


def test_repeats_what_it_does_not_understand() -> None:
    assert ask("Colourless green ideas sleep furiously") == 'You said: "Colourless green ideas sleep furiously"'


def test_summarizes_the_conversation_or_a_text() -> None:
    assert ask("My name is Ada.", "Hello", "Summarize our conversation.") == "Summary: My name is Ada. Hello."
    assert ask("Write a summary:\nThe sun rose.\n\nIt was warm") == "Summary: The sun rose. It was warm."
    assert "nothing to summarize" in ask("Summarise our conversation.")


def test_what_people_say_about_themselves_survives_many_summaries() -> None:
    summary = "My name is Ada."
    for round_ in range(5):
        lines = [summary, *(f"User: Remark {round_}-{number}" for number in range(20))]
        summary = ask("\n".join(lines), instructions="Summarize the conversation for yourself.")
    before = f"Summary of our conversation before this point:\n{summary}"
    assert ask(before, "What is my name?") == "Your name is Ada."
    assert len(summary) < 4000


def test_remembers_through_a_rolling_summary() -> None:
    agent = SessionAgent(OfflineModel(), storage=MemoryStorage(), history=RollingSummary(keep=1, every=2))
    for text in ("My name is Ada.", "One", "Two", "Three", "Four", "Five", "What was my last message?"):
        last = agent.run(text, session_id="s1").output
    assert last == 'Your last message was: "Five"'
    assert agent.run("What is my name?", session_id="s1").output == "Your name is Ada."


def test_the_same_messages_get_the_same_answer() -> None:
    agent = Agent(OfflineModel())
    _, result = talk(agent, "My name is Ada.", "What is the capital of France?")
    history = ModelMessagesTypeAdapter.validate_json(result.all_messages_json())  # as another process gets them
    first, _ = talk(agent, "What was my last question?", history=result.all_messages())
    second, _ = talk(Agent(OfflineModel()), "What was my last question?", history=history)
    assert first == second == ['Your last question was: "What is the capital of France?"']


# ---------------------------------------------------------------- what it says about itself


def test_introduces_itself_once() -> None:
    (first, second), _ = talk(Agent(OfflineModel()), "What is the capital of France?", "And of Italy?")
    assert first.splitlines()[0] == "The capital of France is Paris."
    assert NOT_A_MODEL in first.splitlines()[1]
    assert NOT_A_MODEL not in second


@pytest.mark.parametrize("question", ["Who are you?", "what are you", "Are you a language model?", "Are you an AI?"])
def test_says_what_it_is_when_asked(question: str) -> None:
    (_, answer), _ = talk(Agent(OfflineModel()), "Hello", question)
    assert NOT_A_MODEL in answer


def test_names_itself_in_every_response() -> None:
    _, result = talk(Agent(OfflineModel()), "Hello")
    (response,) = [message for message in result.all_messages() if isinstance(message, ModelResponse)]
    assert (response.model_name, response.provider_name) == ("offline", "offline")
    assert (OfflineModel().system, OfflineModel().model_id) == ("offline", "offline:offline")


def test_usage_grows_with_the_text() -> None:
    agent = Agent(OfflineModel())
    _, short = talk(agent, "Hello")
    _, long = talk(agent, "Hello " * 100)
    assert 0 < short.usage.input_tokens < long.usage.input_tokens
    assert 0 < short.usage.output_tokens < long.usage.output_tokens
    assert short.usage.requests == 1


def test_a_limit_of_tokens_stops_a_request_before_it_is_made() -> None:
    agent = Agent(OfflineModel())
    limits = UsageLimits(input_tokens_limit=5, count_tokens_before_request=True)
    assert "You said" in agent.run_sync("Few words", usage_limits=limits).output
    with pytest.raises(UsageLimitExceeded):
        agent.run_sync("One two three four five six", usage_limits=limits)


# ---------------------------------------------------------------- tools


def calculator(**options: Any) -> Agent[None, Any]:
    agent = Agent(OfflineModel(introduce=False), **options)

    @agent.tool_plain
    def add(x: int, y: int) -> int:
        if x < 0:
            raise ModelRetry("x must not be negative")
        return x + y

    return agent


def test_calls_no_tool_unless_told_to() -> None:
    _, result = talk(calculator(), "What is 1 + 2? You may add.")
    assert result.usage.tool_calls == 0


def test_calls_tools_and_reports_what_they_return() -> None:
    (answer,), result = talk(calculator(), 'Please call add {"x": 1, "y": 2}, then call add {"x": 3, "y": 4}.')
    assert answer == "add returned: 3\nadd returned: 7"
    calls = [part for message in result.all_messages() for part in message.parts if isinstance(part, ToolCallPart)]
    assert [call.args_as_dict() for call in calls] == [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
    assert len({call.tool_call_id for call in calls}) == 2
    assert result.usage.requests == 2


def test_calls_again_when_it_is_asked_again() -> None:
    text = 'call add {"x": 1, "y": 2}'
    answers, result = talk(calculator(), text, text)
    assert answers == ["add returned: 3"] * 2
    ids = [p.tool_call_id for m in result.all_messages() for p in m.parts if isinstance(p, ToolCallPart)]
    assert len(set(ids)) == 2


def test_reports_a_tool_that_asks_again() -> None:
    (answer,), _ = talk(calculator(), 'call add {"x": -1, "y": 2}')
    assert answer.startswith("add asked again: x must not be negative")


def test_says_which_tools_there_are() -> None:
    (missing, listed), _ = talk(calculator(), "call subtract {}", "Which tools do you have?")
    assert missing == "I have no tool 'subtract'. My tools are: add."
    assert listed == "My tools are: add."
    assert "no tools" in ask("What tools do you have?")


def test_what_is_not_json_calls_nothing() -> None:
    (answer,), result = talk(calculator(), "call add {x: 1}")
    assert answer == 'You said: "call add {x: 1}"'
    assert result.usage.tool_calls == 0


def test_counts_messages_with_results_of_tools() -> None:
    (_, counted), _ = talk(calculator(), 'call add {"x": 1, "y": 2}', "How many messages were there?")
    assert counted == "Before this one I was given 3 messages: 1 of yours, 1 with results of tools, 1 of mine."


@pytest.mark.parametrize(("approved", "answer"), [(True, "pay returned: paid 5"), (False, "pay was denied: ")])
def test_goes_on_after_a_decision(approved: bool, answer: str) -> None:
    agent: Agent[None, Any] = Agent(OfflineModel(introduce=False), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def pay(amount: int) -> str:
        return f"paid {amount}"

    paused = agent.run_sync('call pay {"amount": 5}')
    assert isinstance(paused.output, DeferredToolRequests)
    (call,) = paused.output.approvals
    decided = agent.run_sync(
        message_history=paused.all_messages(),
        deferred_tool_results=DeferredToolResults(approvals={call.tool_call_id: approved}),
    )
    assert decided.output.startswith(answer)


# ---------------------------------------------------------------- structured outputs


class Node(BaseModel):
    name: str = Field(min_length=3, max_length=8)
    age: int = Field(ge=18)
    share: float = Field(gt=0, lt=3)
    kind: Literal["leaf", "branch"]
    wide: bool
    tags: list[str] = Field(min_length=2)
    parent: Node | None
    point: tuple[int, str]
    note: str = "none"


@pytest.mark.parametrize("output", [Node, NativeOutput(Node), PromptedOutput(Node)])
def test_fills_structured_outputs(output: Any) -> None:
    result = Agent(OfflineModel(), output_type=output).run_sync("A leaf, please")
    assert isinstance(result.output, Node)
    assert (result.output.kind, result.output.note) == ("leaf", "none")


@pytest.mark.parametrize(("output", "value"), [(bool, False), (int, 0), (list[int], []), ([str, Node], "Hi.")])
def test_fills_other_outputs(output: Any, value: Any) -> None:
    result = Agent(OfflineModel(introduce=False), output_type=output).run_sync("Summarize:\nHi.")
    assert result.output == ("Summary: Hi." if value == "Hi." else value)


# ---------------------------------------------------------------- streams


async def streamed(agent: Agent[None, Any], text: str) -> tuple[list[str], Any]:
    async with agent.run_stream(text) as result:
        return [delta async for delta in result.stream_text(delta=True, debounce_by=None)], result.usage


def test_streams_the_same_answer_word_by_word() -> None:
    text = "What is the capital of France?"
    agent = Agent(OfflineModel())
    (answer,), result = talk(agent, text)
    deltas, usage = asyncio.run(streamed(agent, text))
    assert "".join(deltas) == answer
    assert len(deltas) > 10
    assert (usage.input_tokens, usage.output_tokens) == (result.usage.input_tokens, result.usage.output_tokens)


def test_streams_calls_of_tools() -> None:
    deltas, usage = asyncio.run(streamed(calculator(), 'call add {"x": 1, "y": 2}'))
    assert "".join(deltas) == "add returned: 3"
    assert usage.tool_calls == 1
