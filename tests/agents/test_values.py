"""What becomes of values that JSON does not have, or that look like something else, on their way through a session."""

from __future__ import annotations

import base64
import re
import warnings
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from pydantic_ai import BinaryContent, BinaryImage, ImageUrl, ToolOutput, ToolReturn
from pydantic_ai.messages import FilePart, ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.profiles import ModelProfile

from sessile import Agent, MemoryStorage
from sessile.errors import InvalidStateError, SessileError, TooLargeError
from sessile.storage import turns

PAGE = Path(__file__).resolve().parents[2] / "docs" / "storage.md"

REFUSED = "refused"

TABLE: dict[str, tuple[Any, Any, Any, Any]] = {
    "NaN": (float("nan"), REFUSED, None, "NaN"),
    "infinity": (float("inf"), REFUSED, None, "Infinity"),
    "a tuple": ((1, (2,)), [1, [2]], [1, [2]], [1, [2]]),
    "a set": ({1}, REFUSED, [1], [1]),
    "a `Decimal`": (Decimal("1.10"), REFUSED, "1.10", "1.10"),
    "`bytes` that are text": (b"ab", REFUSED, "ab", "YWI="),
    "other `bytes`": (b"\xff\xfe", REFUSED, "__4=", "__4="),
    "a `datetime`": (datetime(2024, 1, 2, tzinfo=UTC), REFUSED, "2024-01-02T00:00:00Z", "2024-01-02T00:00:00Z"),
    "a `UUID`": (UUID(int=1), REFUSED, "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
    "a key that is no text": ({1: 2}, REFUSED, {"1": 2}, {"1": 2}),
}
"""By value: itself, and what it is in state, metadata and `add_run`; as a tool's result; as an agent's output."""


class Returning:
    """An agent with a tool that returns a value, and what its model has been given as the tool's results."""

    def __init__(self, storage: MemoryStorage, value: Any, durability: Any = "run") -> None:
        self.results: list[list[Any]] = []

        def look() -> Any:
            return value

        self.agent = Agent(
            FunctionModel(self._answer), storage=storage, session_id="s", tools=[look], durability=durability
        )

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]
        self.results.append([part.content for part in parts])
        return ModelResponse(parts=[TextPart("ok") if parts else ToolCallPart("look", {}, "c")])

    def sent_again(self) -> Any:
        """What the next run is sent along as the result of this one's tool."""
        self.agent.run("look")
        self.agent.run("and?")
        (result,) = self.results[-1]
        return result


@pytest.mark.parametrize("durability", ["run", "step"])
@pytest.mark.parametrize(
    "value",
    [
        b"\xff\xfe",
        {"a": [b"\xff"]},
        BinaryContent(b"\xff\xfe", media_type="image/png"),
        ToolReturn(b"\xff", content=["see", BinaryContent(b"\xff", media_type="image/png")], metadata={"raw": b"\xff"}),
    ],
    ids=["bytes", "inside", "media", "all"],
)
def test_bytes_of_tools_cause_no_warnings(value: Any, durability: Any) -> None:
    with MemoryStorage() as storage, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Returning(storage, value, durability).sent_again() is not None
        assert [run.status for run in storage.runs("s")] == ["completed"] * 2


@pytest.mark.parametrize("name", TABLE)
def test_values_that_json_does_not_have(name: str) -> None:
    value, stored, returned, output = TABLE[name]
    with MemoryStorage() as storage:
        if stored == REFUSED:
            for write in (
                lambda: storage.create_session("c", state={"v": value}),
                lambda: storage.create_session("c", metadata={"v": value}),
                lambda: storage.add_run("c", output=value),
            ):
                with pytest.raises(InvalidStateError):
                    write()
        else:
            assert storage.create_session("c", state={"v": value}).state["v"] == stored
        assert Returning(storage, value).sent_again() == returned

        def answer() -> Any:
            return value

        def call(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {}, "c")])

        Agent(FunctionModel(call), storage=storage, session_id="o", output_type=ToolOutput(answer)).run("x")
        assert storage.get_run("o", 1).output == output


def test_the_page_has_the_same_table() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    found = {row[0]: row[1:] for row in rows if row[0] in TABLE}
    assert found.keys() == TABLE.keys()
    for name, (_, stored, returned, output) in TABLE.items():
        assert found[name] == tuple(_shown(value) for value in (stored, returned, output)), name


def _shown(value: Any) -> str:
    return value if value == REFUSED else f"`{value!r}`".replace("'", '"')


class Shape(BaseModel):
    kind: str = "binary"
    data: str = "aGVsbG8="
    media_type: str = "text/plain"


LARGE = base64.b64encode(bytes(9_000)).decode()
ALIKE: dict[str, Any] = {"kind": "binary", "data": "aGVsbG8=", "media_type": "text/plain"}
LOOKALIKES: list[Any] = [
    ALIKE,
    {**ALIKE, "data": LARGE},
    [ALIKE, "text", {**ALIKE, "data": LARGE}],
    {"deep": [{"er": ALIKE}]},
    {"kind": "image-url", "url": "https://example.com/a.png"},
    {**ALIKE, "$kind": "x", "$$kind": "y"},
    {**ALIKE, "data": {"$blob": "0" * 64, "size": 3}},
]


