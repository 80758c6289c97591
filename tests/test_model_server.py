"""The test model server, driven by Pydantic AI's real OpenAI client over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from enum import Enum
from typing import Any, Literal, TypeVar

import pytest

pytest.importorskip("openai")
pytest.importorskip("pydantic_ai")

from openai import APIConnectionError, AsyncOpenAI, RateLimitError
from pydantic import BaseModel, Field
from pydantic_ai import Agent, ModelRetry, NativeOutput
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.messages import ModelMessage, ToolCallPart, ToolReturnPart
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.model_server import Behaviour, Call, ModelServer, Reply, count_tokens
from tests.model_server.schema import generate

T = TypeVar("T")
Model = OpenAIChatModel | OpenAIResponsesModel
PROTOCOLS = ("chat", "responses")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


opened: list[AsyncOpenAI] = []
"""The clients that the next `run` closes at its end."""


def client(base_url: str, max_retries: int = 0) -> AsyncOpenAI:
    """A client that shows every failure at once, unless it is told to try again."""
    # Connecting has a limit of its own, of 5 s: a busy machine may need more for many at once.
    opened.append(AsyncOpenAI(base_url=base_url, api_key="test", max_retries=max_retries, timeout=600))
    return opened[-1]


def model_at(base_url: str, protocol: str, max_retries: int = 0) -> Model:
    provider = OpenAIProvider(openai_client=client(base_url, max_retries))
    made = OpenAIChatModel if protocol == "chat" else OpenAIResponsesModel
    return made("gpt-test", provider=provider)


def model(server: ModelServer, protocol: str) -> Model:
    return model_at(server.base_url, protocol)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in an event loop of its own, and close the clients there."""

    async def whole() -> T:
        try:
            return await work
        finally:
            while opened:
                await opened.pop().close()

    return asyncio.run(whole())


async def talk(agent: Agent[None, Any], *prompts: str) -> tuple[list[Any], list[ModelMessage]]:
    """All prompts in one conversation; returns the outputs and the whole history."""
    history: list[ModelMessage] = []
    outputs: list[Any] = []
    for prompt in prompts:
        result = await agent.run(prompt, message_history=history)
        outputs.append(result.output)
        history = result.all_messages()
    return outputs, history


def calls(history: list[ModelMessage]) -> list[ToolCallPart]:
    return [part for message in history for part in message.parts if isinstance(part, ToolCallPart)]


def results(history: list[ModelMessage]) -> list[ToolReturnPart]:
    return [part for message in history for part in message.parts if isinstance(part, ToolReturnPart)]


def calculator(model: Model) -> Agent[None, str]:
    agent = Agent(model)

    @agent.tool_plain
    def add(a: int, b: int) -> int:
        return a + b

    @agent.tool_plain
    def multiply(a: int, b: int) -> int:
        return a * b

    @agent.tool_plain(retries=1)
    def fail(reason: str) -> str:
        raise ModelRetry(reason)

    return agent


# Answers


def test_answers_from_the_history_that_arrives(server: ModelServer, protocol: str) -> None:
    agent = Agent(model(server, protocol))
    outputs, _ = run(
        talk(
            agent,
            "What was my last question?",
            "What is the capital of France?",
            "What was my last question?",
            "What is my name?",
            "Hi, my name is Ada Lovelace.",
            "What is my name?",
            "How many messages do you see?",
            "Just a remark",
            "What is the capital of Atlantis?",
        )
    )
    assert outputs == [
        "You have not asked anything before.",
        "The capital of France is Paris.",
        "Your last question was: What is the capital of France?",
        "I do not know your name.",
        "You said: Hi, my name is Ada Lovelace.",
        "Your name is Ada Lovelace.",
        "I see 13 messages: 7 user, 6 assistant, 0 tool.",
        "You said: Just a remark",
        "I do not know the capital of Atlantis.",
    ]


