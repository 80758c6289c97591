"""What a turn really writes, read from the SQLite file itself: bytes of rows, durable commits, WAL traffic.

Standard library only. Whatever contender wrote the file, the same questions are asked of it.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

JOURNAL_HEADER = 32
FRAME_HEADER = 24


@dataclass(frozen=True)
class Written:
    """Averages per turn."""

    rows: float
    """Bytes in all columns of all tables that came on top."""
    commits: float
    wal: float | None
    """Bytes appended to the write-ahead log (whole pages, indexes included); None without one."""


def probe(path: Path, turn: Callable[[], object], turns: int = 4) -> Written:
    """Run some turns and tell what they wrote; so few that no automatic checkpoint comes between."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    rows, changes = cell_bytes(path), change_counter(path)
    for _ in range(turns):
        turn()
    wal = Path(f"{path}-wal")
    if wal.exists() and wal.stat().st_size:
        commits, size = wal_commits(wal)
        return Written((cell_bytes(path) - rows) / turns, commits / turns, size / turns)
    return Written((cell_bytes(path) - rows) / turns, (change_counter(path) - changes) / turns, None)


def cell_bytes(path: Path) -> int:
    """Bytes of all columns of all rows of all tables."""
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return sum(db.execute(f'SELECT {_size(db, name)} FROM "{name}"').fetchone()[0] for name in names)


def session_bytes(path: Path, session_id: str) -> dict[str, tuple[int, int]]:
    """Rows and bytes of one session in every table that has a `session_id` column."""
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        mine = [name for name in names if "session_id" in _columns(db, name)]
        return {
            name: db.execute(
                f'SELECT count(*), {_size(db, name)} FROM "{name}" WHERE session_id = ?', (session_id,)
            ).fetchone()
            for name in mine
        }


def log_and_head(path: Path, session_id: str, turn: Callable[[], object], turns: int = 8) -> tuple[int, int]:
    """Bytes that one turn adds to a session (new rows), and that it writes anew (the row of the head)."""
    before = session_bytes(path, session_id)
    for _ in range(turns):
        turn()
    log = head = 0.0
    for table, (rows, size) in session_bytes(path, session_id).items():
        if rows > before[table][0]:
            log += (size - before[table][1]) / turns
        else:
            head += size
    return round(log), round(head)


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]


def _size(db: sqlite3.Connection, table: str) -> str:
    lengths = [f'ifnull(length(CAST("{column}" AS BLOB)), 0)' for column in _columns(db, table)]
    return f"ifnull(sum({' + '.join(lengths)}), 0)"


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
