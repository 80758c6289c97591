"""What both endpoints have in common: the client's new turn, ids, the run that answers."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import AsyncIterator
from typing import Any, cast

from pydantic import BaseModel, ConfigDict
from pydantic_ai.messages import BinaryContent, UserContent

from ...errors import SessileError
from ...records import JsonObject
from ...storage.encoding import encode
from ...storage.ids import check_id
from ...workflows import Workflow
from ..problems import Problem
from ..running import Asked, Telling, asked_by, awaited, begun, finished, joined, launched
from ..serving import View
from ..shown import outcome_of_run
from ..streams import run_frames
from ..work import Frame, Place

DATA_URL = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>[A-Za-z0-9+/=]+)")


class Lenient(BaseModel):
    """A body of a client that sends more than is of use here."""

    model_config = ConfigDict(extra="ignore")


def refused(text: str, param: str) -> Problem:
    """The problem of a request that cannot be understood, also as OpenAI's clients read it."""
    return Problem(
        422, "invalid-request", text, error={"message": text, "type": "invalid_request_error", "param": param}
    )


def content_of(given: Any, param: str) -> str | list[UserContent]:
    """What a user's message says: text and inline images. No addresses: the server fetches nothing for a client."""
    if isinstance(given, str) and given:
        return given
    if not isinstance(given, list) or not given:
        raise refused("A message has no content.", param)
    content = [_part_of(part, param) for part in cast("list[Any]", given)]
    return content[0] if len(content) == 1 and isinstance(content[0], str) else content


def _part_of(part: Any, param: str) -> UserContent:
    said = cast(JsonObject, part) if isinstance(part, dict) else {}
    kind = said.get("type")
    if kind in ("input_text", "text") and isinstance(said.get("text"), str):
        return cast(str, said["text"])
    if kind in ("input_image", "image_url"):
        image = said.get("image_url")
        url = cast(JsonObject, image).get("url") if isinstance(image, dict) else image
        found = DATA_URL.fullmatch(url) if isinstance(url, str) else None
        if found is not None:
            try:
                return BinaryContent(base64.b64decode(found["data"], validate=True), media_type=found["type"])
            except ValueError:
                pass
        raise refused("Images are taken as data: URLs; none are fetched.", param)
    raise refused(f"Content of the type {kind!r} is not taken here.", param)


def asked_for(view: View, name: str, session_id: str) -> None:
    """Refuse what is not served, or takes no prompt."""
    check_id(session_id, "session_id")
    if isinstance(view.runner(name), Workflow):
        raise refused("A workflow takes no messages; run it by /agents/NAME/runs.", "model")


async def launch(
    view: View, name: str, session_id: str, prompt: Any, key: str | None, *, told: bool, after: int | None = None
) -> tuple[Telling, Any]:
    """Begin a run, after another one; `told` says whether its text is wanted as it comes."""
    telling = Telling(view, name, quiet=not told)
    asked = asked_by(view, prompt, session_id, key=key, after=after)
    task = launched(telling, asked)
    if not told:
        return telling, view.server.work.spawn(_outcome(telling, asked, task))
    try:
        await begun(telling, task)
    except SessileError as error:
        await joined(telling, asked, error)
    return telling, task


async def _outcome(telling: Telling, asked: Asked, task: asyncio.Task[JsonObject]) -> JsonObject:
    """What has come of a run, also where the same request came before, and another one works on it."""
    try:
        return await finished(task)
    except SessileError as error:
        await joined(telling, asked, error)
        return await awaited(telling)


async def outcome(task: Any) -> JsonObject:
    """What has come of a run; it goes on whoever waits for it."""
    return await finished(task)


def frames_of(view: View, telling: Telling) -> AsyncIterator[Frame]:
    """What a run tells."""
    return run_frames(view, telling.session_id, telling.number, Place())


async def stored(view: View, session_id: str, number: int) -> tuple[JsonObject, int]:
    """What the log says of a run, and when it began, in seconds."""
    run = await view.storage.aget_run(session_id, number, user_id=view.reads)
    return outcome_of_run(session_id, run, whole_errors=view.is_administrator), run.started_us // 10**6


def text_of(outcome: JsonObject) -> str:
    """An answer as text."""
    output = outcome["output"]
    return output if isinstance(output, str) else "" if output is None else encode(output)


def calls_of(outcome: JsonObject) -> list[JsonObject]:
    """The calls that the client is to make, with their arguments as JSON text."""
    return [
        {**one, "args": one["args"] if isinstance(one["args"], str) else encode(one["args"] or {})}
        for one in outcome["pending"]
        if one.get("kind") == "call"
    ]


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def sse(data: JsonObject, event: str | None = None) -> bytes:
    """An event as OpenAI writes it."""
    head = "" if event is None else f"event: {event}\n"
    return f"{head}data: {encode(data)}\n\n".encode("utf-8", "backslashreplace")
