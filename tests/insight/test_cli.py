"""The commands that look into sessions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sessile import SqliteStorage, Usage
from sessile.cli import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sessile(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command on a database of two sessions."""
    pytest.importorskip("typer")
    with SqliteStorage(tmp_path / "s.db") as storage:
        used = Usage(1, 10, 5, cost=Decimal("0.002"))
        storage.add_run("s1", input="a refund", output="of course", user_id="ada", agent="support", usage=used)
        storage.add_run("s1", status="failed", error={"type": "E", "message": "boom"}, user_id="ada", agent="support")
        storage.add_run("s2", input="a parcel", usage=Usage(1, 1, 1))

    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        try:
            code: Any = main([command, f"sqlite:///{tmp_path}/s.db", *arguments])
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code or 0, printed.out, printed.err

    return run


def test_an_index_is_made_by_its_command_only(sessile: Run) -> None:
    code, _, err = sessile("runs")
    assert (code, "has no index yet.\nRun `sessile index`" in err) == (1, True)
    code, out, _ = sessile("index", "--dry-run")
    assert "CREATE TABLE" in out
    assert sessile("runs")[0] == 1
    code, out, _ = sessile("index")
    assert (code, out.startswith("The index has 3 runs, up to ")) == (0, True)
    assert sessile("runs")[0] == 0
    assert "0 sessions that are gone" in sessile("index", "--rebuild", "--check")[1]
    assert sessile("index", "--drop")[1] == "Removed the index.\n"
    assert sessile("runs")[0] == 1
    assert "CREATE TABLE" in sessile("migrate", "--index")[1]
    assert sessile("migrate", "--index")[1] == "-- The schema is up to date.\n"
    assert len(sessile("runs")[1].splitlines()) == 5


def test_runs(sessile: Run) -> None:
    sessile("index")
    _, out, _ = sessile("runs")
    head, _, *rows = out.splitlines()
    assert head.split()[:4] == ["started", "(UTC)", "session", "run"]
    assert [row.split()[2:4] for row in rows] == [["s2", "1"], ["s1", "2"], ["s1", "1"]]
    assert ["unknown" in rows[0], "failed: E" in rows[1], "$0.002" in rows[2]] == [True] * 3
    _, out, _ = sessile("runs", "--user", "ada", "--status", "failed", "--json")
    (run,) = json.loads(out)
    assert (run["session_id"], run["number"], run["error"], run["usage"]["cost"]) == ("s1", 2, "E", "0")
    _, out, err = sessile("runs", "--limit", "1", "--oldest-first")
    assert out.splitlines()[2].split()[2:4] == ["s1", "1"]
    assert "--limit 10" in err
    assert len(sessile("runs", "--since", "2h")[1].splitlines()) == 5
    assert len(sessile("runs", "--until", "2026-01-01")[1].splitlines()) == 2
    code, _, err = sessile("runs", "--since", "yesterday")
    assert (code, "--since is no time" in err) == (1, True)


def test_what_a_rewind_has_left_is_marked(sessile: Run) -> None:
    sessile("index")
    assert "rewound" not in sessile("runs")[1]
    sessile("rewind", "s1", "1")
    assert ["rewound" in row for row in sessile("runs")[1].splitlines()[2:]] == [False, True, False]
    assert sessile("search", "boom")[1].splitlines()[0].endswith(" UTC, rewound")


def test_search(sessile: Run) -> None:
    sessile("index")
    _, out, _ = sessile("search", "refund")
    first, second = out.splitlines()
    assert first.startswith("s1 run 1, ")
    assert second == "  input: a refund"
    assert sessile("search", "refund", "--user", "bob") == (0, "", "Nothing was found.\n")
    ((hit,), _) = (json.loads(sessile("search", "PARCEL", "--best", "--json")[1]), None)
    assert (hit["session_id"], hit["snippets"][0]["marks"]) == ("s2", [[2, 8]])
    assert sessile("search", "!!")[0] == 1


def test_rate(sessile: Run) -> None:
    sessile("index")
    assert sessile("rate", "s1", "1", "--score", "0.5", "--label", "fine")[:2] == (
        0,
        "Rated run 1 of session s1, as user.\n",
    )
    (run,) = json.loads(sessile("runs", "--label", "fine", "--json")[1])
    assert run["ratings"]["user"]["score"] == 0.5
    assert sessile("rate", "s1", "9", "--score", "1")[0] == 1
    assert sessile("rate", "s1")[0] == 2


def test_examples(sessile: Run) -> None:
    sessile("index")
    sessile("rate", "s1", "1", "--score", "1")
    assert "Question: a refund\nAnswer: of course" in sessile("examples", "--min-score", "1")[1]
    (one,) = json.loads(sessile("examples", "--min-score", "1", "--like", "refund", "--json")[1])
    assert (one["session_id"], one["answer"]) == ("s1", "of course")
    assert sessile("examples", "--label", "none") == (0, "", "There are no such runs that are good examples.\n")


def test_usage_by_several(sessile: Run) -> None:
    sessile("index")
    _, out, _ = sessile("usage", "--by", "user,agent", "--csv")
    assert out == sessile("usage", "--by", "user", "--by", "agent", "--csv")[1]
    assert out.splitlines()[0].split(",")[:3] == ["user", "agent", "runs"]


def test_usage(sessile: Run) -> None:
    sessile("index")
    _, out, _ = sessile("usage")
    head, _, day, total = out.splitlines()
    assert head.split() == ["day", "runs", "errors", "input", "output", "cost", "p50", "p95"]
    assert day.split()[1:6] == total.split()[1:6] == ["3", "1", "11", "6", "$0.002"]
    assert "and unknown" in total
    found = json.loads(sessile("usage", "--by", "agent", "--user", "ada", "--json")[1])
    assert [(row["agent"], row["runs"], row["usage"]["cost"]) for row in found["rows"]] == [("support", 2, "0.002")]
    assert sessile("usage", "--by", "colour")[0] == 1
    assert sessile("usage", "--zone", "Mars/Base")[0] == 1


def test_usage_in_other_forms(sessile: Run) -> None:
    sessile("index")
    assert sessile("usage", "--by", "agent", "--csv")[1].splitlines()[0].startswith("agent,runs,errors,requests")
    assert "# TYPE sessile_runs gauge" in sessile("usage", "--by", "agent", "--prometheus")[1]
    assert "  runs  █" in sessile("usage", "--by", "month", "--chart")[1]
    assert sessile("usage", "--csv", "--json")[0] == 2


@pytest.mark.parametrize("columns", [40, 80, 300])
def test_tables_fit_a_terminal(sessile: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    long_id = "a user of many words " * 10
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.add_run("a-rather-long-id-of-a-session", input="hello", user_id=long_id, agent="support")
    sessile("index")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes it for a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    for command, missing in (("sessions", "name"), ("runs", "score")):
        _, out, _ = sessile(command)
        *table, last = re.sub("\x1b[^m]*m", "", out).splitlines()
        assert all(len(line) <= columns for line in table)
        assert missing not in out  # nothing stands in that column
        said = last.removeprefix("No room for: ").partition(". ")[0].split(", ") if "No room" in last else []
        assert ("user" in said) is (columns < 300)
        assert said == [] or "--json" in last
        first = "".join(
            line.replace("│", "┃").split("┃")[command == "runs"].strip() for line in table if "━" not in line
        )
        assert "a-rather-long-id-of-a-session" in first
