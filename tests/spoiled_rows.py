"""Rows of a SQLite file of which somebody has made something else, and all commands over them.

What may come of it is one line that begins with `Error:`. Sessions that nobody has touched stay as they are, to be read
and to be listed. The same seed makes the same choices.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.spoiling import changed

from sessile import Agent, MemoryStorage, SqliteStorage
from sessile.agents.offline.model import OfflineModel
from sessile.cli import main
from sessile.insight import Index
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.turns import end_turn, open_turn, start_turn
from sessile.storage.vocabulary import RunEnded
from sessile.testing import Figures
from sessile.transfer import export_archive

SPOILED, SOUND, PAUSED, OTHERS = "spoiled", "sound", "paused", "ada's"
"""Sessions: `SPOILED`, `PAUSED` and `OTHERS` may be changed, by hand or by commands."""

agent: Agent[str] = Agent(OfflineModel(), storage=MemoryStorage(), name="offline")
"""What `sessile replay` runs."""

ODD: list[Any] = [
    None, 0, -1, 1, 10**9, 2**63 - 1, -(2**63), 1.5, 1e308, float("inf"), "", "x", "soon", "\x00", "x" * 300,
    b"", b"\xff\xfe", b"{}", "{", "[]", "null", "{}", "[" * 3000, "9" * 5000, '"\\ud800"',
]  # fmt: skip
"""What a column of another type may hold: SQLite takes anything."""


def prepare(path: Path) -> None:
    """A file with sessions of several kinds, and an index of them."""
    messages = [
        {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "hello"}]},
        {"kind": "response", "parts": [{"part_kind": "tool-call", "tool_name": "look", "args": {"a": 1}}],
         "usage": {"input_tokens": 3, "output_tokens": 1}, "model_name": "gpt-5-mini"},
        {"kind": "request", "parts": [{"part_kind": "tool-return", "tool_name": "look", "content": "b"}]},
        {"kind": "response", "parts": [{"part_kind": "text", "content": "world"}]},
    ]  # fmt: skip
    with SqliteStorage(path, synchronous="NORMAL", inline_media_bytes=0) as storage:
        for session_id, user in ((SPOILED, None), (SOUND, None), (OTHERS, "ada")):
            storage.create_session(session_id, user_id=user, agent="offline", name="A name", metadata={"a": "b"})
            for number in range(2):
                storage.add_run(
                    session_id, input=f"hello {number}", output="world", messages=messages, format="pydantic-ai/2",
                    state={"n": number}, user_id=user, agent="offline",
                )  # fmt: skip
            storage.add_run(session_id, input="x", status="failed", error={"type": "E", "message": "m"}, user_id=user)
            storage.rewind(session_id, at=2, user_id=user)
            storage.add_run(session_id, input="again", output="yes", user_id=user, agent="offline")
            storage.rate(session_id, 2, score=1, label="good", by="bob", user_id=user)
        storage.memories("ada").add("drinks tea", topics=["tea"])
        storage.files(OTHERS, user_id="ada").write("a.txt", "tea")
        turn = operate(storage, open_turn, turns.TurnSpec(PAUSED, run_id="p", input="may I?"), 0)
        operate(storage, start_turn, turn)
        asked: dict[str, Any] = {"requests": [{"tool_call_id": "c1", "tool_name": "look", "args": {}}]}
        operate(storage, end_turn, turn, [], RunEnded(status="paused", pending=asked), [])
        with Index(storage) as index:
            index.update()


def tables_of(connection: sqlite3.Connection) -> list[str]:
    """Those of the log, each several times as likely as one of the index."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    log = [name for name in names if name in ("sessile_sessions", "sessile_commits", "sessile_records")]
    index = [name for name in names if name not in log and "_index_text" not in name and not name.startswith("sqlite_")]
    return log * 6 + index


