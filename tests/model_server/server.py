"""The server: one thread per connection, a record of all requests, and a queue of planned behaviours."""

from __future__ import annotations

import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Any

from .behaviour import Behaviour, planned_behaviour
from .brain import Reply
from .wire import Json


@dataclass
class RecordedRequest:
    """One request to a model endpoint. `headers` have lower-case names.

    `outcome` is empty while the request is worked on, then `answered`, `error` (an HTTP error status), `cut`
    (the server ended the connection) or `gone` (the client had left before the answer was complete).
    """

    path: str
    headers: dict[str, str]
    body: Json
    outcome: str = field(default="", compare=False)


Plan = str | Behaviour | Reply


class ModelServer:
    """A model behind the OpenAI protocol on 127.0.0.1, alive between `start` and `close` (or inside `with`).

    All methods may be called from any thread. The server keeps no conversations: an answer depends on the
    request's own messages, and its manner (errors, delays) on them and on what was planned.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._changed = threading.Condition()
        self._requests: list[RecordedRequest] = []
        self._plans: deque[Behaviour | Reply] = deque()
        self._released = threading.Event()
        self._hanging = 0
        self._closing = threading.Event()
        self._http: _HttpServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> ModelServer:
        """Listen and serve in a thread of its own."""
        from .handler import Handler

        self._closing.clear()
        self._http = _HttpServer(("127.0.0.1", self._port), Handler)
        self._http.model_server = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), name="model-server", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop listening and cut every connection, also those whose requests hang."""
        http, self._http = self._http, None
        if http is None:
            return
        self._closing.set()
        self.release()
        http.shutdown()
        http.server_close()
        http.cut_all()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> ModelServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL."""
        if self._http is None:
            raise RuntimeError("the model server is not running")
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """All requests to the model endpoints since the start or the last reset, in the order of arrival."""
        with self._changed:
            return list(self._requests)

    def plan(self, *items: Plan) -> None:
        """Queue what happens to the next requests, one item each, in the order of arrival.

        An item is a text (`"ok"`, `"429"`, `"500"`, `"cut-stream"`, `"[slow 0.05][cut-stream]"`),
        a `Behaviour`, or a `Reply` to give instead of the model's own. It overrides marks in the message.
        """
        plans = [planned_behaviour(item) if isinstance(item, str) else item for item in items]
        with self._changed:
            self._plans.extend(plans)

    def reset(self) -> None:
        """Forget requests and plans, and let go what hangs."""
        with self._changed:
            self._requests.clear()
            self._plans.clear()
        self.release()

    def release(self) -> None:
        """Let every request that hangs now be answered; later ones hang again."""
        with self._changed:
            self._released.set()
            self._released = threading.Event()

    def wait_for_requests(self, count: int, timeout: float = 30) -> list[RecordedRequest]:
        """Wait until this many requests have arrived; raises `TimeoutError`."""
        self._wait(lambda: len(self._requests) >= count, timeout)
        return self.requests

    def wait_for_hanging(self, count: int = 1, timeout: float = 30) -> None:
        """Wait until this many requests hang; raises `TimeoutError`."""
        self._wait(lambda: self._hanging >= count, timeout)

    def wait_for_idle(self, timeout: float = 30) -> list[RecordedRequest]:
        """Wait until every request that arrived has an outcome; raises `TimeoutError`."""
        self._wait(lambda: all(request.outcome for request in self._requests), timeout)
        return self.requests

    def _wait(self, condition: Callable[[], bool], timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError("the model server did not come to the state waited for")

    def record(self, request: RecordedRequest) -> Behaviour | Reply | None:
        """Keep a request and take the plan that is its own, if any, in one step. For the handler."""
        with self._changed:
            self._requests.append(request)
            plan = self._plans.popleft() if self._plans else None
            self._changed.notify_all()
            return plan

    def finish(self, request: RecordedRequest, outcome: str) -> None:
        """Note how a request ended. For the handler."""
        with self._changed:
            request.outcome = outcome
            self._changed.notify_all()

    def hang(self) -> bool:
        """Wait for `release`; False if the server closes instead. For the handler."""
        with self._changed:
            if self._closing.is_set():
                return False
            released = self._released
            self._hanging += 1
            self._changed.notify_all()
        released.wait()
        with self._changed:
            self._hanging -= 1
            self._changed.notify_all()
        return not self._closing.is_set()

    def pause(self, seconds: float) -> bool:
        """Wait this long; False if the server closes meanwhile. For the handler."""
        return not self._closing.wait(seconds)


class _HttpServer(ThreadingHTTPServer):
    """Knows its open connections, so that closing ends them too."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    model_server: ModelServer

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        """End every open connection; the threads that serve them find out and end too."""
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are gone are no error; anything else is a mistake of this server, and is printed."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
