"""What a redaction takes out is written nowhere; what the log needs stays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import TextOutput, Tool, ToolApproved, ToolOutput
from pydantic_ai.capabilities import AbstractCapability, WrapOutputProcessHandler
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, MemoryStorage, SqliteStorage, Workflow
from sessile.errors import InvalidInputError, InvalidStateError, StepFailedError
from sessile.redaction import Patterns
from sessile.workflows import Context

MAIL = "ada@example.com"


def everything(storage: Any, session_id: str, **who: Any) -> str:
    head = storage.get_session(session_id, **who)
    logged = [[entry.kind, entry.data, entry.more] for entry in storage.entries(session_id, **who)]
    return json.dumps([logged, head.state, head.name, head.metadata])


def test_nothing_of_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SqliteStorage(path, redact=Patterns("mail")) as storage:
        storage.create_session("s1", name=f"of {MAIL}", metadata={"from": MAIL}, state={"mail": MAIL, "keep": 1})
        part = {"part_kind": "user-prompt", "content": [f"I am {MAIL}."], "timestamp": "2026-01-01T00:00:00Z"}
        call = {"part_kind": "tool-call", "tool_name": "send", "tool_call_id": "c1", "args": json.dumps({"to": MAIL})}
        storage.add_run(
            "s1",
            input=f"I am {MAIL}.",
            output={"to": [MAIL]},
            messages=[{"kind": "request", "parts": [part]}, {"kind": "response", "parts": [call]}],
            format="pydantic-ai/2",
            metadata={"note": MAIL},
            state={"last": MAIL},
        )
        storage.add_run(
            "s1", input="x", messages=[{"role": "user", "content": MAIL, "id": MAIL}], format="openai", status="failed",
            error={"type": "Error", "message": MAIL},
        )  # fmt: skip
        storage.rename("s1", MAIL)
        storage.rate("s1", 1, score=1.0, comment=MAIL, correction=MAIL)
        storage.verify("s1")
        shown = everything(storage, "s1")
        assert shown.count(MAIL) == 1  # an id is an id
        assert '{"redacted": ' in shown
        head = storage.get_session("s1")
        assert head is not None
        assert (head.name, head.metadata) == ("[mail]", {"from": "[mail]"})
        assert head.state == {"mail": "[mail]", "keep": 1, "last": "[mail]"}
        first = storage.runs("s1")[0]
        assert (first.input, first.output) == ("I am [mail].", {"to": ["[mail]"]})
        assert json.loads(first.messages[1].data["parts"][0]["args"]) == {"to": "[mail]"}
        assert first.messages[0].data["parts"][0]["timestamp"] == "2026-01-01T00:00:00Z"
        assert storage.fork("s1", session_id="s2").state["last"] == "[mail]"
    assert path.read_bytes().count(MAIL.encode()) <= 2  # the id, in the session and its fork


def test_an_agent_goes_on_with_what_was_stored() -> None:
    heard: list[str] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        heard.append(str(messages))
        if len(heard) == 1:
            return ModelResponse([ToolCallPart("look", {"who": MAIL}, "c1")])
        return ModelResponse([TextPart(f"Hello {MAIL}.")])

    storage = MemoryStorage(redact=Patterns("mail"))

    def look(who: str) -> str:
        return f"{who} lives in London."

    agent = Agent(FunctionModel(answer), storage=storage, tools=[look])
    result = agent.run(f"I am {MAIL}.", session_id="s1", run_id="r1")
    assert result.output == f"Hello {MAIL}."  # to the caller as it was said
    assert f"{MAIL} lives" in heard[1]
    assert MAIL not in everything(storage, "s1")
    again = agent.run(f"I am {MAIL}.", session_id="s1", run_id="r1")  # the same request
    assert (again.output, len(heard)) == ("Hello [mail].", 2)
    with pytest.raises(InvalidInputError, match="another input"):
        agent.run("I am somebody else.", session_id="s1", run_id="r1")
    agent.run("Who am I?", session_id="s1")
    assert MAIL not in heard[2]
    assert "[mail] lives in London." in heard[2]


async def test_asynchronous_callers() -> None:
    storage = MemoryStorage(redact=Patterns("mail"))
    await storage.aadd_run("s1", input=MAIL)
    assert (await storage.aruns("s1"))[0].input == "[mail]"


def test_a_redaction_that_fails_lets_nothing_through() -> None:
    def broken(text: str) -> Any:
        if "None" in text:
            return None
        raise ZeroDivisionError

    storage = MemoryStorage(redact=broken)
    for given in ("secret", "None"):
        with pytest.raises(InvalidStateError, match="redaction") as refused:
            storage.add_run("s1", input=given)
        assert "secret" not in str(refused.value)
    assert storage.get_session("s1") is None
    with pytest.raises(InvalidInputError):
        MemoryStorage(redact="mail")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("mail", "write to a.b+c@mail.example.org, please", "write to [mail], please"),
        ("phone", "call +49 30 1234-5678 now", "call [phone] now"),
        ("card", "4111 1111 1111 1111 and 4111 1111 1111 1112", "[card] and 4111 1111 1111 1112"),
        ("iban", "DE89 3704 0044 0532 0130 00 or DE88370400440532013000", "[iban] or DE88370400440532013000"),
        ("ip", "from 10.0.0.1, version 1.2.3", "from [ip], version 1.2.3"),
        ("key", "sk-abcdefghijklmnopqrstuv is mine", "[key] is mine"),
    ],
)
def test_known_patterns(name: str, text: str, wanted: str) -> None:
    assert Patterns(name)(text) == wanted


def test_patterns_of_ones_own() -> None:
    both = Patterns("mail", customer="C-[0-9]{4}")
    assert both(f"{MAIL} is C-1234") == "[mail] is [customer]"
    for wrong in (lambda: Patterns(), lambda: Patterns("nothing"), lambda: Patterns(x="("), lambda: Patterns(x="a*")):
        with pytest.raises(InvalidInputError):
            wrong()


def test_a_workflow_is_resumed_with_what_was_stored() -> None:
    heard: list[str] = []

    def ask() -> str:
        return f"I am {MAIL}."

    def tell(text: str) -> str:
        heard.append(text)
        if len(heard) == 1:
            raise ValueError(text)
        return text

    def flow(ctx: Context) -> str:
        said = ctx.step(ask)
        ctx.step(str.upper, said)
        return ctx.step(tell, said)

    storage = MemoryStorage(redact=Patterns("mail"))
    workflow = Workflow(flow, name="flow", storage=storage)
    with pytest.raises(StepFailedError):
        workflow.run(session_id="w1")
    assert workflow.resume("w1").output == "I am [mail]."
    assert heard == [f"I am {MAIL}.", "I am [mail]."]
    assert MAIL not in everything(storage, "w1")


def sends(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """A model that has a letter sent."""
    if len(messages) == 1:
        return ModelResponse([ToolCallPart("look", {}, "c2"), ToolCallPart("send", {"to": MAIL}, "c1")])
    return ModelResponse([TextPart("Sent.")])


class Post:
    """Tools that keep what was sent, and a model's agent that has them."""

    def __init__(self, storage: Any, **options: Any) -> None:
        self.sent: list[str] = []
        self.stops = False
        look = Tool(self.look, sequential=True, metadata={"idempotent": True})
        tools = [Tool(self.send, **options), look]
        self.agent = Agent(FunctionModel(sends), name="a", storage=storage, tools=tools, durability="step")

    async def look(self) -> str:
        if self.stops:
            raise asyncio.CancelledError  # as if the process had ended here
        return "a house"

    def send(self, to: str) -> str:
        self.sent.append(to)
        return "ok"


