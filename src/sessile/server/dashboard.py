"""The dashboard: pages for a browser, built ahead (`ui/`), which read the API alone.

Whoever may reach the server may have these files: they hold no data. The page asks for a token where the API wants one.
"""

from __future__ import annotations

import gzip
import mimetypes
import secrets
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from .problems import Problem

STATIC = Path(__file__).parent / "static"

NONCE = "__NONCE__"
"""Stands in the page for a number that each answer has anew; components that bring styles of their own name it."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'nonce-{nonce}'",
        "img-src 'self' blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""No script but ours, none from text, nothing from or to other hosts."""

FOREVER = "public, max-age=31536000, immutable"
SMALLEST = 1_000
"""Bytes from which on a file is sent compressed."""

COMPRESSED = frozenset({".js", ".css", ".svg", ".txt", ".html"})


def dashboard_router() -> APIRouter:
    """The routes of the pages; they need no user, and are no part of the API's description."""
    router = APIRouter(include_in_schema=False)
    router.add_api_route("/", _index, methods=["GET"])
    router.add_api_route("/assets/{name}", _asset, methods=["GET"])
    router.add_api_route("/icon.svg", _icon, methods=["GET"])
    router.add_api_route("/NOTICES.txt", _notices, methods=["GET"])
    return router


async def _index(request: Request) -> Response:
    if not request.url.path.endswith("/"):  # mounted below a path: addresses in the page are relative to it
        return RedirectResponse(f"{request.scope.get('root_path', '')}/")
    nonce = secrets.token_urlsafe(16)
    page = _read("index.html").decode().replace(NONCE, nonce)
    headers = {
        "Content-Security-Policy": POLICY.format(nonce=nonce),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        "Cache-Control": "no-store",
    }
    return Response(page, 200, headers, "text/html")


async def _asset(request: Request, name: str) -> Response:
    return _file(request, f"assets/{name}", FOREVER)


async def _icon(request: Request) -> Response:
    return _file(request, "icon.svg", "public, max-age=3600")


async def _notices(request: Request) -> Response:
    return _file(request, "NOTICES.txt", "public, max-age=3600")


def _file(request: Request, name: str, caching: str) -> Response:
    if name not in _names():
        raise Problem(404, "not-found", "Not Found")
    headers = {"Cache-Control": caching, "Vary": "Accept-Encoding"}
    packed = "gzip" in request.headers.get("accept-encoding", "") and len(_read(name)) >= SMALLEST
    if packed and Path(name).suffix in COMPRESSED:
        headers["Content-Encoding"] = "gzip"
        return Response(_packed(name), 200, headers, _type_of(name))
    return Response(_read(name), 200, headers, _type_of(name))


def _type_of(name: str) -> str:
    if name.endswith(".js"):
        return "text/javascript"  # whatever the machine's own table says
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


@cache
def _names() -> frozenset[str]:
    return frozenset(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.is_file())


@cache
def _read(name: str) -> bytes:
    return (STATIC / name).read_bytes()


@cache
def _packed(name: str) -> bytes:
    return gzip.compress(_read(name), 9, mtime=0)
