"""Files that agents write and read: by tools, in the session of the run, and of nobody else."""

from __future__ import annotations

from typing import Any

from pydantic_ai import BinaryContent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, MemoryStorage, session_files
from sessile.agents.filing import MOST_READ

PICTURE = b"\x89PNG\r\n\x1a\n" + b"0" * 100


def agent_that(calls: list[tuple[str, dict[str, Any]]], storage: MemoryStorage, **options: Any) -> Agent[str]:
    """An agent whose model makes these calls one after the other, and then says what they returned."""

    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        parts = [part for message in messages for part in message.parts]
        begin = max(
            place for place, part in enumerate(parts) if isinstance(part, UserPromptPart) and part.content == "go"
        )
        told = [str(part.content) for part in parts[begin:] if isinstance(part, ToolReturnPart)]
        if len(told) < len(calls):
            name, arguments = calls[len(told)]
            return ModelResponse(parts=[ToolCallPart(name, arguments)])
        return ModelResponse(parts=[TextPart("\n".join(told))])

    return Agent(FunctionModel(respond), name="writer", storage=storage, toolsets=[session_files()], **options)


def test_an_agent_writes_lists_and_reads() -> None:
    with MemoryStorage() as storage:
        calls: list[tuple[str, dict[str, Any]]] = [
            ("list_files", {}),
            ("write_file", {"name": "plan.md", "content": "# Plan"}),
            ("write_file", {"name": "plan.md", "content": "# Plan B"}),
            ("list_files", {}),
            ("read_file", {"name": "plan.md", "version": 1}),
            ("read_file", {"name": "../plan.md"}),
            ("write_file", {"name": "a\nb", "content": "x"}),
        ]
        result = agent_that(calls, storage).run("go", session_id="s1", user_id="ada", run_id="r1")
        assert result.output.splitlines() == [
            "There are no files.",
            "Written: plan.md (version 1, text/markdown, 6 bytes).",
            "Written: plan.md (version 2, text/markdown, 8 bytes).",
            "plan.md (version 2, text/markdown, 8 bytes)",
            "# Plan",
            "There is no such file. Look at list_files.",
            "Not written: The name of a file has the character U+000A, which is not seen.",
        ]
        found = storage.files("s1", user_id="ada").versions("plan.md")
        assert [(one.run_id, one.agent) for one in found] == [("r1", "writer")] * 2
        other = agent_that([("list_files", {}), ("read_file", {"name": "plan.md"})], storage)
        assert "# Plan" not in other.run("go", session_id="s2", user_id="bob").output
        assert storage.verify("s1", user_id="ada")
        storage.erase_run("s1", 1, user_id="ada")
        assert storage.files("s1", user_id="ada").all() == []


def test_long_texts_are_read_in_parts_and_pictures_are_seen() -> None:
    with MemoryStorage() as storage:
        storage.create_session("s1")
        files = storage.files("s1")
        files.write("long.txt", "a" * MOST_READ + "tail")
        files.write("odd.bin", b"\xff\xfe\xff")
        files.write("seen.png", PICTURE)
        calls: list[tuple[str, dict[str, Any]]] = [
            ("read_file", {"name": "long.txt"}),
            ("read_file", {"name": "long.txt", "start": MOST_READ}),
            ("read_file", {"name": "odd.bin"}),
            ("read_file", {"name": "seen.png"}),
        ]
        result = agent_that(calls, storage).run("go", session_id="s1")
        assert f"(4 more characters: read on with start={MOST_READ}.)" in result.output
        assert "\ntail\n" in result.output
        assert "odd.bin (version 1, application/octet-stream, 3 bytes) is no text" in result.output
        contents = [part for message in result.new_messages() for part in message.parts]
        assert any(PICTURE in [getattr(one, "data", None) for one in _pieces(part)] for part in contents)


def _pieces(part: Any) -> list[Any]:
    content = getattr(part, "content", None)
    if isinstance(content, BinaryContent):
        return [content]
    return list(content) if isinstance(content, (list, tuple)) else [*getattr(part, "files", [])]


def test_a_session_that_is_not_there_yet() -> None:
    with MemoryStorage() as storage:
        calls = [("write_file", {"name": "a.txt", "content": "x"}), ("list_files", {})]
        writer = agent_that(calls, storage, durability="exit")
        assert writer.run("go", session_id="s1").output.startswith("Not written: this conversation keeps files")
        assert writer.run("go", session_id="s1").output.startswith("Written: a.txt")
