"""Streams: text and events as they come, the result at the end, and what is stored of a stream that is left."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent as BareAgent
from pydantic_ai import ModelRetry, RunContext, Tool
from pydantic_ai.exceptions import ModelAPIError
from pydantic_ai.messages import FinalResultEvent, FunctionToolCallEvent, PartStartEvent
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import script
from tests.model_server import ModelServer

from sessile import ANY_USER, Agent, SqliteStorage, session_state
from sessile.errors import InvalidInputError, SessileError, SessionNotFoundError

FRANCE = "What is the capital of France?"
ANSWER = "The capital of France is Paris."
LAST = "What was my last question?"


def test_text_as_it_comes(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)
    stream = agent.stream(FRANCE, session_id="s1", user_id="ada", run_metadata={"n": 1})
    pieces = list(stream)
    assert len(pieces) > 1
    assert "".join(pieces) == stream.result.output == ANSWER
    (run,) = storage.runs("s1", user_id="ada")
    assert (run.output, run.run_id, run.metadata) == (ANSWER, stream.result.run_id, {"n": 1})
    assert "".join(agent.stream(LAST, session_id="s1", user_id="ada")) == f"Your last question was: {FRANCE}"


async def test_text_as_it_comes_asynchronously(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    stream = agent.astream(FRANCE)
    assert "".join([piece async for piece in stream]) == stream.result.output == ANSWER
    assert (await storage.aruns("s1"))[0].output == ANSWER


async def test_a_synchronous_stream_where_an_event_loop_runs(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    assert "".join(Agent(model, storage=storage).stream(FRANCE)) == ANSWER


def test_without_a_session_id_the_result_names_the_new_one(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    stream = Agent(model, storage=storage).stream(FRANCE)
    list(stream)
    assert storage.runs(stream.result.session_id)[0].input == FRANCE


def test_a_stream_without_a_storage(model: OpenAIChatModel) -> None:
    stream = Agent(model).stream(FRANCE)
    assert "".join(stream) == stream.result.output == ANSWER


def test_events(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    stream = Agent(model, storage=storage, tools=[add]).stream('call add {"a": 1, "b": 2}', events=True)
    events = list(stream)
    kinds = [type(event) for event in events]
    assert FunctionToolCallEvent in kinds
    assert kinds.index(PartStartEvent) < kinds.index(FunctionToolCallEvent) < kinds.index(FinalResultEvent)
    assert stream.result.output == "Tool results: add=3"


def test_text_before_and_after_a_tool(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    stream = Agent(model, storage=storage, tools=[add]).stream('call add {"a": 1, "b": 2}')
    assert "".join(stream) == "Tool results: add=3"


class City(BaseModel):
    """An answer with more than one field, so that it comes in pieces."""

    name: str
    country: str = "?"
    rivers: list[str] = []


CITY = '[slow 0.01] A city\noutput {"name": "Paris", "country": "France", "rivers": ["Seine", "Marne"]}'
WHOLE = City(name="Paris", country="France", rivers=["Seine", "Marne"])


def test_structured_output_comes_as_far_as_it_is(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    stream = Agent(model, storage=storage, output_type=City).stream(CITY)
    cities = list(stream)
    assert all(isinstance(city, City) for city in cities)
    assert len(cities) > 2, "it came in pieces"
    assert cities[0] != WHOLE
    assert cities[-1] == stream.result.output == WHOLE
    assert [len(city.rivers) for city in cities] == sorted(len(city.rivers) for city in cities)


async def test_partial_objects_are_those_of_pydantic_ai(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    async with BareAgent(model, output_type=City).run_stream(CITY) as bare:
        theirs = [city async for city in bare.stream_output(debounce_by=None)]
    ours = [city async for city in Agent(model, storage=storage, output_type=City).astream(CITY)]
    assert {city.model_dump_json() for city in ours} <= {city.model_dump_json() for city in theirs}
    assert ours[-1] == theirs[-1]


def test_a_mixed_output_grows_whatever_it_is(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent: Agent[City | str] = Agent(model, storage=storage, output_type=[City, str])
    texts = list(agent.stream(FRANCE))
    assert texts[-1] == ANSWER
    assert all(isinstance(text, str) and ANSWER.startswith(text) for text in texts)
    assert len(texts) > 1  # parts that come together are told together
    assert list(agent.stream(CITY))[-1] == WHOLE


def test_an_output_of_one_run_only(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)
    assert list(agent.stream(CITY, output_type=City))[-1] == WHOLE
    assert "".join(agent.stream(FRANCE)) == ANSWER


def test_a_function_that_makes_the_output_is_called_once(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    asked: list[str] = []

    def book(name: str, country: str = "?", rivers: list[str] | None = None) -> City:
        asked.append(name)
        return City(name=f"booked {name}")

    for durability in ("run", "step"):
        stream = Agent(model, storage=storage, output_type=book, durability=durability).stream(CITY)
        assert list(stream) == [City(name="booked Paris")]
    assert asked == ["Paris", "Paris"]


def test_an_output_validator_sees_what_is_not_whole_as_such(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    ready = BareAgent(model, output_type=City)

    @ready.output_validator
    def check(ctx: RunContext[None], city: City) -> City:
        if len(city.rivers) < 2 and not ctx.partial_output:
            raise ModelRetry("Name two rivers.")
        return city

    stream = Agent(ready, storage=storage).stream(CITY)
    assert list(stream)[-1] == WHOLE
    assert stream.result.usage.requests == 1


def test_an_answer_that_was_stored_comes_at_once(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1", output_type=City)
    agent.run(CITY, run_id="r1")
    assert list(agent.stream(CITY, run_id="r1")) == [WHOLE]


def test_a_paused_run_has_no_output_in_its_stream(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    def pay(amount: int) -> str:
        return "paid"

    agent = Agent(model, storage=storage, output_type=City, tools=[Tool(pay, requires_approval=True)])
    stream = agent.stream('call pay {"amount": 1}')
    assert list(stream) == []
    assert stream.result.status == "paused"


def test_the_first_piece_is_there_before_the_last_is_sent(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    stream = Agent(model, storage=storage, session_id="s1").stream("[hang-stream] one two three")
    pieces = iter(stream)
    first = next(pieces)
    server.wait_for_hanging()
    assert "You said: [hang-stream] one two three".startswith(first)
    assert storage.runs("s1")[0].status == "running"
    with pytest.raises(SessileError, match="not ended"):
        _ = stream.result
    server.release()
    assert first + "".join(pieces) == "You said: [hang-stream] one two three"


def test_a_stream_is_iterated_over_once(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    stream = agent.stream(FRANCE)
    list(stream)
    with pytest.raises(SessileError, match="only once"):
        list(stream)
    assert len(storage.runs("s1")) == 1


async def test_an_asynchronous_stream_is_iterated_over_once(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    stream = Agent(model, storage=storage).astream(FRANCE)
    with pytest.raises(SessileError, match="not ended"):
        _ = stream.result
    async for _ in stream:
        pass
    with pytest.raises(SessileError, match="only once"):
        async for _ in stream:
            pass


def test_a_stream_has_its_own_handler(model: OpenAIChatModel) -> None:
    async def handler(ctx: Any, events: Any) -> None:
        pass

    with pytest.raises(InvalidInputError, match="event_stream_handler"):
        Agent(model).stream(FRANCE, event_stream_handler=handler)


# ---------------------------------------------------------------- left, closed, cancelled, failed


def test_closing_a_stream_stores_what_is_there(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    with agent.stream("[hang-stream] one two three four") as stream:
        first = next(iter(stream))
        server.wait_for_hanging()
    (run,) = storage.runs("s1")
    assert (run.status, run.input) == ("interrupted", "[hang-stream] one two three four")
    with pytest.raises(SessileError, match="interrupted"):
        _ = stream.result
    kept = [part for message in run.messages for part in message.data["parts"]]
    assert first in str(kept)
    server.release()
    assert agent.run(LAST).status == "completed"


async def test_leaving_an_asynchronous_stream_cancels_it(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    async with agent.astream("[hang-stream] one two three four") as stream:
        async for _ in stream:
            break
        await asyncio.to_thread(server.wait_for_hanging)
    assert (await storage.aruns("s1"))[0].status == "interrupted"
    with pytest.raises(SessileError, match="interrupted"):
        _ = stream.result


async def test_cancelling_a_task_that_reads_a_stream(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1", state={"read": 0})

    async def read() -> None:
        async with agent.astream("[hang-stream] one two three four") as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(read())
    await asyncio.to_thread(server.wait_for_hanging)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await storage.aruns("s1"))[0].status == "interrupted"


def test_a_stream_that_is_left_alone_goes_on(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, session_id="s1", on_busy="queue")
    for _ in agent.stream("[hang-stream] one two three four"):
        break
    server.wait_for_hanging()
    server.release()
    assert agent.run(LAST).output == "Your last question was: [hang-stream] one two three four"
    assert [run.status for run in storage.runs("s1")] == ["completed", "completed"]


def test_a_stream_that_was_never_begun(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    stream = Agent(model, storage=storage).stream(FRANCE)
    stream.close()
    with pytest.raises(SessileError, match="not ended"):
        _ = stream.result
    assert len(storage.sessions(user_id=ANY_USER)) == 0


async def test_an_asynchronous_stream_that_was_never_begun(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    await Agent(model, storage=storage).astream(FRANCE).aclose()
    assert len(await storage.asessions(user_id=ANY_USER)) == 0


def test_a_cut_stream_is_a_failed_run(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage, session_id="s1")
    stream = agent.stream("[cut-stream] one two three four")
    pieces: list[str] = []
    with pytest.raises(ModelAPIError) as caught:
        pieces.extend(stream)
    assert "".join(pieces) == "You said: [cut-stream] one "
    with pytest.raises(ModelAPIError):
        _ = stream.result
    (run,) = storage.runs("s1")
    assert (run.status, run.error and run.error["type"]) == ("failed", type(caught.value).__name__)
    assert agent.run(FRANCE).output == ANSWER


def test_state_that_a_tool_has_set_is_kept_when_the_stream_is_closed(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    def remember(word: str) -> str:
        session_state()["word"] = word
        return word

    server.plan("ok", "hang-stream")
    agent = Agent(model, storage=storage, session_id="s1", tools=[remember])
    with agent.stream('call remember {"word": "blue"}') as stream:
        next(iter(stream))
    server.release()
    head = storage.get_session("s1")
    assert head is not None
    assert (head.status, head.state) == ("interrupted", {"word": "blue"})


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals like these")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", -2), ("SIGTERM", 143)])
def test_a_signal_while_waiting_for_the_next_piece(
    server: ModelServer, tmp_path: Path, path: Path, name: str, code: int
) -> None:
    body = f"""
