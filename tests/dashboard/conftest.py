"""The dashboard in a real browser: Debian's Chromium, driven by Playwright, at a server of this process.

Every page of the tests is watched: a violation of its policy, an error, a dialog or a request to another host fails the
test that it happened in.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sessile import SqliteStorage
from sessile.server import create_app
from sessile.server.uvicorned import Served, listening

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

expect.set_options(timeout=20_000)

SIZES = {"desktop": (1360, 860), "phone": (390, 844)}

PICTURES = Path(os.environ.get("SESSILE_PICTURES", ""))
"""Where pictures of the views are kept, if anywhere."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module, and no longer: while it is there, this thread's event loop runs, and others cannot start one."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed.")
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


class Watched:
    """What must not happen in a page."""

    def __init__(self, page: Page) -> None:
        self.wrong: list[str] = []
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._asked(request.url))

    def _said(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:  # answers such as 404, which views show
            self.wrong.append(f"console: {text}")

    def _asked(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:")):
            self.wrong.append(f"request: {url}")


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a page, `open_page(address, size="phone", dark=True, **context)`, and watches it."""
    watched: list[tuple[Page, Watched]] = []

    def opened(address: str, *, size: str = "desktop", dark: bool = False, **options: Any) -> Page:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            has_touch=size == "phone",
            reduced_motion="reduce",
            locale="en-GB",
            **options,
        )
        context.set_default_timeout(20_000)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        watched.append((page, Watched(page)))
        page.goto(address)
        return page

    yield opened
    wrong = [what for _, one in watched for what in one.wrong]
    for page, _ in watched:
        page.context.close()
    assert wrong == []


@contextmanager
def serving(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serves an application in a thread; yields its address."""
    with listening("127.0.0.1", port) as (socket, address):
        server = Served(app, fd=socket.fileno())
        thread = threading.Thread(target=asyncio.run, args=[server.serve()])
        thread.start()
        try:
            yield address
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "sessions.db") as made:
        yield made


@pytest.fixture
def address(storage: SqliteStorage) -> Iterator[str]:
    """A server that shows the sessions of `storage`, and runs nothing."""
    with serving(create_app(storage=storage)) as found:
        yield found
