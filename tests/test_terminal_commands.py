"""Every command, over a database in which every text attacks the terminal: none of it acts, none forges a line."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessile import SqliteStorage
from sessile.cli import main
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.turns import end_turn, open_turn, start_turn
from sessile.storage.vocabulary import RunEnded
from sessile.transfer import export_archive

from .test_terminal import active

pytest.importorskip("typer")

ATTACK = "\x1b]0;own\x07\x1b[2J\x9b31m\u202eevil\u2066\r\nforged\x08\u2028forged\x85forged\x7f\U000e0041\tforged"
"""What an id may be; other texts have NUL and a lone surrogate too."""

TEXT = f"{ATTACK}\0\ud800\n\nforged"

STRANGER = "another\nforged"


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with sessions that are sound, and damaged ones."""
    path = tmp_path_factory.mktemp("attacked") / "sessions.db"
    part: dict[str, Any] = {"part_kind": TEXT, "content": TEXT, TEXT: TEXT}
    tools = [
        {"part_kind": "tool-call", "tool_name": TEXT, "args": {TEXT: TEXT}},
        {"part_kind": "tool-return", "tool_name": TEXT, "content": TEXT},
        {"part_kind": "text", "content": TEXT},
        {"part_kind": "user-prompt", "content": [TEXT, {"text": TEXT}, {"kind": TEXT}]},
    ]
    messages = [
        {"kind": TEXT, "parts": [part, *tools, TEXT]},
        {"role": TEXT, "content": TEXT, TEXT: TEXT},
        {TEXT: [TEXT]},
    ]
    with SqliteStorage(path) as storage:
        for session_id in (ATTACK, f"damaged {ATTACK}", f"unreadable {ATTACK}"):
            storage.create_session(
                session_id, user_id=ATTACK, agent=ATTACK, name=TEXT.replace("\0", "").replace("\ud800", ""),
                metadata={TEXT: TEXT}, state={TEXT: TEXT},
            )  # fmt: skip
            storage.add_run(session_id, input=TEXT, output=TEXT, user_id=ATTACK, agent=ATTACK, run_id=ATTACK)
            storage.add_run(session_id, input=TEXT, messages=messages, format=ATTACK, user_id=ATTACK, agent=ATTACK)
            storage.add_run(session_id, status="failed", error={"type": TEXT, "message": TEXT}, user_id=ATTACK)
            storage.rate(session_id, 1, score=1, label=ATTACK, comment=TEXT, by=ATTACK, source=ATTACK, user_id=ATTACK)
        storage.memories(ATTACK).add(TEXT, topics=[TEXT])
        storage.files(ATTACK, user_id=ATTACK).write("<script>[red].md", TEXT.replace("\ud800", ""))
        storage.grant(ATTACK, ATTACK, user_id=ATTACK, by=ATTACK)
        turn = operate(storage, open_turn, turns.TurnSpec(ATTACK, run_id="paused", user_id=ATTACK, input=TEXT), 0)
        operate(storage, start_turn, turn)
        operate(storage, end_turn, turn, [], RunEnded(status="paused", pending={"requests": [TEXT]}), [])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE sessile_sessions SET body = replace(body, '\"run_count\":3', '\"run_count\":4')"
                           " WHERE session_id LIKE 'damaged%'")  # fmt: skip
        connection.execute("UPDATE sessile_sessions SET body = ? WHERE session_id LIKE 'unreadable%'", (TEXT[:-9],))
        connection.commit()
    return path


def commands() -> dict[str, Any]:
    import typer

    from sessile.cli.commands import app

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


VALUES = {"model": [ATTACK], "db": [], "user": [ATTACK, STRANGER], "agent": [ATTACK], "kind": ["agent", ATTACK],
          "status": ["failed", ATTACK], "limit": ["1", "100"], "runs": ["2"], "sessions": ["0", "50"], "tool": [ATTACK],
          "label": [ATTACK], "error": [ATTACK], "min_score": ["1"], "since": ["24h", ATTACK], "until": [ATTACK],
          "into": [], "by": ["user", "day", ATTACK], "zone": ["Europe/Berlin", ATTACK], "like": [ATTACK],
          "tokens": ["100"], "score": ["1"], "comment": [ATTACK], "source": [ATTACK], "correction": [ATTACK],
          "run": ["2", "4"], "args": ["{}", ATTACK], "reason": [ATTACK], "resume": [ATTACK, f"{ATTACK}:{ATTACK}"],
          "at": ["1"], "to": [ATTACK, "copy"], "name": [ATTACK], "message": ["0"], "lines": ["3"], "seconds": ["0"],
          "poll": ["0.1"], "workers": ["1"], "rate": ["100000"], "what": ["runs", "chat", "html", ATTACK],
          "out": [], "evaluator": [ATTACK], "contains": ["x"], "matches": ["("], "field": ["a"],
          "judge": [], "rubric": [], "tools": [ATTACK], "experiment": ["e"], "jobs": ["2"], "fail_under": ["1"],
          "markdown": [], "html": [], "library": ["openai", "agno", ATTACK], "prefix": [ATTACK],
          "key_file": [ATTACK],
          "keep": ["1h", ATTACK], "keep_runs": ["1"],
          "always": ["session", "user"], "ttl": ["60"], "epoch": ["1"], "session": [ATTACK, STRANGER],
          "revoke": [ATTACK], "results": ["{}", ATTACK], "output": ["{}", ATTACK],
          "stop_command": ["true", "false"], "stop_seconds": ["60"],
          "find": ["forged", ATTACK], "add": [ATTACK], "version": ["1"], "replaces": [ATTACK], "forget": [ATTACK],
          "storage": [ATTACK], "host": [ATTACK], "port": ["1"], "index": []}  # fmt: skip
