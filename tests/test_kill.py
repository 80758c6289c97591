"""`kill -9` of a writing process, 50 times: every acknowledged run is there afterwards, and the file opens."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.sql.crashing_batches import run_killed_writers

from sessile.testing import Scale, run_kills

KILLS = 50


@pytest.mark.parametrize("how", ["synchronous=FULL", "synchronous=NORMAL", "on_loop=true"])
def test_killed_processes_lose_nothing(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In all modes: `NORMAL` may lose the last commits to a power cut, never to the end of a process."""
    scale = Scale.from_environment()
    path = tmp_path / "sessions.db"
    figures = run_kills(f"sqlite:///{path}?{how}", scale, kills=KILLS // 2, tasks="on_loop" in how)
    with capsys.disabled():
        print(
            f"\n{how}: SESSILE_SEED={scale.seed}: {figures.rounds} kills, {figures.acknowledged} acknowledged,"
            f" {figures.lost} lost, {figures.doubled} doubled"
        )
    figures.check()
    assert figures.rounds == KILLS // 2
    check_file(path)


@pytest.mark.parametrize("how", ["", "?on_loop=true"])
def test_batches_that_are_killed_are_whole_or_absent(how: str, tmp_path: Path) -> None:
    """Commits of 24 sessions, of threads and of tasks, that go together."""
    path = tmp_path / "sessions.db"
    run_killed_writers(f"sqlite:///{path}{how}", Scale.from_environment().seed, kills=6).check()
    check_file(path)


def check_file(path: Path) -> None:
    """Raise unless the file is sound."""
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    connection.close()