def test_no_memory_between_requests(server: ModelServer, protocol: str) -> None:
    async def work() -> str:
        agent = Agent(model(server, protocol))
        await agent.run("my name is Ada")
        return (await agent.run("What is my name?")).output

    assert run(work()) == "I do not know your name."


def test_provider_with_base_url(server: ModelServer) -> None:
    async def work() -> str:
        provider = OpenAIProvider(base_url=server.base_url, api_key="test")
        async with Agent(OpenAIChatModel("gpt-test", provider=provider)) as agent:
            result = await agent.run("Hello")
        await provider.client.close()
        return result.output

    assert run(work()) == "You said: Hello"
    assert server.requests[0].headers["authorization"] == "Bearer test"


def test_instructions_and_system_prompts_arrive(server: ModelServer, protocol: str) -> None:
    agent = Agent(model(server, protocol), instructions="Be brief.", system_prompt="You are Sessile.")
    text = run(talk(agent, "Show your instructions"))[0][0]
    assert sorted(text.split("\n")) == ["Be brief.", "You are Sessile."]


def test_summaries(server: ModelServer, protocol: str) -> None:
    async def work() -> list[str]:
        plain = Agent(model(server, protocol))
        (_, _, asked), history = await talk(plain, "One " * 20, "Two", "Please summarize our talk.")
        told = Agent(model(server, protocol), instructions="Summarize the conversation.")
        return [asked, (await told.run("More", message_history=history[:2])).output]

    first = ("One " * 20)[:40]
    assert run(work()) == [
        f"Summary of 2 user messages: {first}; Two",
        f"Summary of 2 user messages: {first}; More",
    ]


def test_usage_is_counted_from_the_text(server: ModelServer, protocol: str) -> None:
    async def work() -> None:
        agent = Agent(model(server, protocol), instructions="Be brief.")
        result = await agent.run("Hello, world!")
        assert result.usage.input_tokens == count_tokens("Be brief.") + count_tokens("Hello, world!") == 7
        assert result.usage.output_tokens == count_tokens("You said: Hello, world!") == 7

    run(work())


# Streams


def test_stream_has_the_same_text_and_usage(server: ModelServer, protocol: str) -> None:
    async def work() -> None:
        agent = Agent(model(server, protocol))
        plain = await agent.run("Tell  me\nsomething ü")
        async with agent.run_stream("Tell  me\nsomething ü") as streamed:
            deltas = [delta async for delta in streamed.stream_text(delta=True, debounce_by=None)]
        assert len(deltas) == 6
        assert "".join(deltas) == plain.output == "You said: Tell  me\nsomething ü"
        assert streamed.usage.input_tokens == plain.usage.input_tokens
        assert streamed.usage.output_tokens == plain.usage.output_tokens

    run(work())
    assert [request.body.get("stream") for request in server.requests] == [False, True]


def test_slow_stream_still_arrives_whole(server: ModelServer, protocol: str) -> None:
    async def work() -> str:
        async with Agent(model(server, protocol)).run_stream("[slow 0.005] Hello") as streamed:
            return str(await streamed.get_output())

    assert run(work()) == "You said: [slow 0.005] Hello"


def test_chat_usage_only_on_request(server: ModelServer) -> None:
    async def work(**options: Any) -> list[Any]:
        stream = await client(server.base_url).chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hi"}], stream=True, **options
        )
        return [chunk async for chunk in stream]

    without, with_usage = run(work()), run(work(stream_options={"include_usage": True}))
    assert all(chunk.usage is None for chunk in without)
    assert len(with_usage) == len(without) + 1
    assert with_usage[-1].choices == []
    assert with_usage[-1].usage.total_tokens == 5
    assert without[-1].choices[0].finish_reason == "stop"


def test_responses_events_are_complete(server: ModelServer) -> None:
    async def work() -> list[Any]:
        stream = await client(server.base_url).responses.create(model="m", input="call add {}", stream=True)
        return [event async for event in stream]

    events = run(work())
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(7))
    assert events[-1].response.output == [events[-2].item]


# Tools


