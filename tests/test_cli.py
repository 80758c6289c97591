"""The command `sessile`: what it prints, what it answers to mistakes, and what a base install has of it."""

from __future__ import annotations

import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, SqliteStorage, __version__
from sessile.cli import main
from sessile.records import Entry, Usage
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.vocabulary import MessageAdded, RunEnded

pytestmark = pytest.mark.measured_children


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The cells of a printed table, without its head."""
        return [line.split() for line in self.out.splitlines()[2:]]


Command = Callable[..., Done]


@pytest.fixture
def sessile(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in this process."""
    pytest.importorskip("typer")

    def run(*arguments: str) -> Done:
        try:
            code: Any = main(arguments)
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return Done(code or 0, printed.out, printed.err)

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with three sessions."""
    path = tmp_path / "sessions.db"
    with SqliteStorage(path) as storage:
        storage.add_run("trip", input="Where to?", output="To the sea.", user_id="ada", agent="travel")
        storage.add_run("food", input="Bread?", status="failed", error={"type": "OSError", "message": "no oven"})
        storage.create_session("team", user_id="ada", agent="crew", kind="team", name="The crew")
    return path


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


# ---------------------------------------------------------------- the command itself


def test_version(sessile: Command) -> None:
    assert sessile("--version") == Done(0, f"sessile {__version__}\n", "")


def test_help_lists_the_commands(sessile: Command) -> None:
    listed = sessile("--help").out
    for command in ("demo", "sessions", "show", "export", "delete", "sweep", "verify", "doctor", "drivers"):
        assert f"  {command} " in listed
        assert sessile(command, "--help").code == 0


def test_unknown_commands_are_refused(sessile: Command) -> None:
    done = sessile("sesions", "memory://")
    assert done.code == 2
    assert "sesions" in done.err


# ---------------------------------------------------------------- sessions


def test_lists_sessions_newest_first(sessile: Command, url: str) -> None:
    done = sessile("sessions", url)
    assert done.code == 0
    assert [row[0] for row in done.rows] == ["team", "food", "trip"]
    assert {"agent", "travel", "ada", "1", "completed"} < set(done.rows[2])
    assert "The crew" in done.out


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (["--user", "ada"], ["team", "trip"]),
        (["--agent", "travel"], ["trip"]),
        (["--kind", "team"], ["team"]),
        (["--status", "failed"], ["food"]),
        (["--user", "bo"], []),
        (["--limit", "2"], ["team", "food"]),
    ],
)
def test_filters_sessions(sessile: Command, url: str, arguments: list[str], ids: list[str]) -> None:
    assert [row[0] for row in sessile("sessions", url, *arguments).rows] == ids


def test_says_when_there_are_more(sessile: Command, url: str) -> None:
    assert "There are more" in sessile("sessions", url, "--limit", "2").err
    assert sessile("sessions", url, "--limit", "3").err == ""


def test_lists_more_than_a_page_holds(sessile: Command, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.cli.commands.PAGE", 1)
    assert [row[0] for row in sessile("sessions", url).rows] == ["team", "food", "trip"]
    assert [row[0] for row in sessile("sessions", url, "--limit", "2").rows] == ["team", "food"]


def test_lists_as_json(sessile: Command, url: str, path: Path) -> None:
    listed = json.loads(sessile("sessions", url, "--json").out)
    with SqliteStorage(path) as storage:
        heads = storage.sessions(user_id=ANY_USER).items
    assert [item["session_id"] for item in listed] == [head.session_id for head in heads]
    assert [datetime.fromisoformat(item["updated_at"]) for item in listed] == [head.updated_at for head in heads]
    assert [item["user_id"] for item in listed] == ["ada", None, "ada"]
    assert all("created_us" not in item and "runs" not in item for item in listed)


def test_an_unknown_status_is_refused(sessile: Command, url: str) -> None:
    done = sessile("sessions", url, "--status", "sleeping")
    assert (done.code, done.out) == (1, "")
    assert "completed" in done.err


def test_long_values_are_not_cut_off_outside_a_terminal(sessile: Command, url: str, path: Path) -> None:
    long = "s" * 200
    with SqliteStorage(path) as storage:
        storage.create_session(long)
    assert long in sessile("sessions", url).out


# ---------------------------------------------------------------- one session


def test_shows_a_session(sessile: Command, url: str) -> None:
    shown = sessile("show", url, "trip").out
    for part in ("Session trip", "agent: travel", "user: ada", "Run 1, completed", "Where to?", "To the sea."):
        assert part in shown
    assert "error: OSError: no oven" in sessile("show", url, "food").out
    assert "no runs yet" in sessile("show", url, "team").out


def test_shows_the_newest_runs(sessile: Command, url: str, path: Path) -> None:
    with SqliteStorage(path) as storage:
        for number in range(2, 14):
            storage.add_run("trip", input=f"question {number}", output="yes", user_id="ada")
    assert "Run 3," not in sessile("show", url, "trip").out
    shown = sessile("show", url, "trip", "--runs", "2").out
    assert shown.index("question 12") < shown.index("question 13")
    assert "question 11" not in shown


def test_shows_messages_of_any_format(sessile: Command, url: str, path: Path) -> None:
    ours = [
        {
            "kind": "request",
            "parts": [
                {"part_kind": "system-prompt", "content": "Be kind."},
                {"part_kind": "user-prompt", "content": ["Look:", {"kind": "image-url", "url": "a.png"}]},
            ],
        },
        {"kind": "response", "parts": [{"part_kind": "tool-call", "tool_name": "zoom", "args": {"by": 2}}]},
        {"kind": "request", "parts": [{"part_kind": "tool-return", "tool_name": "zoom", "content": {"ok": True}}]},
        {"kind": "response", "parts": [{"part_kind": "text", "content": "A cat.\nTwo cats."}]},
        {"kind": "response", "parts": [{"part_kind": "dream", "depth": 3}, "odd"]},
    ]
    theirs = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello"}], "tool_calls": [{"id": "c1"}]},
        {"thought": "deep"},
    ]
    with SqliteStorage(path) as storage:
        storage.add_run("m", input="a", messages=ours, format="pydantic-ai/2")
        storage.add_run("m", input="b", messages=theirs, format="openai")
        turn = start_run(storage, "m")  # what writes entries of its own may store what `add_run` refuses
        odd = turn.entry(MessageAdded(["not", "an", "object"]), "their own")
        operate(storage, turns.end_turn, turn, [odd], RunEnded(status="completed", output=None), [])
    shown = sessile("show", url, "m").out
    for line in (
        "  system: Be kind.",
        "  user: Look: [image a.png]",
        '  tool zoom: {"by": 2} → {"ok": true}',
        "  agent: A cat.\n    Two cats.",
        '  dream: {"depth": 3}',
        "  part: odd",
        "  user: Hi",
        '  agent: Hello {"tool_calls": [{"id": "c1"}]}',
        '  message: {"thought": "deep"}',
        "  message: not an object",
    ):
        assert f"{line}\n" in shown


def test_shows_state_usage_and_what_a_run_waits_for(sessile: Command, url: str, path: Path) -> None:
    with SqliteStorage(path) as storage:
        used = Usage(requests=2, input_tokens=30, output_tokens=4, cost=Decimal("0.0015"))
        storage.add_run("s", input={"a": 1}, output=[1, None], usage=used, state={"step": 2})
        storage.set_metadata("s", {"topic": "é"})
        turn = start_run(storage, "s")
        ended = RunEnded(status="paused", pending={"requests": ["pay"]})
        operate(storage, turns.end_turn, turn, [], ended, [])
        storage.fork("s", session_id="copy")
    shown = sessile("show", url, "s").out
    for part in (
        "usage: 34 tokens in 2 requests, $0.001500",
        'state: {"step": 2}',
        'metadata: {"topic": "é"}',
        'input: {"a": 1}',
        "output: [1, null]",
        'waits for: {"requests": ["pay"]}',
    ):
        assert part in shown
    assert 'forked from: {"session_id": "s", "run": 2}' in sessile("show", url, "copy").out


def test_shows_runs_of_members_below_the_run_above(sessile: Command, url: str, path: Path) -> None:
    with SqliteStorage(path) as storage:
        turn = start_run(storage, "crew")
        member = {"run_id": "m1", "parent_run_id": turn.spec.run_id, "agent": "cook"}
        entries = [
            Entry("run.started", {"input": "Boil"}, **member),
            Entry("run.ended", {"status": "completed", "output": "Boiled"}, **member),
        ]
        operate(storage, turns.end_turn, turn, entries, RunEnded(status="completed", output="Done"), [])
    shown = sessile("show", url, "crew").out
    assert "  output: Done\n  Run of cook, completed\n    input: Boil\n    output: Boiled\n" in shown


def start_run(storage: SqliteStorage, session_id: str) -> turns.Turn:
    spec = turns.TurnSpec(session_id, run_id="r1", input="Go")
    turn = operate(storage, turns.open_turn, spec, 0)
    operate(storage, turns.start_turn, turn)
    return turn


def test_shows_as_json(sessile: Command, url: str) -> None:
    shown = json.loads(sessile("show", url, "trip", "--json").out)
    assert shown["session"]["agent"] == "travel"
    assert [run["output"] for run in shown["runs"]] == ["To the sea."]


@pytest.mark.parametrize(
    ("cost", "shown", "printed"),
    [
        (Decimal("0.00000021"), "0.00000021", "usage: 12 tokens in 1 request, $0.000000\n"),
        (Decimal(3), "3", "usage: 12 tokens in 1 request, $3.000000\n"),
        (Decimal(0), "0", "usage: 12 tokens in 1 request\n"),
        (None, None, "usage: 12 tokens in 1 request\n"),
    ],
)
def test_shows_costs_and_times(
    sessile: Command, url: str, path: Path, cost: Decimal | None, shown: str | None, printed: str
) -> None:
    with SqliteStorage(path) as storage:
        storage.create_session("s", ttl=timedelta(days=30))
        run = storage.add_run(
            "s", usage=Usage(requests=1, input_tokens=12, cost=cost), format="test/1", messages=[{"text": "x"}]
        )
        head = storage.get_session("s")
    assert head is not None
    assert head.expires_at is not None
    found = json.loads(sessile("show", url, "s", "--json").out)
    usage = {"requests": 1, "input_tokens": 12, "unpriced": 0 if cost is not None else 1, "cost": shown}
    assert found["session"]["usage"] == found["runs"][0]["usage"] == usage
    assert (found["session"]["ttl"], found["session"]["open_runs"]) == (30 * 24 * 3600, {})
    assert datetime.fromisoformat(found["session"]["expires_at"]) == head.expires_at
    assert datetime.fromisoformat(found["runs"][0]["ended_at"]) == run.ended_at
    assert datetime.fromisoformat(found["runs"][0]["messages"][0]["time"]) == run.messages[0].time
    assert printed in sessile("show", url, "s").out
    lines = [json.loads(line) for line in sessile("export", url, "s").out.splitlines()]
    assert {datetime.fromisoformat(line["time"]) for line in lines} == {head.created_at, head.updated_at}


def test_a_part_of_the_cost_is_said_to_be_a_part(sessile: Command, url: str, path: Path) -> None:
    with SqliteStorage(path) as storage:
        for cost in (Decimal("0.5"), None):
            storage.add_run("s", usage=Usage(requests=1, input_tokens=1, cost=cost))
    assert "usage: 2 tokens in 2 requests, $0.500000 and what has no known price\n" in sessile("show", url, "s").out


@pytest.mark.parametrize("command", ["show", "export", "verify", "delete"])
def test_one_session_of_one_user(sessile: Command, url: str, command: str) -> None:
    for user in ("eve", "Ada"):
        done = sessile(command, url, "trip", "--user", user)
        assert (done.code, done.out) == (1, "")
        assert "There is no session 'trip'." in done.err
    assert sessile(command, url, "trip", "--user", "ada").code == 0


def test_migrates(sessile: Command, tmp_path: Path) -> None:
    path = tmp_path / "new" / "sessions.db"
    url = f"sqlite:///{path}"
    planned = sessile("migrate", url, "--dry-run")
    assert planned.out.startswith("CREATE TABLE sessile_sessions (")
    assert not path.exists()
    assert sessile("migrate", url).out == planned.out
    for arguments in ((), ("--dry-run",), ("--finish",)):
        done = sessile("migrate", url, *arguments)
        assert (done.code, done.out) == (0, "-- The schema is up to date.\n")
    with SqliteStorage(path) as storage:
        storage.add_run("s")


def test_data_cannot_control_the_terminal(sessile: Command, url: str, path: Path) -> None:
    evil = "\x1b]0;title\x07 \x9b2J [red]x[/red]\r\x00"
    with SqliteStorage(path) as storage:
        storage.add_run("evil", input=evil, output=evil, agent="\x1b[31m")
    for arguments in (["sessions"], ["show", "evil"], ["export", "evil"], ["show", "evil", "--json"]):
        done = sessile(arguments[0], url, *arguments[1:])
        assert not set(done.out) & set("\x1b\x07\x9b\r\x00")
    assert "[red]x[/red]" in sessile("show", url, "evil").out
    assert json.loads(sessile("show", url, "evil", "--json").out)["runs"][0]["input"] == evil


@pytest.mark.parametrize("command", ["show", "export", "delete", "verify"])
def test_a_session_that_is_not_there(sessile: Command, url: str, command: str) -> None:
    done = sessile(command, url, "nobody")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: There is no session 'nobody'.\n")


# ---------------------------------------------------------------- export, delete, sweep, verify


def test_exports_the_whole_log(sessile: Command, url: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStorage(path) as storage:
        for text in ("é", "\ud800 lone", "x" * 5000):
            storage.add_run(
                "trip", input=text, messages=[{"role": "user", "content": text}], format="openai", user_id="ada"
            )
        storage.update_state("trip", {"k": [1, None]}, user_id="ada")
        entries = storage.entries("trip", user_id="ada")
    monkeypatch.setattr("sessile.cli.commands.PAGE", 2)
    lines = [json.loads(line) for line in sessile("export", url, "trip").out.splitlines()]
    assert [line["data"] for line in lines] == [entry.data for entry in entries]
    assert [(line["seq"], line["kind"], line["run"]) for line in lines] == [
        (entry.seq, entry.kind, entry.run) for entry in entries
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_exports_in_any_encoding(url: str, path: Path, tmp_path: Path, encoding: str) -> None:
    pytest.importorskip("typer")
    text = "é \ud800 \x9b 漢字"
    with SqliteStorage(path) as storage:
        storage.add_run("words", input=text)
    done = subprocess.run(
        [sys.executable, "-m", "sessile", "export", url, "words"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    inputs = [json.loads(line)["data"].get("input") for line in done.stdout.decode(encoding).splitlines()]
    assert text in inputs


def test_a_reader_may_leave_early(url: str, path: Path, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    with SqliteStorage(path) as storage:
        storage.add_run("long", format="test/1", messages=[{"text": "x" * 1000} for _ in range(1000)])
    with subprocess.Popen(
        [sys.executable, "-m", "sessile", "export", url, "long"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert json.loads(running.stdout.readline())["seq"] == 1
        running.stdout.close()
        assert "Traceback" not in running.stderr.read()


def test_deletes_a_session(sessile: Command, url: str, path: Path) -> None:
    assert sessile("delete", url, "trip").code == 0
    with SqliteStorage(path) as storage:
        assert storage.get_session("trip", user_id=ANY_USER) is None
        assert storage.get_session("food") is not None
    assert sessile("delete", url, "trip").code == 1


def test_sweeps_what_is_expired(sessile: Command, url: str, path: Path) -> None:
    with SqliteStorage(path) as storage:
        storage.create_session("old", ttl=0)
    assert sessile("sweep", url).out == "Removed 1 session.\n"
    assert sessile("sweep", url).out == "Removed 0 sessions.\n"


def test_verifies_a_session(sessile: Command, url: str, path: Path) -> None:
    assert "sound: 1 commits" in sessile("verify", url, "trip").out
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sessile_sessions SET body = replace(body, 'tip\":1', 'tip\":0')")
    connection.close()
    done = sessile("verify", url, "trip")
    assert (done.code, done.out) == (1, "")
    assert "not what its log folds to" in done.err


def test_the_doctor_names_what_is_wrong(sessile: Command, url: str, path: Path) -> None:
    healthy = sessile("doctor", url)
    assert (healthy.code, healthy.err) == (0, "")
    assert healthy.out.endswith(" sound, 0 are not.\n")
    assert "Warning" not in healthy.out
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sessile_sessions SET body = replace(body, 'tip\":1', 'tip\":0')")
    connection.close()
    done = sessile("doctor", url)
    assert done.code == 1
    assert "Session trip is wrong: The head of session 'trip' is not what its log folds to." in done.out
    assert "Warning: what is acknowledged may be gone" in sessile("doctor", "memory://").out


# ---------------------------------------------------------------- databases


def test_a_mistyped_path_makes_no_database(sessile: Command, tmp_path: Path) -> None:
    missing = tmp_path / "no.db"
    for arguments in (["sessions"], ["show", "s1"], ["sweep"]):
        done = sessile(arguments[0], f"sqlite:///{missing}", *arguments[1:])
        assert done.code == 1
        assert "There is no file" in done.err
    assert "There is no file" in sessile("sessions", f"sqlalchemy+sqlite:///{missing}").err
    assert not missing.exists()


@pytest.mark.parametrize("scheme", ["json", "yaml"])
def test_a_folder_of_something_else_stays_as_it_is(sessile: Command, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "mine.txt").touch()
    done = sessile("sessions", f"{scheme}:///{tmp_path}")
    assert (done.code, done.out) == (1, "")
    assert "has no sessions" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("scheme", ["sqlite", "sqlalchemy+sqlite"])
def test_only_migrate_makes_tables(sessile: Command, tmp_path: Path, scheme: str) -> None:
    """The wrong file, of another program, stays as it is."""
    if scheme != "sqlite":
        pytest.importorskip("sqlalchemy")
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE mine (a)")
    url = f"{scheme}:///{file}"
    for arguments in (["sessions"], ["doctor"], ["sweep"], ["show", "s1"]):
        done = sessile(arguments[0], url, *arguments[1:])
        assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 2)
        assert "sessile migrate" in done.err
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    assert sessile("migrate", url).code == 0
    assert sessile("sessions", url).code == 0


def test_a_url_that_cannot_be_read_is_an_error_without_the_url(sessile: Command) -> None:
    done = sessile("sessions", "postgresql://ada:Hunter[Tomato@host/db")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: This is not a URL.\n")
    assert "Hunter" not in done.err


def test_the_url_out_of_the_environment(sessile: Command, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSILE_STORAGE", url)
    assert [row[0] for row in sessile("sessions").rows] == ["team", "food", "trip"]
    assert "Session trip\n" in sessile("show", "trip").out
    for command in ("export", "verify", "delete"):
        assert sessile(command, "food").code == 0
    for command in ("doctor", "sweep", "migrate"):
        assert sessile(command).code == 0
    other = sessile("sessions", "memory://")
    assert (other.code, other.rows) == (0, [])


def test_the_url_on_the_standard_input(sessile: Command, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["sessions", "-"], ["show", "-", "trip"], ["migrate", "-"]):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{url}\n"))
        assert sessile(*arguments).code == 0


def test_no_url_at_all(sessile: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSILE_STORAGE", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    for arguments in (["sessions"], ["show", "s1"], ["migrate"]):
        done = sessile(*arguments)
        assert (done.code, done.out) == (1, "")
        assert "SESSILE_STORAGE" in done.err
    assert "not a URL" in sessile("sessions", "-").err
    assert sessile("show").code == 2


def test_a_password_on_the_command_line_is_warned_of(sessile: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://ada:Tomato@127.0.0.1:1/db"
    done = sessile("sessions", url)
    assert "all users of this machine can read the password" in done.err
    assert "Tomato" not in done.err
    monkeypatch.setenv("SESSILE_STORAGE", url)
    assert "list of processes" not in sessile("sessions").err


def test_a_file_of_something_else(sessile: Command, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("Not a database, but long enough to have a header of one hundred bytes. " * 3)
    done = sessile("sessions", f"sqlite:///{file}")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 2
    assert "Traceback" not in done.err


def test_an_unknown_database(sessile: Command) -> None:
    done = sessile("sessions", "nodb://host/name")
    assert done.code == 1
    assert "There is no driver for 'nodb'" in done.err
    assert "sqlite" in done.err


# ---------------------------------------------------------------- terminals


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_table_with_lines(url: str, tmp_path: Path) -> None:
    pytest.importorskip("typer")
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "sessile", "sessions", url], cwd=tmp_path, env=environment, stdout=theirs
    ) as running:
        os.close(theirs)
        printed = b""
        while chunk := _read(ours):
            printed += chunk
    os.close(ours)
    assert running.returncode == 0
    text = printed.decode()
    assert "│" in text
    assert "travel" in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the other side is closed
        return b""