@pytest.mark.parametrize("in_a_step", ["", "below", "in a session of its own"])
def test_a_call_is_not_executed_with_what_a_redaction_has_left_of_it(in_a_step: str) -> None:
    """Who approves it says the arguments once more: nobody else knows them."""
    storage = MemoryStorage(redact=Patterns("mail"))
    post = Post(storage, requires_approval=True)

    async def flow(ctx: Context) -> str:
        own = {} if in_a_step == "below" else {"session_id": "own"}
        return await ctx.step(post.agent, "Send it.", instructions=f"For {MAIL}.", **own)

    runner: Any = Workflow(flow, name="flow", storage=storage) if in_a_step else post.agent
    begun = runner.run(session_id="s1") if in_a_step else runner.run("Send it.", session_id="s1")
    assert begun.status == "paused"
    assert MAIL not in everything(storage, "s1")
    for yes in (True, ToolApproved()):
        with pytest.raises(InvalidInputError, match="arguments of c1 were redacted"):
            runner.resume("s1", approvals={"c1": yes})
    storage.decide("s1", 1, approvals={"c1": True})
    with pytest.raises(InvalidInputError, match="redacted"):
        runner.resume("s1")
    assert post.sent == []
    assert storage.get_run("s1", 1).status == "paused"
    assert runner.resume("s1", approvals={"c1": ToolApproved(override_args={"to": "bob@x.org"})}).output == "Sent."
    assert post.sent == ["bob@x.org"]