def test_parallel_calls(server: ModelServer, protocol: str) -> None:
    prompt = 'Do this:\ncall add {"a": 1, "b": 2}\ncall add {"a": 1, "b": 2}\ncall multiply {"a": 3, "b": 4}'
    outputs, history = run(talk(calculator(model(server, protocol)), prompt))
    assert outputs == ["Tool results: add=3; add=3; multiply=12"]
    assert len(server.requests) == 2
    assert len({call.tool_call_id for call in calls(history)}) == 3


def test_sequential_calls(server: ModelServer, protocol: str) -> None:
    prompt = 'call add {"a": 1, "b": 2}\nthen call multiply {"a": 3, "b": 4}\nthen call add {"a": 5, "b": 5}'
    outputs, history = run(talk(calculator(model(server, protocol)), prompt))
    assert outputs == ["Tool results: add=3; multiply=12; add=10"]
    assert len(server.requests) == 4
    assert [result.content for result in results(history)] == [3, 12, 10]


def test_call_ids_repeat_for_the_same_history_only(server: ModelServer, protocol: str) -> None:
    async def work() -> list[list[str]]:
        agent = calculator(model(server, protocol))
        prompts = ['call add {"a": 1, "b": 2}'] * 3
        histories = [(await talk(agent, *prompts))[1] for _ in range(2)]
        return [[call.tool_call_id for call in calls(history)] for history in histories]

    first, second = run(work())
    assert first == second
    assert len(set(first)) == 3


def test_streamed_calls(server: ModelServer, protocol: str) -> None:
    async def work() -> str:
        first = 'call add {"a": 10000, "b": 20000}\ncall multiply {"a": 3, "b": 4}'
        prompt = first + '\nthen call add {"a": 1, "b": 1}'
        async with calculator(model(server, protocol)).run_stream(prompt) as streamed:
            return str(await streamed.get_output())

    assert run(work()) == "Tool results: add=30000; multiply=12; add=2"
    assert len(server.requests) == 3


def test_tool_errors_come_back_as_results(server: ModelServer, protocol: str) -> None:
    prompt = 'call fail {"reason": "not today"}\nthen call add {"a": 1, "b": "x"}'
    outputs, _ = run(talk(calculator(model(server, protocol)), prompt))
    assert outputs[0].index("fail=") < outputs[0].index("not today") < outputs[0].index("add=")
    assert "valid integer" in outputs[0]


def test_calls_of_earlier_messages_are_not_repeated(server: ModelServer, protocol: str) -> None:
    outputs, _ = run(talk(calculator(model(server, protocol)), 'call add {"a": 1, "b": 2}', "Thanks"))
    assert outputs == ["Tool results: add=3", "You said: Thanks"]


# Structured output


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class City(BaseModel):
    name: str
    population: int = Field(ge=1000)
    area: float
    capital: bool
    colour: Colour
    kind: Literal["port", "inland"]
    twins: list[City]
    mayor: str | None
    tags: dict[str, str]
    answer: str


def test_output_tool(server: ModelServer, protocol: str) -> None:
    outputs, history = run(talk(Agent(model(server, protocol), output_type=City), "Hello", "What is my name?"))
    assert (outputs[0].name, outputs[0].population, outputs[0].colour) == ("name", 1000, Colour.RED)
    assert [output.answer for output in outputs] == ["You said: Hello", "I do not know your name."]
    assert {call.tool_name for call in calls(history)} == {"final_result"}


def test_output_fields_from_the_message(server: ModelServer, protocol: str) -> None:
    prompt = 'Make one.\noutput {"name": "Paris", "capital": false}'
    city = run(talk(Agent(model(server, protocol), output_type=City), prompt))[0][0]
    assert (city.name, city.capital, city.kind) == ("Paris", False, "port")


