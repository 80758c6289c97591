"""What a turn really writes, read from the database itself: bytes of rows, durable commits, log traffic.

Standard library only. Whatever contender wrote the file, the same questions are asked of it.
"""

from __future__ import annotations

import sqlite3
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

JOURNAL_HEADER = 32
FRAME_HEADER = 24


@dataclass(frozen=True)
class Written:
    """Averages per turn."""

    rows: float
    """Bytes in all columns of all tables that came on top."""
    commits: float | None
    """Commits that wrote something; None where the database does not tell."""
    wal: float | None
    """Bytes appended to the write-ahead log (indexes included; SQLite: whole pages); None without one."""


class Inspector(ABC):
    """Looks into a database beside those who write to it."""

    marker = "?"
    """Stands for a parameter."""

    @abstractmethod
    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    @abstractmethod
    def columns(self) -> dict[str, list[str]]:
        """The columns of every table, by its name, both quoted as SQL needs them; none of the engine's own."""

    @abstractmethod
    def size(self, column: str) -> str:
        """SQL for the bytes of a column in a row; numbers count with their digits."""

    @abstractmethod
    def written(self, turn: Callable[[], object], turns: int = 4) -> Written:
        """Run some turns and tell what they wrote."""

    def total(self) -> int:
        """Bytes of all columns of all rows of all tables."""
        return sum(
            int(self.query(f"SELECT {self._sum(columns)} FROM {table}")[0][0])
            for table, columns in self.columns().items()
        )

    def session(self, session_id: str) -> dict[str, tuple[int, int]]:
        """Rows and bytes of one session in every table that has a `session_id` column."""
        result: dict[str, tuple[int, int]] = {}
        for table, columns in self.columns().items():
            key = next((column for column in columns if column.strip('"`') == "session_id"), None)
            if key is not None:
                sql = f"SELECT count(*), {self._sum(columns)} FROM {table} WHERE {key} = {self.marker}"
                rows, size = self.query(sql, session_id)[0]
                result[table] = (int(rows), int(size))
        return result

    def _sum(self, columns: list[str]) -> str:
        return f"coalesce(sum({' + '.join(f'coalesce({self.size(column)}, 0)' for column in columns)}), 0)"


class SqliteInspector(Inspector):
    """A database file; opened anew for each look, so that nobody waits for a reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(sql, parameters).fetchall()

    def columns(self) -> dict[str, list[str]]:
        tables = [row[0] for row in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            f'"{table}"': [f'"{row[1]}"' for row in self.query(f'PRAGMA table_info("{table}")')] for table in tables
        }

    def size(self, column: str) -> str:
        return f"length(CAST({column} AS BLOB))"

    def written(self, turn: Callable[[], object], turns: int = 4) -> Written:
        """So few turns that no automatic checkpoint comes between."""
        self.query("PRAGMA wal_checkpoint(TRUNCATE)")
        rows, changes = self.total(), change_counter(self.path)
        for _ in range(turns):
            turn()
        wal = Path(f"{self.path}-wal")
        if wal.exists() and wal.stat().st_size:
            commits, size = wal_commits(wal)
            return Written((self.total() - rows) / turns, commits / turns, size / turns)
        return Written((self.total() - rows) / turns, (change_counter(self.path) - changes) / turns, None)


def log_and_head(inspector: Inspector, session_id: str, turn: Callable[[], object], turns: int = 8) -> tuple[int, int]:
    """Bytes that one turn adds to a session (new rows), and that it writes anew (the row of the head)."""
    before = inspector.session(session_id)
    for _ in range(turns):
        turn()
    log = head = 0.0
    for table, (rows, size) in inspector.session(session_id).items():
        if rows > before[table][0]:
            log += (size - before[table][1]) / turns
        else:
            head += size
    return round(log), round(head)


@dataclass
class Calibration:
    """Bytes that one turn writes to the log and to the head, and what it writes to the database."""

    log: int
    head: int
    written: Written

    def note(self, name: str) -> str:
        """In words."""
        commits = "" if self.written.commits is None else f" in {self.written.commits:g} commit(s)"
        wal = "" if self.written.wal is None else f", {self.written.wal:,.0f} bytes of write-ahead log"
        return f"{name} writes per turn: {self.log:,} bytes of log and {self.head:,} of head{commits}{wal}."


def calibration(inspector: Inspector, session_id: str, turn: Callable[[], object]) -> Calibration:
    """What a turn on that session writes."""
    return Calibration(*log_and_head(inspector, session_id, turn), inspector.written(turn))


def padding_for(wanted: Calibration, bare: Calibration) -> tuple[int, int]:
    """What a floor must add to its log and to its head to write as many bytes."""
    own = len(',"padding":""')
    return wanted.log - bare.log - own, wanted.head - bare.head - own


def change_counter(path: Path) -> int:
    """The counter in the file's header that every commit without a write-ahead log raises."""
    with path.open("rb") as file:
        file.seek(24)
        return int(struct.unpack(">I", file.read(4))[0])


def wal_commits(wal: Path) -> tuple[int, int]:
    """Commits in a write-ahead log and the bytes of its frames; only frames of the current cycle count."""
    data = wal.read_bytes()
    page_size = int(struct.unpack(">I", data[8:12])[0])
    salt, commits, offset = data[16:24], 0, JOURNAL_HEADER
    while offset + FRAME_HEADER + page_size <= len(data) and data[offset + 8 : offset + 16] == salt:
        commits += struct.unpack(">I", data[offset + 4 : offset + 8])[0] != 0
        offset += FRAME_HEADER + page_size
    return commits, offset - JOURNAL_HEADER


def synchronous(execute: Callable[[str], object]) -> str:
    """How durable a connection commits, in words; `execute` returns the first column of the first row."""
    journal = str(execute("PRAGMA journal_mode")).lower()
    level = {"0": "OFF", "1": "NORMAL", "2": "FULL", "3": "EXTRA"}[str(execute("PRAGMA synchronous"))]
    return f"{journal}/{level}"
