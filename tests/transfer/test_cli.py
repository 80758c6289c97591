"""The commands that move sessions."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sessile
from sessile import ANY_USER, SqliteStorage
from sessile.cli import main

from .helpers import everything

pytest.importorskip("typer")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(list(arguments))
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return int(code or 0), out, err

    return run


Call = Callable[..., tuple[int, str, str]]


def test_copy(call: Call, filled: SqliteStorage, tmp_path: Path) -> None:
    one, two = f"sqlite:///{tmp_path}/source.db", f"json:///{tmp_path}/target"
    code, out, _ = call("copy", one, two)
    assert (code, out) == (0, "5 sessions, 71 commits, 2 media and records; 0 were there already.\n")
    with sessile.open(two) as target:
        assert everything(target) == everything(filled)
        target.add_run("seen", input="apart", output="…")
    filled.delete("fork", user_id="ada")
    filled.add_run("seen", input="apart", output="…")
    code, out, err = call("copy", one, two, "--mirror", "--workers", "1")
    assert (code, out) == (
        1, "0 sessions, 0 commits, 0 media and records; 3 were there already.\nRemoved 1 sessions that are gone.\n",
    )  # fmt: skip
    assert "Session 'seen' was left out: Session 'seen' was continued in the target" in err
    code, out, _ = call("copy", one, two, "--user", "ada", "--json")
    assert (code, json.loads(out)) == (
        0, {"sessions": 0, "commits": 0, "records": 0, "unchanged": 2, "removed": 0, "skipped": {}},
    )  # fmt: skip
    assert call("copy", f"sqlite:///{tmp_path}/nowhere.db", two)[0] == 1
    assert call("copy", one, two, one)[0] == 2


def test_export_and_import(call: Call, filled: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, archive = f"sqlite:///{tmp_path}/source.db", f"{tmp_path}/all.jsonl.gz"
    target = f"sqlite:///{tmp_path}/target.db"
    assert call("export", url, "--to", archive)[:2] == (
        0, "5 sessions, 71 commits, 2 media and records; 0 were there already.\n",
    )  # fmt: skip
    assert call("import", target, archive)[0] == 0
    with SqliteStorage(tmp_path / "target.db") as storage:
        assert everything(storage) == everything(filled)
    assert call("import", target, archive)[1].endswith("5 were there already.\n")
    monkeypatch.setenv("SESSILE_STORAGE", f"sqlite:///{tmp_path}/third.db")
    assert call("export", url, "long", "--to", archive, "--user", "ada")[0] == 0
    assert call("import", archive)[0] == 0
    with SqliteStorage(tmp_path / "third.db") as storage:
        assert [one.session_id for one in storage.sessions(user_id=ANY_USER)] == ["long"]
    assert "no session 'long'" in call("export", url, "long", "--to", archive, "--user", "eve")[2]
    assert "chosen by nothing else" in call("export", url, "long", "--to", archive, "--kind", "agent")[2]
    Path(archive).write_bytes(b"nothing")
    assert "Line 1 of the archive" in call("import", archive)[2]
    assert "no file" in call("import", f"{tmp_path}/nowhere")[2]


def test_files_that_cannot_be_used(call: Call, filled: SqliteStorage, tmp_path: Path) -> None:
    url, nowhere = f"sqlite:///{tmp_path}/source.db", f"{tmp_path}/nowhere/file"
    for command in (
        ("export", url, "--to", nowhere),
        ("export", url, "--to", f"{nowhere}.csv", "--as", "runs"),
        ("backup", url, nowhere),
    ):
        code, _, err = call(*command)
        assert (code, f"{nowhere}" in err, "cannot be written: No such file" in err) == (1, True, True)
    if Path("/dev/full").is_char_device():
        code, _, err = call("export", url, "--to", "/dev/full")
        assert (code, "'/dev/full' cannot be written: No space left" in err) == (1, True)
        assert Path("/dev/full").is_char_device()


def test_copy_behind_a_stop(call: Call, filled: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db"
    program = f"import sessile; sessile.open({one!r}).add_run('seen', input='the last one', output='…')"
    command = f'"{sys.executable}" -c "{program}" && echo stopped'
    code, out, _ = call("copy", one, two, "--stop-command", command, "--json")
    assert (code, json.loads(out)["sessions"]) == (0, 5)
    with sessile.open(two) as target:
        assert target.runs("seen")[-1].input == "the last one"
        assert everything(target) == everything(filled)
    code, _, err = call("copy", one, two, "--stop-command", "exit 3")
    assert (code, "it ended with 3" in err) == (1, True)
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    code, _, err = call("copy", one, two, "--stop")
    assert (code, "press Enter" in err) == (0, True)
    assert "Nobody has said" in call("copy", one, two, "--stop")[2]
    assert call("copy", one, two, "--stop", "--stop-command", "true")[0] == 2
