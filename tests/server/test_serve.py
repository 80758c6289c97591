"""`sessile serve`, as it is called."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("typer")

from sessile import SqliteStorage
from sessile.cli import main

SHOP = """
from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel

storage = SqliteStorage("sessions.db")
support = Agent(OfflineModel(introduce=False), name="support", storage=storage)
everything = [support]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    return tmp_path


class Served:
    """The command at work."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        program = Path(sys.executable).with_name("sessile")
        self.process = subprocess.Popen(
            [program, "serve", *arguments, "--port", str(self.port)],
            cwd=folder,
            env={**os.environ, "SESSILE_STORAGE": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                self.ask("/health")
                return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.process.communicate())

    def ask(self, path: str, body: Any = None, **headers: str) -> Any:
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", "X-Sessile": "1", **headers}
        request = urllib.request.Request(f"http://localhost:{self.port}{path}", data, sent)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def end(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=60)


def test_a_module_is_served(folder: Path) -> None:
    served = Served(folder, "shop:everything")
    try:
        said = served.ask("/agents/support/runs", {"input": "Hello", "session_id": "s1"})
        assert said["output"] == 'You said: "Hello"'
        stream = urllib.request.urlopen(f"http://localhost:{served.port}/changes", timeout=30)
        assert stream.readline()
    finally:
        out, err = served.end()
    assert b"the server ends" in stream.read()
    assert "Serving support on http://127.0.0.1" in out
    noted = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert [one["session_id"] for one in noted if "session_id" in one] == ["s1"]
    assert "Traceback" not in err


def test_the_sessions_of_a_storage_are_shown_to_who_has_a_token(folder: Path) -> None:
    with SqliteStorage("sessions.db") as storage:
        storage.for_user("ada").add_run("s1", input="Hello", output="Hi")
    (folder / "tokens.json").write_text('{"a long random token": {"user": "ada"}}')
    served = Served(folder, "--storage", "sqlite:///sessions.db", "--tokens", "tokens.json", "--no-access-log")
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            served.ask("/sessions")
        assert refused.value.code == 401
        shown = served.ask("/sessions", Authorization="Bearer a long random token")
        assert [one["session_id"] for one in shown["items"]] == ["s1"]
    finally:
        served.end()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop"], "names nothing to serve"),
        (["nowhere:agent"], "no module 'nowhere'"),
        (["shop:nothing"], "has no 'nothing'"),
        (["shop:storage"], "not an agent"),
        (["shop:support", "--host", "0.0.0.0"], "on this machine alone"),
        (["shop:support", "--tokens", "none.json"], "cannot be read"),
        (["shop:support", "--tokens", "shop.py"], "not as it should be"),
        ([], "No database is named"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSILE_STORAGE", "")
    assert main(["serve", *arguments]) == 1
    assert said in capsys.readouterr().err