import os, threading, time
main, seen = threading.main_thread().ident, []

def signal_when_waiting():
    # All that comes before the server hangs has come, and the program is inside the stream, waiting for more.
    while "".join(seen) != "You said: [hang-stream] one " or not waiting(sys._current_frames()[main]):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.{name})

def waiting(frame):
    return frame.f_code.co_filename.endswith("streams.py")

threading.Thread(target=signal_when_waiting).start()
for piece in Agent(model, storage=storage).stream("[hang-stream] one two three four", session_id="s1"):
    seen.append(piece)
"""
    _, err = (process := script(tmp_path, body, server, path)).communicate()
    assert process.returncode == code, err
    with SqliteStorage(path) as storage:
        assert storage.runs("s1")[0].status == "interrupted"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals like these")
def test_sigterm_while_the_block_of_a_stream_is_busy(server: ModelServer, tmp_path: Path, path: Path) -> None:
    body = """
import time
with Agent(model, storage=storage).stream("[hang-stream] one two three four", session_id="s1") as stream:
    for piece in stream:
        print(piece, flush=True)
        time.sleep(60)
"""
    process = script(tmp_path, body, server, path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143, err
    with SqliteStorage(path) as storage:
        assert storage.runs("s1")[0].status == "interrupted"


def test_a_stream_leaves_the_handler_of_sigterm_as_it_was(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Agent(model, storage=storage).stream(FRANCE) as stream:
        assert "".join(stream) == ANSWER
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a program can handle")
def test_sigterm_during_an_asynchronous_stream(server: ModelServer, tmp_path: Path, path: Path) -> None:
    body = """
