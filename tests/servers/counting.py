"""An HTTP proxy before an emulator: it counts requests, drops headers, and answers some requests itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(slots=True)
class _Fault:
    method: str
    part: str
    status: int | None  # None: forward, and lose the answer
    content: bytes
    left: int


class CountingProxy:
    """Forwards to an emulator. A context manager; `url` is its endpoint.

    Attributes:
        seen: method and path of each request since `forget`, in the order in which they came.
        dropped: headers that are not forwarded, in lower case.
        before: called with method and path before a request is forwarded.
    """

    def __init__(self, target: str) -> None:
        self.seen: list[tuple[str, str]] = []
        self.dropped: set[str] = set()
        self.before: Callable[[str, str], None] = lambda method, path: None
        self._target = urlsplit(target).netloc
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # it answers in two parts

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                proxy._serve(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def forget(self) -> None:
        """Count from here."""
        self.seen = []

    def answer(self, method: str, part: str, status: int, content: bytes = b"", *, times: int = 1) -> None:
        """Answer the next requests of a method whose path has a part, instead of forwarding them."""
        self._faults.append(_Fault(method, part, status, content, times))

    def lose(self, method: str, part: str, *, times: int = 1) -> None:
        """Forward the next such requests, and close the connection instead of answering."""
        self._faults.append(_Fault(method, part, None, b"", times))

    def _next_fault(self, method: str, path: str) -> _Fault | None:
        with self._lock:
            self.seen.append((method, path))
            for fault in self._faults:
                if fault.method == method and fault.part in path and fault.left > 0:
                    fault.left -= 1
                    return fault
        return None

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        method, path = handler.command, handler.path
        self.before(method, path)
        fault = self._next_fault(method, path)
        if fault is not None and fault.status is not None:
            self._send(handler, fault.status, {}, fault.content)
            return
        status, headers, content = self._forward(handler, body)
        if fault is not None:
            handler.close_connection = True
            return
        self._send(handler, status, headers, content)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in self.dropped}
        connection = HTTPConnection(self._target)
        try:
            connection.request(handler.command, handler.path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, Any], content: bytes) -> None:
        handler.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)
        handler.wfile.flush()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
