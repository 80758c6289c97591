"""AG-UI and Vercel AI: clients of these protocols, with the history that is stored here.

Pydantic AI's adapters read requests and write events. Of what a client sends only the new turn is taken: its last
message, or its decisions about calls that wait. What else it says was said, is not believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote

from fastapi import APIRouter, Body, Request
from pydantic import ValidationError
from pydantic_ai import DeferredToolResults
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, UserContent, UserPromptPart
from pydantic_ai.run import AgentRunResult, AgentRunResultEvent
from starlette.responses import Response, StreamingResponse

from ..agents import TeamEvent
from ..agents.events import MemberEnded, MemberStarted
from ..errors import missing_dependency
from ..records import JsonObject, Session
from ..storage.encoding import encode
from ..storage.ids import check_id
from ..workflows import Workflow
from .problems import Problem
from .routes.common import PROBLEMS, STREAM, Known, Seen, address_of
from .running import Prompt, Telling, asked_by, begun, launched, resumed
from .serving import View
from .streams import HEADERS, with_pings

Protocol = Literal["ag-ui", "vercel"]

ADAPTERS: dict[Protocol, tuple[str, str]] = {
    "ag-ui": ("pydantic_ai.ui.ag_ui", "AGUIAdapter"),
    "vercel": ("pydantic_ai.ui.vercel_ai", "VercelAIAdapter"),
}

FAILED = "The run has failed."
"""All that clients of these protocols are told of an error."""

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["protocols"])


@router.post(
    "/protocols/{protocol}/{agent}",
    response_class=Response,
    responses={200: STREAM},
    summary="Run an agent as AG-UI or as Vercel AI",
)
async def run(
    request: Request, view: Seen, protocol: Protocol, agent: str, body: Annotated[JsonObject, Body()]
) -> Response:
    """AG-UI's `threadId`, and the `id` of Vercel AI's chat, are the session's id."""
    adapter, run_input = _read(protocol, view, agent, body)
    session_id = check_id(cast(str, adapter.conversation_id), "session_id")
    request.state.session_id = session_id
    coming: asyncio.Queue[Any] = asyncio.Queue()
    session = await view.storage.aget_session(session_id, user_id=view.reads)
    results = adapter.deferred_tool_results
    if results is not None and session is not None and session.waiting:
        run = await view.storage.aget_run(session_id, session.waiting[-1], user_id=view.reads)
        telling, task = await resumed(view, agent, session_id, run, _own(results), told=coming.put_nowait)
    else:
        prompt = _prompt(type(adapter), run_input)
        again = getattr(run_input, "trigger", None) == "regenerate-message"
        after = _before_last(session) if again and session is not None else None
        telling = Telling(view, agent, told=coming.put_nowait)
        task = launched(telling, asked_by(view, prompt, session_id, after=after))
    await begun(telling, task)
    request.state.run_id = telling.run_id
    task.add_done_callback(lambda _: coming.put_nowait(None))
    stream: Any = adapter.build_event_stream()
    pieces = _pieces(stream, _natives(telling, coming))
    own: dict[str, str] = dict(stream.response_headers or {})
    address = address_of(request, session_id, telling.number)  # where a client that loses this stream reads on
    headers = {**HEADERS, **own, "X-Session-Id": quote(session_id, safe="/:@"), "Content-Location": address}
    return StreamingResponse(with_pings(view.server, pieces, begin=b""), 200, headers, stream.content_type)


def _read(protocol: Protocol, view: View, agent: str, body: JsonObject) -> tuple[Any, Any]:
    """Pydantic AI's adapter for this request, and the request as it understands it."""
    served = view.runner(agent)
    if isinstance(served, Workflow):
        raise Problem(422, "invalid-request", "A workflow takes no messages; run it by /agents/NAME/runs.")
    module, name = ADAPTERS[protocol]
    try:
        adapter_type: Any = getattr(import_module(module), name)
    except ImportError:
        raise missing_dependency("ag-ui-protocol", "ag-ui", "AG-UI") from None
    try:
        run_input = adapter_type.build_run_input(encode(body).encode())
    except (ValidationError, ValueError):
        raise Problem(422, "invalid-request", f"The body is none of {protocol}'s.") from None
    more = {"sdk_version": 6} if protocol == "vercel" else {}
    return adapter_type(agent=served.pydantic_agent, run_input=run_input, **more), run_input


def _prompt(adapter: Any, run_input: Any) -> Prompt:
    """The client's new turn: the last message, which is the user's. No addresses: nothing is fetched for a client."""
    last = run_input.messages[-1:]
    messages: list[ModelMessage] = []
    with suppress(ValueError):
        messages = adapter.load_messages(last) if last and last[0].role == "user" else []
    parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
    content: list[UserContent] = []
    for part in parts:
        if isinstance(part, UserPromptPart):
            content += [part.content] if isinstance(part.content, str) else list(part.content)
    if not content:
        raise Problem(422, "invalid-request", "The last message must be the user's.")
    if not all(isinstance(one, (str, BinaryContent)) for one in content):
        raise Problem(422, "invalid-request", "Files are taken inline; none are fetched.")
    return content[0] if len(content) == 1 and isinstance(content[0], str) else content


def _own(results: DeferredToolResults) -> DeferredToolResults:
    """Decisions without what only the server may say about them."""
    return DeferredToolResults(approvals=dict(results.approvals), calls=dict(results.calls))


def _before_last(session: Session) -> int:
    """What a run follows that takes the place of the last one: the answer is made again."""
    numbers = session.last_on_path(2)
    return numbers[0] if len(numbers) == 2 else 0


async def _natives(telling: Telling, coming: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    """The run's events, of a team its answer's, and its result."""
    while (event := await coming.get()) is not None:
        if isinstance(event, TeamEvent):
            if not event.answering or isinstance(event.event, (MemberStarted, MemberEnded)):
                continue
            event = event.event
        yield event
    result = telling.result
    if result is None or (result.agent_result is None and result.status != "completed"):
        raise RuntimeError(FAILED)
    yield AgentRunResultEvent(result=result.agent_result or AgentRunResult(result.output))


async def _pieces(stream: Any, natives: AsyncIterator[Any]) -> AsyncGenerator[bytes]:
    async for text in stream.encode_stream(stream.transform_stream(natives)):
        yield text.encode("utf-8", "backslashreplace")
