"""A proxy before an emulator that answers some requests itself, as DynamoDB does when it is busy, or loses answers."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Request = dict[str, Any]
Instead = Callable[[Request], tuple[int, dict[str, Any] | bytes]]
"""Makes the answer to a request that is not forwarded: its status and body, JSON or as it stands."""


def refusal(code: str, status: int = 400, **more: Any) -> Instead:
    """An error of DynamoDB's."""
    return lambda _: (status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "by the test", **more})


def cancelled(*reasons: str) -> Instead:
    """A transaction that was cancelled, with a reason for each of its items."""
    given = [{"Code": reason, **({} if reason == "None" else {"Message": "by the test"})} for reason in reasons]
    return refusal("TransactionCanceledException", CancellationReasons=given)


@dataclass(slots=True)
class _Fault:
    operation: str
    instead: Instead | None  # None: forward, and lose the answer
    left: int


class FaultyProxy:
    """Forwards to an emulator. A context manager; `url` is its endpoint.

    Attributes:
        seen: how many requests there were of each operation, refused ones too.
    """

    def __init__(self, target: str) -> None:
        self.seen: Counter[str] = Counter()
        self._target = target
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # it answers in two parts

            def do_POST(self) -> None:
                proxy._serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def fail(self, operation: str, instead: Instead, times: int = 1) -> None:
        """Answer the next requests of an operation (`TransactWriteItems`, …) so."""
        self._faults.append(_Fault(operation, instead, times))

    def lose(self, operation: str, times: int = 1) -> None:
        """Forward the next requests of an operation, and close the connection instead of answering."""
        self._faults.append(_Fault(operation, None, times))

    def _next_fault(self, operation: str) -> _Fault | None:
        with self._lock:
            self.seen[operation] += 1
            for fault in self._faults:
                if fault.operation == operation and fault.left > 0:
                    fault.left -= 1
                    return fault
        return None

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        fault = self._next_fault(handler.headers["X-Amz-Target"].rpartition(".")[2])
        if fault is not None and fault.instead is not None:
            status, answer = fault.instead(json.loads(body))
            self._answer(handler, status, answer if isinstance(answer, bytes) else json.dumps(answer).encode())
            return
        status, content = self._forward(handler, body)
        if fault is not None:
            handler.close_connection = True
            return
        self._answer(handler, status, content)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        headers = {name: value for name, value in handler.headers.items() if name.lower() != "connection"}
        request = urllib.request.Request(self._target, body, headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    @staticmethod
    def _answer(handler: BaseHTTPRequestHandler, status: int, content: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/x-amz-json-1.0")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
