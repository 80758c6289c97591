"""Files and memory of Google ADK, beside its sessions: `python google_adk_beside.py WHAT …`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from google.adk.artifacts import InMemoryArtifactService
from google.adk.errors.input_validation_error import InputValidationError
from google.adk.events.event import Event
from google.adk.memory import InMemoryMemoryService
from google.adk.sessions import InMemorySessionService
from google.genai import types

import sessile
from sessile.integrations.google_adk import SessileArtifactService, SessileMemoryService


def text(said: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=said)])


AT: dict[str, Any] = {"app_name": "app", "user_id": "ada", "session_id": "s1"}
LARGE = bytes(range(256)) * 400


async def described(service: Any) -> list[Any]:
    """What is known about versions."""
    found: list[Any] = []
    for name in ("a.bin", "user:all", "nothing"):
        found.append(await service.list_versions(**AT, filename=name))
        versions = await service.list_artifact_versions(**AT, filename=name)
        versions += [await service.get_artifact_version(**AT, filename=name, version=one) for one in (None, 0, 9)]
        found += [one and [one.version, one.mime_type, one.custom_metadata] for one in versions]
    return found


async def refused(service: Any) -> list[str]:
    """Why files are refused that are none, or whose names are none."""
    found: list[str] = []
    bobs = types.Part(file_data=types.FileData(file_uri="artifact://apps/app/users/bob/artifacts/user:x/versions/0"))
    wrong = types.Part(file_data=types.FileData(file_uri="artifact://x"))
    for call in (
        service.load_artifact(**AT, filename="5"),
        service.save_artifact(**AT, filename="x", artifact=types.Part()),
        service.save_artifact(**AT, filename="x", artifact=bobs),
        service.save_artifact(**AT, filename="x", artifact=wrong),
        service.save_artifact(**{**AT, "session_id": None}, filename="x", artifact=types.Part(text="x")),
        service.save_artifact(**{**AT, "session_id": "../s"}, filename="x", artifact=types.Part(text="x")),
        service.load_artifact(**{**AT, "app_name": ""}, filename="x"),
    ):
        try:
            found.append(f"not refused: {await call}")
        except InputValidationError as error:
            found.append(str(error))
    return found


async def files(service: Any) -> list[Any]:
    """What an artifact service answers to what its documentation speaks of."""
    found: list[Any] = []

    def shown(part: Any) -> Any:
        if part is None or part.inline_data is None:
            return part and part.model_dump(mode="json", exclude_none=True)
        blob = part.inline_data
        return [blob.mime_type, blob.display_name, len(blob.data), blob.data[-3:].hex()]

    async def save(name: str, part: Any, **given: Any) -> None:
        found.append(await service.save_artifact(**{**AT, **given}, filename=name, artifact=part))

    async def load(name: str, **given: Any) -> None:
        found.append(shown(await service.load_artifact(**{**AT, **given}, filename=name)))

    await load("a.bin")
    blob = types.Part(inline_data=types.Blob(data=LARGE, mime_type="image/png", display_name="A"))
    await save("a.bin", blob)
    table = types.Part.from_bytes(data=b"small", mime_type="text/csv")
    await save("a.bin", table, custom_metadata={"by": ["ada", None]})
    await save("a.bin", {"inlineData": {"mimeType": "x/y", "data": "AAEC"}})
    await save("a.bin", blob)
    await save("notes/über.txt", types.Part(text="words"))
    await save("link", types.Part(file_data=types.FileData(file_uri="gs://b/c", mime_type="a/b")))
    await save("user:all", types.Part(text="everywhere"))
    await save("user:all", types.Part(text="no session"), session_id=None)
    uri = "artifact://apps/app/users/ada/sessions/s1/artifacts/a.bin/versions/1"
    await save("ref", types.Part(file_data=types.FileData(file_uri=uri)))
    for number in range(7):
        uri = f"artifact://apps/app/users/ada/sessions/s1/artifacts/{number - 1 if number else 'ref'}/versions/0"
        await save(str(number), types.Part(file_data=types.FileData(file_uri=uri)))
    for name in ("a.bin", "notes/über.txt", "link", "user:all", "ref", "3", "nothing"):
        await load(name)
    for version in (0, 1, 2, 3, 4, -1):
        await load("a.bin", version=version)
    await load("user:all", session_id="s2")
    await load("a.bin", session_id="s2")
    await load("a.bin", user_id="bob")
    for given in ({}, {"session_id": "s2"}, {"session_id": None}, {"user_id": "bob"}, {"app_name": "other"}):
        found.append(await service.list_artifact_keys(**{**AT, **given}))
    found += await described(service)
    found += await refused(service)
    await save("gone", types.Part(text="x"))
    await save("gone", types.Part.from_bytes(data=b"", mime_type="application/octet-stream"))
    await load("gone")
    for name in ("gone", "gone", "user:all"):
        await service.delete_artifact(**AT, filename=name)
    found.append(await service.list_artifact_keys(**AT))
    await save("gone", types.Part(text="again"))
    await load("gone")
    return found


async def remembered(service: Any) -> list[Any]:
    """What a memory service answers to what its documentation speaks of."""
    found: list[Any] = []
    sessions = InMemorySessionService()

    async def session(session_id: str, said: list[str], user_id: str = "ada") -> Any:
        made = await sessions.create_session(app_name="app", user_id=user_id, session_id=session_id)
        for number, words in enumerate(said):
            author = "bot" if number % 2 else "user"
            event = Event(id=f"{session_id}-{number}", author=author, timestamp=1000.0 + number, content=text(words))
            await sessions.append_event(made, event)
        return made

    async def search(query: str, **given: Any) -> None:
        at = {"app_name": "app", "user_id": "ada", **given}
        answer = await service.search_memory(**at, query=query)
        found.append([[one.id, one.author, one.timestamp, one.content.parts[0].text] for one in answer.memories])

    await search("Paris")
    first = await session(
        "s1", ["I live in Paris.", "A fine city.", "私はPythonを使う", "Paris, Paris! City of light."]
    )
    await service.add_session_to_memory(first)
    await service.add_session_to_memory(await session("s2", ["Oslo is a city in Norway", "", "Not Paris"]))
    await service.add_session_to_memory(await session("b", ["Bob lives in Rome, a city"], "bob"))
    await service.add_session_to_memory(first)
    for query in ("Paris", "paris city", "python", "私は", "the of", "nothing", "", "Bob"):
        await search(query)
    await search("city", user_id="bob")
    await search("city", user_id="eve")
    await search("city", app_name="other")
    words = [f"number {number}" for number in range(12)]
    more = [Event(id=one, author="user", timestamp=2000.0, content=text(one)) for one in words]
    for session_id in ("s1", None, "s1"):
        given = {"session_id": session_id} if session_id else {}
        await service.add_events_to_memory(app_name="app", user_id="ada", events=more, **given)
        await search("number 3")
    for memory_id in ("s1-0", "nothing", None):
        await service.delete_memory(app_name="app", user_id="ada", memory_id=memory_id)
        await search("Paris")
    await service.add_session_to_memory(first)
    await search("live in Paris")
    return found


KINDS: dict[str, Any] = {
    "files": (files, InMemoryArtifactService, SessileArtifactService),
    "remembered": (remembered, InMemoryMemoryService, SessileMemoryService),
}
"""What is asked, whom of theirs, and whom of ours."""


def word_of(said: str) -> str:
    """One word, which nobody else says."""
    return said.replace("-", "x")


async def together(storage: Any, writers: int, runs: int, name: str) -> None:
    """Many writers of versions of one file, who also have their words remembered; what was done is told."""
    artifacts, memory = SessileArtifactService(storage), SessileMemoryService(storage)

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            part = types.Part.from_bytes(data=said.encode() * 1000, mime_type="text/plain")
            version = await artifacts.save_artifact(**AT, filename="many", artifact=part)
            event = Event(id=said, author="user", content=text(word_of(said)))
            await memory.add_events_to_memory(**AT, events=[event])
            print(f"{said}={version}", flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


async def kept(storage: Any) -> dict[str, Any]:
    """The versions of that file with what each says, and which of the words are remembered."""
    artifacts, memory = SessileArtifactService(storage), SessileMemoryService(storage)
    versions: list[str] = []
    for version in await artifacts.list_versions(**AT, filename="many"):
        part = await artifacts.load_artifact(**AT, filename="many", version=version)
        data = part.inline_data.data.decode()
        said = data[: len(data) // 1000]
        assert data == said * 1000
        versions.append(f"{said}={version}")
    known: list[str] = []
    for one in versions:
        said = one.split("=")[0]
        found = await memory.search_memory(app_name="app", user_id="ada", query=word_of(said))
        known += [one for memory in found.memories if memory.id == said]
    return {"versions": versions, "remembered": known}


def main(what: str, *arguments: str) -> None:
    if what == "theirs":
        asked, theirs, _ = KINDS[arguments[0]]
        print(json.dumps(asyncio.run(asked(theirs()))))
        return
    with sessile.open(os.environ["SESSILE_URL"]) as storage:
        if what in KINDS:
            asked, _, ours = KINDS[what]
            print(json.dumps(asyncio.run(asked(ours(storage)))))
        elif what == "together":
            asyncio.run(together(storage, int(arguments[0]), int(arguments[1]), arguments[2]))
        else:
            print(json.dumps(asyncio.run(kept(storage))))


if __name__ == "__main__":
    main(*sys.argv[1:])
