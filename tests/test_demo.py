"""`sessile demo`, as a newcomer runs it: one command, several processes, and what they leave in the database."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("pydantic_ai")

from tests.model_server import ModelServer

from sessile import SqliteStorage
from sessile.cli import demo

KEYS = {provider.key for provider in demo.PROVIDERS}
QUOTED = 'Your last question was: "What is the capital of France?"'


def run_demo(
    cwd: Path, *arguments: str, command: Sequence[str] = ("-m", "sessile"), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command as a process, with no keys but those that are given."""
    kept = {name: value for name, value in os.environ.items() if name not in KEYS}
    return subprocess.run(
        [sys.executable, *command, "demo", *arguments],
        cwd=cwd,
        env={**kept, "PYTHONUTF8": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def sections(printed: str) -> list[str]:
    """What is printed before, at and after the three processes."""
    return re.split(r"^(?:\d\. |The )", printed, flags=re.MULTILINE)


@pytest.mark.measured_children
def test_a_later_process_answers_from_what_an_earlier_one_stored(tmp_path: Path) -> None:
    done = run_demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    head, told, before, after, listed, messages, end = sections(done.stdout)
    assert "offline, a small stand-in" in head
    assert "not a language model" in head
    assert "The capital of France is Paris." in told
    assert "cannot know" in before
    assert QUOTED not in before
    assert QUOTED in after
    assert re.search(r"^demo +demo +ada +3 +completed ", listed, re.MULTILINE)
    assert re.search(r"^2 +user +What is the capital of France\?$", messages, re.MULTILINE)
    assert re.search(r"^3 +agent +Your last question was", messages, re.MULTILINE)
    assert "demo run 2: What is the capital of France?" in messages
    assert "Rated: the answer of run 2 was right\nscore 1, by ada: Exactly.\n" in messages
    assert "Question: What is the capital of France?\nAnswer: The capital of France is Paris." in messages
    processes = re.findall(r"process (\d+)", done.stdout)
    assert len(set(processes)) == len(processes) == 3
    (path,) = re.findall(r"^Database: (.+)$", head, re.MULTILINE)
    assert not Path(path).exists()
    assert "--db" in end
    assert not list(tmp_path.iterdir())


def test_keeps_and_goes_on_with_the_database_that_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "demo.db"
    with SqliteStorage(path) as storage:
        storage.add_run("demo", input="Hello", output="Good day", user_id="ada")
    done = run_demo(tmp_path, "--db", "kept/demo.db")
    assert done.returncode == 0, done.stderr
    assert "sessile show sqlite:///kept/demo.db demo" in done.stdout
    with SqliteStorage(path) as storage:
        runs = storage.runs("demo", user_id="ada")
        assert storage.verify("demo", user_id="ada") == 8
    assert [run.input for run in runs] == ["Hello", *demo.TOLD, demo.ASKED]
    assert runs[-1].output == QUOTED


def test_works_in_a_base_install_and_in_any_directory(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    absent.mkdir()
    for package in ("typer", "rich"):
        (absent / f"{package}.py").write_text(f"raise ModuleNotFoundError({package!r})\n")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')\n")
    program = "import sys; sys.path.remove(''); from sessile.cli import main; sys.exit(main())"
    path = os.pathsep.join(filter(None, [str(absent), os.environ.get("PYTHONPATH", "")]))
    done = run_demo(tmp_path, "--db", "base.db", command=["-c", program], PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert QUOTED in done.stdout
    assert (tmp_path / "base.db").exists()


@pytest.mark.measured_children
def test_fails_if_the_history_is_not_used(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "ASKED", "What is the capital of Spain?")
    assert demo.run_demo(model="offline") == 1
    assert "did not answer from the stored history" in capsys.readouterr().err


def test_a_database_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Not a database, but longer than the header that a database has. " * 3)
    done = run_demo(tmp_path, "--db", "notes.txt")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "not a database" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- providers


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


@pytest.mark.skipif(find_spec("openai") is None, reason="needs the extra openai")
def test_uses_the_provider_whose_key_is_set(tmp_path: Path, server: ModelServer) -> None:
    done = run_demo(tmp_path, OPENAI_API_KEY="test", OPENAI_BASE_URL=server.base_url)
    assert done.returncode == 0, done.stderr
    assert "Model: openai:gpt-5-mini" in done.stdout
    assert "offline" not in done.stdout
    assert len(server.requests) == 4
    before, after = server.requests[2:]
    assert "capital of France" not in str(before.body)
    assert "capital of France" in str(after.body)


def test_a_model_can_be_chosen(tmp_path: Path, server: ModelServer) -> None:
    done = run_demo(tmp_path, "--model", "offline", OPENAI_API_KEY="test", OPENAI_BASE_URL=server.base_url)
    assert done.returncode == 0, done.stderr
    assert "Model: offline" in done.stdout
    assert not server.requests


@pytest.mark.skipif(find_spec("openai") is None, reason="needs the extra openai")
def test_a_provider_that_fails_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens there
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        done = run_demo(tmp_path, OPENAI_API_KEY="test", OPENAI_BASE_URL=address)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "--model offline" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_choose_the_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    assert demo.choose_model() == "offline"
    monkeypatch.setenv("OPENAI_API_KEY", "")
    assert demo.choose_model() == "offline"
    assert capsys.readouterr().out == ""
    for provider in reversed(demo.PROVIDERS):  # the first of them wins
        monkeypatch.setenv(provider.key, "test")
        chosen = demo.choose_model()
        if demo.installed(provider.library):
            assert chosen == provider.model
        else:
            printed = capsys.readouterr().out
            assert f"{provider.key} is set" in printed
            assert f'pip install "sessile[{provider.extra}]"' in printed