def test_output_after_tools_and_streamed(server: ModelServer, protocol: str) -> None:
    class Sum(BaseModel):
        result: str

    async def work() -> Sum:
        agent = Agent(model(server, protocol), output_type=Sum)
        agent.tool_plain(add)
        async with agent.run_stream('call add {"a": 1, "b": 2}') as streamed:
            return await streamed.get_output()

    def add(a: int, b: int) -> int:
        return a + b

    assert run(work()).result == "Tool results: add=3"


def test_text_or_output_tool(server: ModelServer, protocol: str) -> None:
    class Note(BaseModel):
        text: str

    agent: Agent[None, Any] = Agent(model(server, protocol), output_type=[str, Note])
    outputs, _ = run(talk(agent, "Hello", "What is the capital of Italy?"))
    assert outputs == [Note(text="You said: Hello"), "The capital of Italy is Rome."]


def test_native_output(server: ModelServer, protocol: str) -> None:
    city = run(talk(Agent(model(server, protocol), output_type=NativeOutput(City)), "Hello"))[0][0]
    assert city.answer == "You said: Hello"
    assert city.twins


def test_schema_values() -> None:
    schema = {
        "type": "object",
        "properties": {
            "low": {"type": "integer", "exclusiveMinimum": 7},
            "high": {"type": "number", "maximum": 0.5},
            "five": {"type": "integer", "multipleOf": 5},
            "code": {"type": "string", "minLength": 6, "maxLength": 6},
            "day": {"type": "string", "format": "date"},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}]},
            "both": {"allOf": [{"$ref": "#/$defs/A"}, {"properties": {"b": {"const": 2}}}]},
        },
        "$defs": {"A": {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}}},
    }
    assert generate(schema, "") == {
        "low": 8,
        "high": 0.5,
        "five": 5,
        "code": "codexx",
        "day": "2024-01-02",
        "pair": [1, True],
        "both": {"a": "x", "b": 2},
    }


# Failures and delays


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [429, 500, 401])
def test_error_statuses(server: ModelServer, protocol: str, status: int, stream: bool) -> None:
    async def work() -> None:
        agent = Agent(model(server, protocol))
        if not stream:
            await agent.run(f"[{status}] Hello")
        else:
            async with agent.run_stream(f"[{status}] Hello") as streamed:
                await streamed.get_output()

    with pytest.raises(ModelHTTPError) as caught:
        run(work())
    assert caught.value.status_code == status
    assert [request.outcome for request in server.wait_for_idle()] == ["error"]


def test_rate_limit_as_the_client_sees_it(server: ModelServer) -> None:
    async def work() -> None:
        await client(server.base_url).responses.create(model="m", input="[429 7] Hello")

    with pytest.raises(RateLimitError) as caught:
        run(work())
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.code == "rate_limit_exceeded"


def test_the_client_tries_again_by_itself(server: ModelServer, protocol: str) -> None:
    async def work() -> str:
        return (await Agent(model_at(server.base_url, protocol, max_retries=2)).run("Hello")).output

    server.plan(Behaviour(status=429, retry_after="0.01"), "cut")
    assert run(work()) == "You said: Hello"
    assert [request.outcome for request in server.wait_for_idle()] == ["error", "cut", "answered"]


@pytest.mark.parametrize("mark", ["[cut]", "[cut-stream]"])
def test_cut_connection(server: ModelServer, protocol: str, mark: str) -> None:
    with pytest.raises(ModelAPIError) as caught:
        run(talk(Agent(model(server, protocol)), mark))
    assert isinstance(caught.value.__cause__, APIConnectionError)
    assert server.wait_for_idle()[0].outcome == "cut"


def test_cut_in_the_middle_of_a_stream(server: ModelServer, protocol: str) -> None:
    seen: list[str] = []

    async def work() -> None:
        async with Agent(model(server, protocol)).run_stream("[cut-stream] one two three four") as streamed:
            async for delta in streamed.stream_text(delta=True, debounce_by=None):
                seen.append(delta)

    with pytest.raises(ModelAPIError):
        run(work())
    assert "".join(seen) == "You said: [cut-stream] one "
    assert server.wait_for_idle()[0].outcome == "cut"