def test_who_says_no_needs_no_arguments() -> None:
    post = Post(MemoryStorage(redact=Patterns("mail")), requires_approval=True)
    assert post.agent.run("Send it.", session_id="s1").status == "paused"
    assert post.agent.resume("s1", approvals={"c1": False}).output == "Sent."
    assert post.sent == []


def test_other_calls_are_approved_as_ever() -> None:
    post = Post(MemoryStorage(redact=Patterns(customer="C-[0-9]+")), requires_approval=True)
    assert post.agent.run("Send it to C-1.", session_id="s1").status == "paused"
    assert post.agent.resume("s1", approvals={"c1": True}).output == "Sent."
    assert post.sent == [MAIL]


async def test_an_interrupted_run_does_not_execute_what_a_redaction_has_left() -> None:
    """The model is told that the call was not executed, and may call again."""
    storage = MemoryStorage(redact=Patterns("mail"))
    post = Post(storage, sequential=True)

    post.stops = True
    with pytest.raises(asyncio.CancelledError):
        await post.agent.arun("Send it.", session_id="s1")
    post.stops = False
    assert storage.get_run("s1", 1).status == "interrupted"
    result = await post.agent.aresume("s1")
    assert (result.output, post.sent) == ("Sent.", [])
    assert "redacted where they were stored" in str(result.new_messages())


class Dies(AbstractCapability[Any]):
    """Ends a run, as if the process had, before a function makes the output of what the model has said."""

    def __init__(self) -> None:
        self.once = [True]

    async def wrap_output_process(
        self, ctx: Any, *, output_context: Any, output: Any, handler: WrapOutputProcessHandler
    ) -> Any:
        if self.once:
            self.once.clear()
            raise asyncio.CancelledError
        return await handler(output)


@pytest.mark.parametrize("by_tool", [True, False])
async def test_an_output_function_is_not_called_with_what_a_redaction_has_left(by_tool: bool) -> None:
    """The model is asked once more."""
    said: list[str] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append(str(messages[-1].parts))
        to = MAIL if len(asked) == 1 else "bob"
        return ModelResponse([ToolCallPart(info.output_tools[0].name, {"to": to}, "c1") if by_tool else TextPart(to)])

    def send(to: str) -> str:
        said.append(to)
        return f"sent to {to}"

    asked: list[str] = []
    storage = MemoryStorage(redact=Patterns("mail"))
    agent: Agent[Any] = Agent(
        FunctionModel(answer),
        storage=storage,
        output_type=ToolOutput(send) if by_tool else TextOutput(send),
        capabilities=[Dies()],
        durability="step",
    )
    with pytest.raises(asyncio.CancelledError):
        await agent.arun("Send it.", session_id="s1")
    result = await agent.aresume("s1")
    assert (result.output, said) == ("sent to bob", ["bob"])
    assert "redacted where they were stored" in asked[1]
    assert storage.verify("s1")
