"""The floor: what a turn costs with `sqlite3` written by hand for this one purpose; and what all floors encode.

Two tables, WAL, `synchronous=FULL`. Loading reads the head and the last runs and decodes their JSON;
appending encodes the run and the new head and writes both in one transaction. Nothing is checked, there is
no index for lists and no second writer in mind: it is what one cannot go below, not what one should use.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from .payload import Exchange, exchange, messages, usage

SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    session_id TEXT PRIMARY KEY, revision INTEGER NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY, session_id TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS log_seq ON log (session_id, seq);
"""


class Encoder:
    """The JSON of floors; `log_padding` and `head_padding` bring its rows to the size of another contender's.

    With `quick` by the library that Sessile uses, else by the standard library's `json`, as one writes it by hand.
    """

    quick = False

    def __init__(self, log_padding: int = 0, head_padding: int = 0) -> None:
        self.log_padding = "." * max(0, log_padding)
        self.head_padding = "." * max(0, head_padding)

    def text(self, value: Any) -> str:
        """The JSON of a value."""
        if not self.quick:
            return json.dumps(value, separators=(",", ":"))
        from pydantic_core import to_json  # which environments of other libraries need not have

        return to_json(value).decode()

    def value(self, text: str | bytes) -> Any:
        """The value of JSON."""
        if not self.quick:
            return json.loads(text)
        from pydantic_core import from_json

        return from_json(text)

    def encode(self, session_id: str, head: dict[str, Any], revision: int, turn: Exchange) -> tuple[str, str]:
        """The JSON of the run and of the head after it."""
        run = {
            "number": revision,
            "status": "completed",
            "input": turn.user,
            "output": turn.answer,
            "messages": messages(turn),
            "usage": usage(turn),
        }
        after = head | {
            "session_id": session_id,
            "revision": revision,
            "tokens": head["tokens"] + turn.input_tokens + turn.output_tokens,
        }
        if self.log_padding:
            run["padding"] = self.log_padding
        if self.head_padding:
            after["padding"] = self.head_padding
        return self.text(run), self.text(after)

    def session(self, session_id: str, runs: int) -> tuple[list[str], str]:
        """The JSON of all runs of a session of that many, and of its head."""
        head: dict[str, Any] = {"session_id": session_id, "revision": 0, "tokens": 0, "state": {}}
        bodies: list[str] = []
        text = ""
        for seq in range(1, runs + 1):
            body, text = self.encode(session_id, head, seq, exchange(seq))
            bodies.append(body)
            head = json.loads(text)
        return bodies, text


class Floor(Encoder):
    """One SQLite database."""

    def __init__(self, path: Path, log_padding: int = 0, head_padding: int = 0) -> None:
        super().__init__(log_padding, head_padding)
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.executescript(SCHEMA)

    def load(self, session_id: str, last: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The head and the last runs, oldest first."""
        (head,) = self.db.execute("SELECT body FROM head WHERE session_id = ?", (session_id,)).fetchone()
        rows = self.db.execute(
            "SELECT body FROM log WHERE session_id = ? ORDER BY seq DESC LIMIT ?", (session_id, last)
        ).fetchall()
        return self.value(head), [self.value(body) for (body,) in reversed(rows)]

    def append(self, session_id: str, head: dict[str, Any], turn: Exchange) -> None:
        """One run and the head after it, in one durable commit."""
        revision = head["revision"] + 1
        body, new_head = self.encode(session_id, head, revision, turn)
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("INSERT INTO log (session_id, seq, body) VALUES (?, ?, ?)", (session_id, revision, body))
        self.db.execute("UPDATE head SET revision = ?, body = ? WHERE session_id = ?", (revision, new_head, session_id))
        self.db.execute("COMMIT")

    def turn(self, session_id: str, turn: Exchange) -> None:
        """Load head and last 3 runs, append one run."""
        head, runs = self.load(session_id, 3)
        assert len(runs) == 3
        self.append(session_id, head, turn)

    def fill(self, session_id: str, runs: int) -> None:
        """Create a session with that many runs, in one transaction."""
        bodies, head = self.session(session_id, runs)
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(
            "INSERT INTO log (session_id, seq, body) VALUES (?, ?, ?)",
            [(session_id, seq, body) for seq, body in enumerate(bodies, 1)],
        )
        self.db.execute("INSERT INTO head VALUES (?, ?, ?)", (session_id, runs, head))
        self.db.execute("COMMIT")

    def close(self) -> None:
        """Close the connection."""
        self.db.close()