"""What options with a value are tried with; a command with an option that is not here fails the test."""


SERVING = {("demo", "dashboard"), ("demo", "port"), ("dashboard", "port"), ("dashboard", "index")}
"""Options of commands that would serve until they are told to end."""


def calls(name: str, command: Any) -> Iterator[list[str]]:
    """The command as it is, and with each option."""
    arguments = [parameter.name for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    ids = [[ATTACK], [f"damaged {ATTACK}"], [f"unreadable {ATTACK}"], [STRANGER]]
    known = {(): [[]], ("url",): [[]], ("first", "second"): ids, ("names",): [[*one, "1"] for one in ids],
             ("url", "text"): [[ATTACK], ["evil"]], ("modules",): [["nowhere:agent"]]}  # fmt: skip
    if name == "copy":
        known["names",] = [["TARGET"]]
    if name == "import":
        known["names",] = [["ARCHIVE"], [ATTACK]]
    if name in ("backup", "restore"):
        known["names",] = [["FILE" if name == "backup" else "ARCHIVE"], ["nowhere/" + ATTACK]]
    if name == "erase-user":
        known["names",] = [[ATTACK], [STRANGER]]
    more = {
        "approve": ["c1"],
        "deny": ["c1"],
        "send": [ATTACK, ATTACK],
        "rename": [ATTACK[:99]],
        "replay": [f"{ATTACK}:x"],
        "hold": [ATTACK[:99]],
    }
    if name in more:
        known["names",] = [[*one, *more[name]] for one in ids] if name != "replay" else [more[name]]
    assert tuple(arguments) in known, f"teach this test the arguments of {name}: {arguments}"
    for chosen in known[tuple(arguments)]:
        if name not in ("demo", "dashboard"):  # which ask a model, and serve; as they are, they are other tests'
            yield [name, "URL", *chosen] if arguments else [name]
        for option in options:
            if option.name in ("help", "follow") or (name, option.name) in SERVING:
                continue  # what follows, or serves, has no end
            for values in [[]] if option.is_flag else [[value] for value in VALUES[option.name]]:
                yield [name, *(["URL", *chosen] if arguments else []), option.opts[0], *values]


def test_every_command_is_tried() -> None:
    """So that a new one cannot be forgotten: they are those of the command itself."""
    found = commands()
    assert {"sessions", "show", "export", "doctor", "drivers", "demo"} <= found.keys()
    assert all(list(calls(name, command)) for name, command in found.items() if name != "dashboard")


@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "terminal"])
@pytest.mark.parametrize("name", sorted(commands()))
def test_stored_text_does_nothing(
    name: str, terminal: bool, attacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "200")
    shown = ""
    monkeypatch.chdir(tmp_path)
    with SqliteStorage(attacked) as storage:
        export_archive(storage, tmp_path / "archive.jsonl")
    for number, call in enumerate(calls(name, commands()[name])):
        path = tmp_path / f"{number}.db"
        shutil.copy(attacked, path)
        places = {"URL": f"sqlite:///{path}", "TARGET": f"sqlite:///{tmp_path}/to{number}.db",
                  "ARCHIVE": f"{tmp_path}/archive.jsonl", "FILE": f"{tmp_path}/backup{number}.db"}  # fmt: skip
        arguments = [places.get(word, word) for word in call]
        out, err = run(arguments, monkeypatch)
        shown += out + err
        for printed in (out, err):
            assert not active(printed), arguments
            lines = printed.replace("\t", " ").splitlines()
            assert not [line for line in lines if line.startswith("forged")], arguments
        by_line = name in ("export", "tail") and "--to" not in call
        if "--json" in call and out and not by_line:
            json.loads(out)
        if by_line and (name == "export" or "--json" in call):
            assert all(json.loads(line) for line in out.splitlines())
    if name in ("sessions", "show", "export", "verify", "doctor", "delete", "tail", "waiting", "approve", "rewind",
                "copy", "import"):  # fmt: skip
        assert "evil" in shown, "else nothing is tested here"


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What a command writes, as it is written."""
    written = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", written[0])
        patch.setattr(sys, "stderr", written[1])
        patch.setattr(sys, "stdin", io.StringIO("\n"))
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    assert code != 2, f"the command does not take {arguments}"
    for stream in written:
        stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in written)  # type: ignore[attr-defined]
    return out, err


def test_json_brings_back_what_was_stored(attacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = run(["show", f"sqlite:///{attacked}", ATTACK, "--json"], monkeypatch)
    found = json.loads(out)
    assert found["session"]["session_id"] == ATTACK
    assert found["session"]["state"] == {TEXT: TEXT}
    assert found["runs"][0]["output"] == TEXT
