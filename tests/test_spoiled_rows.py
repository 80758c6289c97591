"""Commands over rows of which somebody has made something else (see `spoiled_rows.py`): a share of `make torture`."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.spoiled_rows import ELSEWHERE, Campaign, called, commands, prepare

from sessile.testing import Scale

pytest.importorskip("typer")


def test_every_command_is_called(tmp_path: Path) -> None:
    import typer

    from sessile.cli.commands import app

    known = set(typer.main.get_command(app).commands) - ELSEWHERE  # type: ignore[attr-defined]
    assert known == {call[0] for call in commands("sqlite:///s.db", tmp_path)}


@pytest.mark.parametrize(
    ("done", "call", "said"),
    [
        ("UPDATE sessile_index_tools SET tool = x'00'", "runs URL --json", ""),
        ("UPDATE sessile_index_runs SET output_tokens = x'7b7d'", "runs URL --json", "sessile index --rebuild"),
        (
            "UPDATE sessile_sessions SET session_id = x'7b7d' WHERE session_id = 'spoiled'",
            "tail URL --json --for 0",
            "Error:",
        ),
        ("UPDATE sessile_sessions SET user_id = x'fffe' WHERE session_id = 'spoiled'", "sessions URL", ""),
        ("UPDATE sessile_sessions SET updated_at = 9e999 WHERE session_id = 'spoiled'", "runs URL --json", ""),
        ("UPDATE sessile_sessions SET created_at = -9223372036854775808", "erase-user URL ada", ""),
        ("UPDATE sessile_records SET value = 'x'", "export URL --to FOLDER/a.jsonl", "are damaged"),
        (
            "UPDATE sessile_records SET value = 1000000000000",
            "files URL ada's --user ada --name a.txt --out FOLDER/a",
            "Error:",
        ),
    ],
)
def test_columns_of_another_type(tmp_path: Path, done: str, call: str, said: str) -> None:
    path = tmp_path / "s.db"
    prepare(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(done).rowcount
        connection.commit()
    arguments = [{"URL": f"sqlite:///{path}"}.get(word, word.replace("FOLDER", str(tmp_path))) for word in call.split()]
    ended, out, err = called(arguments)
    assert ended == bool(said), err
    assert said in err if said else out


def test_commands_over_spoiled_rows(tmp_path: Path, scale: Scale) -> None:
    campaign = Campaign(tmp_path)
    for number in range(6):
        campaign.run(f"{scale.seed}/{number}", share=0.15)
    assert campaign.calls > 20
    assert not campaign.problems, "\n".join(campaign.problems)
