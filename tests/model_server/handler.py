"""One HTTP connection: reads requests, asks the brain, and sends the answer in the manner asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, cast

from .behaviour import Behaviour, parse_behaviour
from .brain import Reply, answer
from .chat import chat_body, chat_events
from .encode import StreamEvent, dump, error_body
from .responses import responses_body, responses_events
from .server import ModelServer, RecordedRequest
from .wire import BadRequest, Conversation, Json, parse_chat, parse_responses


class _Protocol(NamedTuple):
    """The three functions that make one of the two endpoints."""

    parse: Callable[[Json], Conversation]
    body: Callable[[Json, Reply, int], Json]
    events: Callable[[Json, Reply, int], Iterator[StreamEvent]]


_PROTOCOLS = {
    "/v1/chat/completions": _Protocol(parse_chat, chat_body, chat_events),
    "/v1/responses": _Protocol(parse_responses, responses_body, responses_events),
}


class _Cut(Exception):
    """The connection is to end here, without another byte."""


class Handler(BaseHTTPRequestHandler):
    """Serves the model endpoints, `/v1/models`, and `/control/...` for tests in other processes."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def _model_server(self) -> ModelServer:
        return cast(ModelServer, cast(Any, self.server).model_server)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are recorded, not printed."""

    def do_GET(self) -> None:
        """The list of models, or the record of requests."""
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": [{"id": "test", "object": "model", "owned_by": "test"}]})
        elif self.path == "/control/requests":
            self._send(200, {"requests": [asdict(request) for request in self._model_server.requests]})
        else:
            self._send(404, error_body(404))

    def do_POST(self) -> None:
        """A request to the model, or a command of a test."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            self._send(400, error_body(400, "We could not parse the JSON body of your request."))
            return
        path = self.path.partition("?")[0]
        if path in _PROTOCOLS:
            self._model_request(path, body)
        elif path.startswith("/control/"):
            self._control(path.removeprefix("/control/"), body)
        else:
            self._send(404, error_body(404))

    def _control(self, command: str, body: Json) -> None:
        if command == "plan":
            self._model_server.plan(*body.get("items", ()))
        elif command == "reset":
            self._model_server.reset()
        elif command == "release":
            self._model_server.release()
        else:
            self._send(404, error_body(404))
            return
        self._send(200, {"ok": True})

    def _model_request(self, path: str, body: Json) -> None:
        """Record the request, answer it, and note how that ended."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = RecordedRequest(path, headers, body)
        plan = self._model_server.record(request)
        outcome = "gone"
        try:
            outcome = self._answer(_PROTOCOLS[path], body, plan)
        except _Cut:
            outcome = "cut"
            self.close_connection = True
        except OSError:
            self.close_connection = True  # nobody is left to answer to
        finally:
            self._model_server.finish(request, outcome)

    def _answer(self, protocol: _Protocol, body: Json, plan: Behaviour | Reply | None) -> str:
        """Send what the request gets; returns the outcome."""
        try:
            conversation = protocol.parse(body)
        except BadRequest as error:
            self._send(400, error_body(400, error.message, error.param, error.code))
            return "error"
        except (AttributeError, KeyError, TypeError) as error:
            self._send(400, error_body(400, f"Invalid request: {error!r}"))
            return "error"
        behaviour = plan if isinstance(plan, Behaviour) else parse_behaviour(conversation.last_user_text)
        if isinstance(plan, Reply):
            behaviour = Behaviour()
        self._before(behaviour)
        if behaviour.status is not None:
            retry = {"Retry-After": behaviour.retry_after} if behaviour.status in (429, 503) else {}
            self._send(behaviour.status, error_body(behaviour.status), retry)
            return "error"
        reply = plan if isinstance(plan, Reply) else answer(conversation)
        tokens = conversation.input_tokens
        if body.get("stream"):
            self._stream(list(protocol.events(body, reply, tokens)), behaviour)
        else:
            self._plain(protocol.body(body, reply, tokens), behaviour)
        return "answered"

    def _before(self, behaviour: Behaviour) -> None:
        """What happens before the first byte of the answer."""
        if behaviour.delay and not self._model_server.pause(behaviour.delay):
            raise _Cut
        if behaviour.hang:
            self._hang()
        if behaviour.cut:
            raise _Cut

    def _hang(self) -> None:
        if not self._model_server.hang():
            raise _Cut

    def _send(self, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
        """A complete answer with a JSON body."""
        self._start(status, len(payload := dump(body).encode()), headers)
        self.wfile.write(payload)

    def _start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def _plain(self, body: Json, behaviour: Behaviour) -> None:
        """The answer in one piece; its length is announced even if only half of it is sent."""
        payload = dump(body).encode()
        self._start(200, len(payload))
        half = len(payload) // 2
        self.wfile.write(payload[:half])
        if behaviour.cut_stream:
            raise _Cut
        if behaviour.hang_stream:
            self._hang()
        self.wfile.write(payload[half:])

    def _stream(self, events: list[StreamEvent], behaviour: Behaviour) -> None:
        """The answer as server-sent events, each in a chunk of its own."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deltas = [index for index, event in enumerate(events) if event.delta]
        middle = deltas[(len(deltas) - 1) // 2] if deltas else 0
        for index, event in enumerate(events):
            if index and behaviour.slow and not self._model_server.pause(behaviour.slow):
                raise _Cut
            self._chunk(event.wire)
            if index == middle and behaviour.cut_stream:
                raise _Cut
            if index == middle and behaviour.hang_stream:
                self._hang()
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        """One chunk of a chunked body; an empty one ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