def spoil(path: Path, chance: random.Random) -> str:
    """Change one value or one row; returns what was done."""
    with closing(sqlite3.connect(path)) as connection:
        while True:
            table = chance.choice(tables_of(connection))
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            spared = f"WHERE session_id <> '{SOUND}'" if "session_id" in columns else ""
            rows = connection.execute(f"SELECT * FROM {table} {spared}").fetchall()
            if not rows:
                continue
            row, place = list(chance.choice(rows)), chance.randrange(len(columns))
            same = " AND ".join(f"{name} IS ?" for name in columns)
            how = chance.random()
            try:
                if how < 0.08:
                    connection.execute(f"DELETE FROM {table} WHERE {same}", row)
                    done = "deleted"
                elif how < 0.16:
                    for name in {"seq", "id", "run"}.intersection(columns):
                        row[columns.index(name)] += 1
                    connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
                    done = "doubled"
                else:
                    value = something_else(row[place], chance)
                    connection.execute(f"UPDATE {table} SET {columns[place]} = ? WHERE {same}", [value, *row])
                    done = f"{columns[place]} = {value!r:.60}"
                connection.commit()
            except sqlite3.Error:  # what a constraint keeps out
                connection.rollback()
                continue
            return f"{table}: {done}"


def something_else(value: Any, chance: random.Random) -> Any:
    """JSON with another value in it, or a value of another type, or text that is no UTF-8."""
    if isinstance(value, bytes | str) and len(value) > 1 and chance.random() < 0.7:
        try:
            text = value.decode() if isinstance(value, bytes) else value
            made = changed(text, chance)
            return made.encode("utf-8", "surrogatepass") if isinstance(value, bytes) else made
        except (ValueError, IndexError):
            pass
    return chance.choice(ODD)


def commands(url: str, folder: Path) -> Iterator[list[str]]:
    """One call of each command, and several of those that look."""
    one = [url, SPOILED]
    for line in f"""
        sessions {url} --json|sessions {url} --kind agent --status completed|stats {url}|scopes {url}|waiting {url}
        show {url} {PAUSED}|verify {url} {PAUSED}|doctor {url} --sessions 9|migrate {url} --dry-run|migrate {url}
        runs {url} --json|runs {url} --tool look|runs {url} --label good --min-score 1
        search {url} hello|search {url} world --best|examples {url} --tools|examples {url} --like hello --openai
        usage {url}|usage {url} --by agent --chart|usage {url} --prometheus|usage {url} --csv
        index {url} --check|index {url} --dry-run|index {url}|index {url} --compact|index {url} --rebuild
        copy {url} sqlite:///{folder}/copy.db --verify|import {url} {folder}/before.jsonl
        export {url} --to {folder}/archive.jsonl|export {url} --to {folder}/runs.csv --as runs
        export {url} --to {folder}/talks.html --as html|export {url} --to {folder}/chat.jsonl --as chat
        dataset {url} --out {folder}/set.yaml|replay {url} {__name__}:agent --exact|tail {url} --json --for 0
        approvals {url} --user ada|approvals {url} --session {PAUSED}|approvals {url} --session {SPOILED}
        approve {url} {PAUSED} c1 --always session
        memories {url}|memories {url} --user ada --find tea|memories {url} --user ada --add tea
        files {url} {OTHERS} --json|files {url} {OTHERS} --name a.txt
        approve {url} {PAUSED} c1|deny {url} {PAUSED} c1|erase-user {url} ada
        sweep {url} --keep 1h --dry-run|sweep {url} --keep-runs 1 --branches --spare-rated --user ada
        backup {url} {folder}/backup.db|restore sqlite:///{folder}/restored.db {folder}/backup.db --verify
    """.split("\n"):
        yield from (call.split() for call in line.split("|") if call.strip())
    yield from ([name, *one] for name in ("show", "verify", "export", "tail", "release", "delete"))
    yield from (["show", *one, *option] for option in (["--raw"], ["--json"], ["--run", "2"]))
    yield from (
        ["deny", *one, "c1"], ["send", *one, "event", "{}"], ["rate", *one, "2", "--score", "1"], ["erase", *one, "2"],
        ["rename", *one, "Another name"], ["fork", *one, "--to", "f"], ["rewind", *one, "1"], ["hold", *one, "why"],
    )  # fmt: skip


