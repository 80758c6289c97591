"""Archives: complete, the same when they are written again, and refused whole when a line is wrong."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.errors import CorruptDataError, InvalidInputError, NewerVersionError, SessionNotFoundError
from sessile.transfer import Archived, archive, export_archive, import_archive

from .helpers import everything


def test_all_is_there_as_it_was(filled: SqliteStorage, other: Storage, tmp_path: Path) -> None:
    """Into each database; and written again from there it is the same file, byte by byte."""
    written = export_archive(filled, tmp_path / "one.jsonl")
    taken = import_archive(tmp_path / "one.jsonl", other)
    assert (taken.sessions, taken.commits, taken.records, taken.skipped) == (
        written.sessions, written.commits, written.records, {},
    )  # fmt: skip
    assert everything(other) == everything(filled)
    export_archive(other, tmp_path / "two.jsonl")
    assert (tmp_path / "two.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()


def test_a_second_import_changes_nothing(filled: SqliteStorage, target: MemoryStorage, tmp_path: Path) -> None:
    written = export_archive(filled, tmp_path / "one.jsonl")
    import_archive(tmp_path / "one.jsonl", target)
    target.add_run("seen", input="more", output="…")
    there = everything(target)
    again = import_archive(tmp_path / "one.jsonl", target)
    assert (again.sessions, again.unchanged, again.skipped) == (0, written.sessions, {})
    assert everything(target) == there
    filled.add_run("long", input="later", output="yes", user_id="ada")
    export_archive(filled, tmp_path / "later.jsonl")
    assert import_archive(tmp_path / "later.jsonl", target).sessions == 1
    assert everything(target)["long"] == everything(filled)["long"]


def test_some_sessions_and_packed(filled: SqliteStorage, target: MemoryStorage, tmp_path: Path) -> None:
    assert export_archive(filled, tmp_path / "one.jsonl.gz", session_ids=["seen"]).sessions == 1
    assert import_archive(tmp_path / "one.jsonl.gz", target).sessions == 1
    assert set(everything(target)) == {"seen"}
    stream = io.BytesIO()
    assert export_archive(filled, stream, user_id="ada").sessions == 3
    stream.seek(0)
    assert import_archive(stream, target).sessions == 3
    with pytest.raises(SessionNotFoundError, match="nobody"):
        export_archive(filled, tmp_path / "none.jsonl", session_ids=["nobody"])
    with pytest.raises(InvalidInputError, match="kind"):
        export_archive(filled, tmp_path / "none.jsonl", kind="")
    assert sorted(os.listdir(tmp_path)) == ["one.jsonl.gz", "source.db", "source.db-shm", "source.db-wal"]


def test_what_was_made_apart_is_left_alone(filled: SqliteStorage, target: MemoryStorage, tmp_path: Path) -> None:
    target.add_run("seen", input="mine", output="yes")
    export_archive(filled, tmp_path / "one.jsonl")
    taken = import_archive(tmp_path / "one.jsonl", target)
    assert list(taken.skipped) == ["seen"]
    assert [run.input for run in target.runs("seen")] == ["mine"]
    assert set(everything(target)) == set(everything(filled))


def lines_of(storage: Storage) -> list[bytes]:
    stream = io.BytesIO()
    export_archive(storage, stream)
    return stream.getvalue().splitlines(keepends=True)


@pytest.mark.parametrize("seed", range(60))
def test_damage_is_named_and_nothing_is_taken_in(seed: int, filled: SqliteStorage) -> None:
    """Lines that are cut, lost, doubled, swapped, changed: the error names a line, and the target is as it was."""
    chance = random.Random(seed)
    lines = lines_of(filled)
    where = chance.randrange(len(lines))
    kind = seed % 6
    if kind == 0:
        del lines[where]
    elif kind == 1:
        lines.insert(where, lines[where])
    elif kind == 2:
        del lines[where + 1 :]
        lines[where] = lines[where][: chance.randrange(len(lines[where]))]
    elif kind == 3:
        at = chance.randrange(len(lines[where]) - 1)
        lines[where] = lines[where][:at] + bytes([lines[where][at] ^ 1]) + lines[where][at + 1 :]
    elif kind == 4:
        lines[where] = chance.choice(
            [b"\n", b"{}\n", b"[]\n", b"\xff\n", b"null\n", b'{"line":"end"}\n', b"[" * 9000 + b"\n"]
        )
    else:
        lines[where : where + 2] = lines[where : where + 2][::-1]
    if lines == lines_of(filled):
        return
    with MemoryStorage() as target:
        with pytest.raises((CorruptDataError, NewerVersionError), match=r"archive|Line"):
            import_archive(io.BytesIO(b"".join(lines)), target)
        assert everything(target) == {}


def test_other_files_are_refused(target: MemoryStorage, tmp_path: Path) -> None:
    for content in (b"", b"SQLite format 3\0" + b"\0" * 100 + b"\n", b'{"a": 1}\n', b"session_id,agent\ns1,x\n"):
        with pytest.raises(CorruptDataError):
            import_archive(io.BytesIO(content), target)
    newer = json.dumps({"line": "archive", "version": archive.VERSION + 1, "writer": "99"}).encode() + b"\n"
    with pytest.raises(NewerVersionError, match="99"):
        import_archive(io.BytesIO(newer), target)
    with pytest.raises(FileNotFoundError):
        import_archive(tmp_path / "nowhere", target)


def test_a_line_without_end_is_not_read_into_memory(target: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "LONGEST", 100_000)
    stream = io.BytesIO(archive.opening().encode() + b'{"line": "' + b"x" * 1_000_000)
    with pytest.raises(CorruptDataError, match=r"Line 2 .* longer than 100,000"):
        import_archive(stream, target)


def test_two_imports_at_once(filled: SqliteStorage, tmp_path: Path) -> None:
    """Each session is there once, whole, whoever was first."""
    export_archive(filled, tmp_path / "one.jsonl")
    with SqliteStorage(tmp_path / "target.db", synchronous="NORMAL") as target:
        done: list[Archived] = []
        threads = [
            threading.Thread(target=lambda: done.append(import_archive(tmp_path / "one.jsonl", target)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 3
        assert import_archive(tmp_path / "one.jsonl", target).skipped == {}
        assert everything(target) == everything(filled)


IMPORT = """
import sys, sessile
from sessile.transfer import import_archive
with sessile.open(sys.argv[1]) as storage:
    import_archive(sys.argv[2], storage, progress=lambda done: print(done.sessions, flush=True))
"""


def test_goes_on_where_a_killed_process_has_left_it(filled: SqliteStorage, tmp_path: Path) -> None:
    export_archive(filled, tmp_path / "one.jsonl")
    url = f"sqlite:///{tmp_path}/target.db"
    for wanted in (1, 3):
        with subprocess.Popen(
            [sys.executable, "-c", IMPORT, url, str(tmp_path / "one.jsonl")], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= wanted:
                    process.kill()
                    break
    with SqliteStorage(tmp_path / "target.db") as target:
        import_archive(tmp_path / "one.jsonl", target)
        assert everything(target) == everything(filled)