@pytest.mark.parametrize("value", LOOKALIKES)
def test_what_only_looks_like_media_comes_back_as_it_was(value: Any) -> None:
    with MemoryStorage() as storage:
        assert Returning(storage, value).sent_again() == value


@pytest.mark.parametrize("value", LOOKALIKES)
@pytest.mark.parametrize("wrapped", [False, True])
async def test_what_only_looks_like_media_comes_back_after_a_resume(
    value: Any, wrapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MemoryStorage(lease=0.01) as storage:
        returning = Returning(storage, ToolReturn(value, content="see") if wrapped else value, "step")
        end = turns.end_turn

        async def crash(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("the process dies before the end")

        monkeypatch.setattr(turns, "end_turn", crash)
        append = turns.append_to_turn

        async def until_returned(core: Any, turn: Any, entries: Any, *args: Any) -> None:
            await append(core, turn, entries, *args)
            if entries and entries[0].kind == "tool.ended":
                monkeypatch.setattr(turns, "append_to_turn", crash)

        monkeypatch.setattr(turns, "append_to_turn", until_returned)
        with pytest.raises(Exception, match="the process dies"):
            await returning.agent.arun("look")
        monkeypatch.setattr(turns, "end_turn", end)
        monkeypatch.setattr(turns, "append_to_turn", append)
        while storage.get_run("s", 1).status != "interrupted":
            continue
        await returning.agent.aresume("s")
        assert returning.results[-1] == [value]


def test_a_model_of_pydantic_that_looks_like_media_is_its_mapping() -> None:
    with MemoryStorage() as storage:
        assert Returning(storage, Shape()).sent_again() == ALIKE


@pytest.mark.parametrize("size", [10, 9_000])
def test_media_that_tools_return_stay_media(size: int) -> None:
    picture = BinaryContent(bytes(size), media_type="image/png")
    with MemoryStorage() as storage:
        result = Returning(storage, [picture, ALIKE, ImageUrl("https://example.com/a.png")]).sent_again()
        assert isinstance(result[0], BinaryContent)
        assert (result[0].data, result[0].media_type) == (picture.data, "image/png")
        assert result[1] == ALIKE
        assert isinstance(result[2], ImageUrl)


PICTURE = b"\x89PNG\xff\xfe" * 2000


def drawing(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if info.output_tools:
        return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, {}, "c")])
    return ModelResponse(parts=[FilePart(BinaryImage(PICTURE, media_type="image/png"))])


def as_bytes() -> bytes:
    return PICTURE


def as_media() -> BinaryContent:
    return BinaryContent(PICTURE, media_type="image/png")


ARTISTS: dict[str, Any] = {"image": BinaryImage, "bytes": ToolOutput(as_bytes), "media": ToolOutput(as_media)}


def artist(storage: MemoryStorage, kind: str, durability: Any = "run") -> Agent[Any]:
    model = FunctionModel(drawing, profile=ModelProfile(supports_image_output=True))
    return Agent(model, storage=storage, session_id="s", output_type=ARTISTS[kind], durability=durability)


@pytest.mark.parametrize("durability", ["run", "step"])
@pytest.mark.parametrize("kind", ARTISTS)
def test_binary_output_is_kept_as_media(kind: str, durability: Any) -> None:
    limits = {"max_commit_bytes": 10_000} if durability == "run" else {}  # the output would not even fit into a commit
    with MemoryStorage(**limits) as storage:
        agent = artist(storage, kind, durability)
        first = agent.run("Draw.", run_id="r1")
        (run,) = storage.runs("s")
        assert storage.media("s", run.output["data"]["$blob"]) == PICTURE
        again = agent.run("Draw.", run_id="r1")
        assert (type(again.output), again.output) == (type(first.output), first.output)
        storage.erase_run("s", 1)
        with pytest.raises(SessileError):
            storage.media("s", run.output["data"]["$blob"])


def test_few_bytes_come_back_as_bytes() -> None:
    def few() -> bytes:
        return b"\xff\xfe"

    with MemoryStorage() as storage:
        agent = Agent(FunctionModel(drawing), storage=storage, session_id="s", output_type=ToolOutput(few))
        assert agent.run("Draw.", run_id="r1").output == agent.run("Draw.", run_id="r1").output == b"\xff\xfe"


@pytest.mark.parametrize("durability", ["run", "step"])
@pytest.mark.parametrize("kind", ARTISTS)
def test_binary_output_that_is_larger_than_media_may_be(kind: str, durability: Any) -> None:
    with MemoryStorage(max_media_bytes=1000, inline_media_bytes=500) as storage:
        with pytest.raises(TooLargeError, match="limit is 1,000") as caught:
            artist(storage, kind, durability).run("Draw.")
        if durability == "run" or kind == "image":  # else the call of the function could not be stored
            output = caught.value.result.output
            assert (output if kind == "bytes" else output.data) == PICTURE
        (run,) = storage.runs("s")
        assert (run.status, run.usage.requests) == ("failed", 1)
        assert storage.verify("s")


@pytest.mark.parametrize("durability", ["run", "step"])
def test_media_of_a_tool_that_are_larger_than_media_may_be(durability: Any) -> None:
    with MemoryStorage(max_media_bytes=1000, inline_media_bytes=500) as storage:
        with pytest.raises(TooLargeError, match="limit is 1,000"):
            Returning(storage, as_media(), durability).sent_again()
        assert [run.status for run in storage.runs("s")] == ["failed"]