ELSEWHERE = {"demo", "dashboard", "serve", "drivers"}
"""Commands that look into no database, or serve until they are told to end."""

LAST = {"delete", "erase-user"}


def called(arguments: list[str]) -> tuple[int, str, str]:
    """The code of a command, and what it writes."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code: Any = main(arguments)
        except SystemExit as end:
            code = end.code
    return int(code or 0), written(out), written(err)


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


def sound_rows(path: Path) -> list[Any]:
    """All that the file has of the session that nobody touches."""
    found: list[Any] = []
    with closing(sqlite3.connect(path)) as connection:
        for table in ("sessile_sessions", "sessile_commits", "sessile_records"):
            found += connection.execute(f"SELECT * FROM {table} WHERE session_id = ? ORDER BY 1, 2, 3", (SOUND,))
    return found


@dataclass
class Campaign:
    """One prepared file, of which each round takes a copy."""

    folder: Path
    problems: list[str] = field(default_factory=list[str])
    calls: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.original = self.folder / "original.db"
        prepare(self.original)
        with SqliteStorage(self.original) as storage:
            export_archive(storage, self.folder / "before.jsonl")
        self.shown = called(["show", f"sqlite:///{self.original}", SOUND, "--json"])[1]
        self.rows = sound_rows(self.original)
        assert json.loads(self.shown)["session"]["session_id"] == SOUND

    def run(self, seed: str, share: float = 1.0) -> None:
        """Spoil a copy of the file, and call the commands, or a share of them, in any order."""
        chance = random.Random(seed)
        room = self.folder / "room"
        room.mkdir()
        path = room / "sessions.db"
        shutil.copy(self.original, path)
        shutil.copy(self.folder / "before.jsonl", room)
        done = [spoil(path, chance) for _ in range(chance.choice((1, 1, 1, 2, 5)))]
        calls = list(commands(f"sqlite:///{path}", room))
        chance.shuffle(calls)
        calls.sort(key=lambda call: call[0] in LAST)
        for call in calls:
            if chance.random() < share:
                self._call(call, path, f"seed {seed}: {done}: sessile {' '.join(call[:1] + call[2:])}")
        code, _, err = called(["index", f"sqlite:///{path}", "--rebuild"])
        if code != 0 and not any(one.startswith("sessile_schema") for one in done):
            self.problems.append(f"seed {seed}: {done}: the index cannot be made anew: {err[-300:]}")
        _, out, err = called(["show", f"sqlite:///{path}", SOUND, "--json"])
        if out != self.shown and not any(one.startswith("sessile_schema") for one in done):
            self.problems.append(f"seed {seed}: {done}: another session is not shown as before: {err[-300:]}")
        shutil.rmtree(room)

    def _call(self, call: list[str], path: Path, what: str) -> None:
        try:
            code, out, err = called(call)
        except BaseException as error:  # noqa: BLE001 - whatever comes out is what is looked for
            self.problems.append(f"{what}: {''.join(traceback.format_exception(error)[-3:])}")
            return
        self.calls += 1
        self.refused += code != 0
        if code not in (0, 1):
            self.problems.append(f"{what}: code {code}: {err[-300:]}")
        if code == 1 and not (out or err):
            self.problems.append(f"{what}: fails, and does not say why")
        if "Traceback" in out + err:
            self.problems.append(f"{what}: {(out + err)[-300:]}")
        if sound_rows(path) != self.rows:
            self.problems.append(f"{what}: another session was changed")


def run_spoiled_rows(folder: Path, seed: int, rounds: int) -> Figures:
    """The campaign of `make torture`; the figure of rounds is that of spoilt files."""
    began = time.monotonic()
    campaign = Campaign(folder)
    for number in range(rounds):
        campaign.run(f"{seed}/{number}")
    return Figures(rounds=rounds, seconds=time.monotonic() - began, problems=campaign.problems)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        campaign = Campaign(Path(place))
        for number in range(int(sys.argv[1]), int(sys.argv[2])):
            campaign.run(str(number), float(sys.argv[3]))
        print(campaign.calls, campaign.refused)
        print("\n".join(campaign.problems))