def test_cut_between_tool_calls(server: ModelServer, protocol: str) -> None:
    server.plan("ok", "cut-stream")
    with pytest.raises(ModelAPIError):
        run(talk(calculator(model(server, protocol)), 'call add {"a": 1, "b": 2}'))
    assert [request.outcome for request in server.wait_for_idle()] == ["answered", "cut"]


def test_hang_until_released(server: ModelServer, protocol: str) -> None:
    async def work() -> list[str]:
        agent = Agent(model(server, protocol))
        hanging = [asyncio.create_task(agent.run(f"[hang] {number}")) for number in range(3)]
        await asyncio.to_thread(server.wait_for_hanging, 3)
        assert (await agent.run("Others are served")).output == "You said: Others are served"
        assert not any(task.done() for task in hanging)
        server.release()
        return [result.output for result in await asyncio.gather(*hanging)]

    assert run(work()) == [f"You said: [hang] {number}" for number in range(3)]


def test_hang_in_the_middle_of_a_stream_and_leave(server: ModelServer, protocol: str) -> None:
    async def work() -> str:
        async with Agent(model(server, protocol)).run_stream("[hang-stream] one two") as streamed:
            deltas = streamed.stream_text(delta=True, debounce_by=None)
            seen = await anext(deltas)
            await asyncio.to_thread(server.wait_for_hanging)
            server.release()
            async for delta in deltas:
                seen += delta
            return seen

    assert run(work()) == "You said: [hang-stream] one two"


def test_closing_cuts_what_hangs(protocol: str) -> None:
    async def work(server: ModelServer) -> None:
        task = asyncio.create_task(Agent(model(server, protocol)).run("[hang]"))
        await asyncio.to_thread(server.wait_for_hanging)
        await asyncio.to_thread(server.close)
        with pytest.raises(ModelAPIError):
            await task

    with ModelServer() as server:
        run(work(server))


def test_a_cancelled_request_leaves_the_server_working(server: ModelServer, protocol: str) -> None:
    async def work() -> str:
        agent = Agent(model(server, protocol))
        task = asyncio.create_task(agent.run("[hang]"))
        await asyncio.to_thread(server.wait_for_hanging)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.release()
        return (await agent.run("[delay 0.01] Still there?")).output

    assert run(work()) == "You said: [delay 0.01] Still there?"


# Plans, records, concurrency


def test_plans_are_taken_in_order(server: ModelServer, protocol: str) -> None:
    server.plan(
        "500",
        Reply("Something else"),
        Reply(calls=(Call("call_1", "add", '{"a": 2, "b": 2}'),)),
        "ok",
    )

    async def work() -> list[str]:
        agent = calculator(model(server, protocol))
        with pytest.raises(ModelHTTPError):
            await agent.run("Hello")
        return [(await agent.run("Hello")).output for _ in range(2)]

    assert run(work()) == ["Something else", "You said: Hello"]
    with pytest.raises(ValueError, match="no behaviour"):
        server.plan("explode")


def test_record_and_reset(server: ModelServer, protocol: str) -> None:
    run(talk(Agent(model(server, protocol)), "Hello"))
    (request,) = server.requests
    assert request.path == {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[protocol]
    assert request.body["model"] == "gpt-test"
    assert request.headers["content-type"] == "application/json"
    server.plan("500")
    server.reset()
    assert server.requests == []
    assert run(talk(Agent(model(server, protocol)), "Hello"))[0] == ["You said: Hello"]


def test_many_at_once(server: ModelServer, protocol: str) -> None:
    async def work() -> list[str]:
        agent = calculator(model(server, protocol))

        async def one(number: int) -> str:
            return (await agent.run(f'call add {{"a": {number}, "b": 1}}')).output

        return await asyncio.gather(*(one(number) for number in range(100)))

    assert run(work()) == [f"Tool results: add={number + 1}" for number in range(100)]
    assert len(server.requests) == 200
