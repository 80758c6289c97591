"""What stands before all routes: hosts, sizes, forged requests, headers, the access log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..storage.ids import uuid7
from .problems import Problem, unexpected
from .serving import Server

access_log = logging.getLogger("sessile.access")

OUR_HEADER = "x-sessile"
"""A header that other sites' pages cannot send without being asked about it first."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

FOR_OTHERS = ("/v1/", "/protocols/")
"""Where clients ask that do not know our header; JSON, which they send, is asked about first, too."""

SLASH = "\ue02f"
"""Stands for a slash within an id, until the route has been found."""

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

METHODS = SAFE | {"POST", "PATCH", "DELETE", "PUT"}
"""Those that are counted by name; others are whatever a client makes up."""

SECURITY: dict[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_SECURITY = tuple((name.lower().encode(), value.encode()) for name, value in SECURITY.items())


class _TooLarge(Exception):
    """The body of a request is larger than the limit."""


class Guard:
    """Lets a request through to the application, or answers it.

    Args:
        app: the application.
        server: what it serves.
        hosts: the names by which it may be asked for, without ports; None: any.
        same_origin: whether requests of other sites' pages are refused by their `Origin`.
    """

    def __init__(self, app: ASGIApp, server: Server, *, hosts: Collection[str] | None, same_origin: bool) -> None:
        self._app, self._server = app, server
        self._hosts = None if hosts is None else frozenset(host.lower() for host in hosts)
        self._same_origin = same_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        answer = _Answer(send, scope)
        try:
            if (problem := self._refusal(scope, headers)) is not None:
                await problem.response()(scope, receive, answer.send)
                return
            _keep_slashes(scope)
            limited = answer.limited = _Limited(receive, self._server.limits.body)
            with suppress(_TooLarge):
                try:
                    await self._app(scope, limited.receive, answer.send)
                except (
                    Exception
                ) as error:  # answered here, within the guard, and raised again for the server to write down
                    if isinstance(error, _TooLarge) or answer.status:
                        raise
                    await unexpected().response()(scope, receive, answer.send)
                    raise
            if limited.exceeded and answer.status == 0:
                answer.limited = None
                await self._too_large().response()(scope, receive, answer.send)
        finally:
            self._note(scope, answer)

    # ------------------------------------------------------------ refusing

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return Problem(421, "unknown-host", "The server does not answer to this host.", hint="Ask for localhost.")
        if len(headers.getlist("content-length")) > 1 or not headers.get("content-length", "0").isdigit():
            return Problem(400, "invalid-request", "Content-Length is no number.")
        if int(headers.get("content-length", "0")) > self._server.limits.body:
            return self._too_large()
        return None if scope["method"] in SAFE else self._forgery(scope, headers, host)

    def _forgery(self, scope: Scope, headers: Headers, host: str) -> Problem | None:
        """The problem of a request that another site's page might have made a user's browser send."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        if kind != "application/json" and (has_body or kind):
            return Problem(415, "not-json", "The content must be application/json.", hint="Set Content-Type.")
        origin = headers.get("origin")
        if self._same_origin and origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return Problem(403, "other-origin", "Pages of other sites may not send this.")
        bearer = headers.get("authorization", "").lower().startswith("bearer ")  # browsers add others by themselves
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        others = path.startswith(FOR_OTHERS) and kind == "application/json"
        if OUR_HEADER in headers or bearer or others:
            return None
        return Problem(403, "missing-header", "The header X-Sessile is missing.", hint="Send X-Sessile: 1.")

    def _too_large(self) -> Problem:
        most = self._server.limits.body
        return Problem(
            413,
            "too-large",
            f"The body has more than {most:,} bytes.",
            hint="Send less.",
            headers={"Connection": "close"},
        )

    # ------------------------------------------------------------ noting

    def _note(self, scope: Scope, answer: _Answer) -> None:
        route = scope.get("route")
        pattern = getattr(route, "path", "") or "(none)"
        seconds = time.monotonic() - answer.began
        known = pattern != "(none)" and scope["method"] in METHODS
        self._server.metrics.request(scope["method"] if known else "(any)", pattern, answer.status, seconds)
        if not access_log.isEnabledFor(logging.INFO):
            return
        state: MutableMapping[str, Any] = scope.get("state", {})
        view = state.get("view")
        noted = {
            "request_id": answer.request_id,
            "method": scope["method"],
            "path": scope.get("path", ""),
            "status": answer.status,
            "milliseconds": round(seconds * 1000, 1),
            "user_id": None if view is None else view.caller.user_id,
            "session_id": state.get("session_id"),
            "run_id": state.get("run_id"),
        }
        access_log.info(json.dumps({name: value for name, value in noted.items() if value is not None}))


class _Answer:
    """A response on its way: its status, and the headers that all have."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self.limited: _Limited | None = None
        self.status, self.began, self.request_id = 0, time.monotonic(), uuid7()

    async def send(self, message: Message) -> None:
        """Pass a part of it on; what the application says of a body that was too large is left out."""
        if self.limited is not None and self.limited.exceeded and self.status == 0:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            named = {name for name, _ in headers}
            more = (*_SECURITY, (b"x-request-id", self.request_id.encode()))
            message["headers"] = headers + [header for header in more if header[0] not in named]
        await self._send(message)


class _Limited:
    """The body of a request, up to a limit, whatever its headers say."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left = receive, most
        self.exceeded = False

    async def receive(self) -> Message:
        """The next part of it."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.exceeded = True
            raise _TooLarge
        return message


def _name_of(host: str) -> str:
    """A host without its port."""
    name = host.rpartition(":")[0] if host.rpartition("]")[2].count(":") else host
    return name.lower()


def _keep_slashes(scope: Scope) -> None:
    """Let ids have slashes: `%2F` is one within an id, and not the end of it."""
    raw = scope.get("raw_path") or b""
    if b"%" not in raw:
        return
    text = raw.partition(b"?")[0].decode("ascii", "replace")
    scope["path"] = unquote(text.replace("%2F", SLASH).replace("%2f", SLASH))


def id_of(text: str) -> str:
    """An id out of an address."""
    return text.replace(SLASH, "/")