async def main():
    async for _ in Agent(model, storage=storage).astream("[hang-stream] one two three four", session_id="s1"):
        pass
asyncio.run(main())
"""
    process = script(tmp_path, body, server, path)
    server.wait_for_hanging()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 143, err
    with SqliteStorage(path) as storage:
        assert storage.runs("s1")[0].status == "interrupted"


# ---------------------------------------------------------------- the beginning


async def test_a_stream_that_is_entered_has_begun(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)
    stream = agent.astream("Hello", session_id="s1")
    with pytest.raises(SessileError, match="not begun"):
        _ = stream.run_id
    async with stream:
        (run,) = await storage.aruns("s1")
        assert (stream.session_id, stream.run_id, stream.number) == ("s1", run.run_id, 1)
        assert "".join([text async for text in stream]) == stream.result.output
    assert stream.result.run_id == stream.run_id


async def test_what_keeps_a_run_from_beginning_is_raised_at_once(
    model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage)
    await agent.arun("Hello", session_id="s1", user_id="ada")
    with pytest.raises(SessionNotFoundError):
        async with agent.astream("Hello", session_id="s1", user_id="eve"):
            pytest.fail("a response would have begun")
    with pytest.raises(SessionNotFoundError), agent.stream("Hello", session_id="s1", user_id="eve"):
        pytest.fail("a response would have begun")


def test_a_synchronous_stream_that_is_entered_has_begun(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    with Agent(model, storage=storage).stream("Hello", session_id="s1", run_id="r1") as stream:
        assert (stream.session_id, stream.run_id, stream.number) == ("s1", "r1", 1)
        text = "".join(stream)
    with Agent(model, storage=storage).stream("Hello", session_id="s1", run_id="r1") as again:  # what is stored
        assert (again.session_id, again.run_id, again.number) == ("s1", "r1", 1)
        assert "".join(again) == text
    with Agent(model).stream("Hello", session_id="s1") as alone:
        assert (alone.session_id, alone.number) == ("s1", 0)
