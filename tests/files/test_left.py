"""A process that commits again does not read what it has left itself, and notices what others have done meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.files.folders import Folder

from sessile import Storage
from sessile.drivers.files import linux
from sessile.errors import CorruptDataError, InvalidInputError, SessileError, SessionNotFoundError


def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of the log brings from now on."""
    sizes: list[int] = []
    pread = os.pread

    def counted(file: int, size: int, offset: int) -> bytes:
        sizes.append(size)
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", counted)
    return sizes


def test_a_commit_after_ones_own_reads_no_log(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder.open() as storage:
        storage.rename("s", "one")
        sizes = reads_of(monkeypatch)
        storage.rename("s", "two")
        storage.rename("s", "three")
        assert sizes == []
        assert storage.verify("s")


def no_read(file: int, size: int) -> bytes:
    raise AssertionError("a head was read")


def test_reading_what_one_has_left_reads_no_head_and_no_beginning(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder.open() as storage:
        storage.rename("s", "one")
        sizes = reads_of(monkeypatch)
        monkeypatch.setattr(os, "read", no_read)
        session = storage.get_session("s", last_runs=3)
        assert session is not None
        assert session.name == "one"
        assert [run.input for run in session.runs] == ["question 1", "question 2", "question 3"]
        assert len(sizes) == 1


HOSTILE = [
    "",
    "a\nb",
    "...",
    "\n...\n",
    "---",
    "é \u2028 😀",
    "\ud800",
    "\0",
    "1e400",
    "no",
    "&a *b",
    "'\"\\",
    "a: b",
    " x ",
]


def test_what_is_remembered_of_a_written_record_is_what_the_record_says(folder: Folder) -> None:
    """Also where a format writes a value in a form of its own."""
    rng = random.Random(1)
    values: list[Any] = [*HOSTILE, None, True, 0, -0.0, 1e300, 2**70, 0.1, [], {}, [[]], {"": {}}]
    with folder.open() as storage:
        for number in range(60):
            state = {rng.choice(HOSTILE).encode("utf-8", "replace").decode(): rng.choice(values) for _ in range(4)}
            with suppress(InvalidInputError):  # of values that no storage takes
                storage.add_run(
                    "s", input=rng.choice(values), output=rng.choice(values), run_id=f"r{number} {number:x}:"
                )
                storage.update_state("s", set=state)
        mine = storage.runs("s", last=100), storage.get_session("s"), list(storage.entries("s"))
        assert len(mine[0]) > 30
    with folder.open() as fresh:
        assert (fresh.runs("s", last=100), fresh.get_session("s"), list(fresh.entries("s"))) == mine


def test_a_session_that_gets_another_user_is_in_the_lists_of_that_one(folder: Folder) -> None:
    """The index is changed in place where only what every commit changes has changed."""
    with folder.open() as storage:
        storage.rename("s", "mine")
        storage.claim("s", user_id="ada")
        storage.rename("s", "hers", user_id="ada")
        assert [(one.session_id, one.name) for one in storage.sessions(user_id="ada")] == [("s", "hers")]
        assert list(storage.sessions(user_id=None)) == []


def another_commit(folder: Folder, storage: Storage) -> None:
    with folder.open() as other:
        other.update_state("s", set={"by": "another"})


def another_rewriting(folder: Folder, storage: Storage) -> None:
    with folder.open() as other:
        other.erase_run("s", 2)


def made_anew(folder: Folder, storage: Storage) -> None:
    with folder.open() as other:
        other.delete("s")
        for number in (1, 2, 3):
            other.add_run("s", input=f"new {number}")


def head_edited(folder: Folder, storage: Storage) -> None:
    folder.edit(folder.head, "before", "by hand, and longer")


def head_removed(folder: Folder, storage: Storage) -> None:
    folder.head.unlink()


def half_a_commit(folder: Folder, storage: Storage) -> None:
    with folder.log.open("ab") as log:
        log.write(b'{"seq":99,"run":4' if folder.kind == "json" else b"---\nseq: 99\n")


@pytest.mark.parametrize(
    "meanwhile", [another_commit, another_rewriting, made_anew, head_edited, head_removed, half_a_commit]
)
def test_what_others_do_in_between_is_noticed(meanwhile: Callable[[Folder, Storage], None], folder: Folder) -> None:
    with folder.open() as storage:
        storage.rename("s", "before")
        meanwhile(folder, storage)
        storage.add_run("s", input="after", output="yes")
        session = storage.get_session("s", last_runs=10)
        assert session is not None
        assert [run.input for run in session.runs][-1] == "after"
        assert session.run_count == 4
        if meanwhile is another_commit:
            assert session.state == {"by": "another"}
        if meanwhile is made_anew:
            assert session.runs[0].input == "new 1"
        if meanwhile is head_edited:
            assert session.name == "by hand, and longer"
        else:  # the log does not say what was written by hand
            storage.verify("s")
    assert folder.inputs()[-1] == "after"


def test_a_change_by_hand_is_read_that_nothing_tells(folder: Folder) -> None:
    """What a process remembers of the log's end is compared with what is there: not only number, size and time."""
    with folder.open() as storage:
        for number in range(4, 14):
            storage.add_run("s", input=f"question {number}")
        before = folder.log.stat()
        folder.edit(folder.log, "question 12", "QUESTION 12")
        os.utime(folder.log, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert folder.log.stat().st_size == before.st_size
        session = storage.get_session("s", last_runs=3)
        assert session is not None
        assert [run.input for run in session.runs] == ["question 11", "QUESTION 12", "question 13"]


def test_what_one_has_written_is_brought_as_others_read_it(folder: Folder) -> None:
    """Also where some of it is too large to be remembered, and where only the newest is known."""
    with folder.open() as storage:
        for number in range(4, 30):
            storage.add_run("s", input=f"question {number}", output="x" * (20_000 if number % 10 == 5 else 10))
            mine = storage.get_session("s", last_runs=number % 7)
            with folder.open() as fresh:
                assert fresh.get_session("s", last_runs=number % 7) == mine


def test_two_storages_that_take_turns(folder: Folder) -> None:
    with folder.open() as one, folder.open() as other:
        for number in range(4, 24):
            (one if number % 2 else other).add_run("s", input=f"question {number}")
        (one if number % 3 else other).verify("s")
    assert folder.inputs(last=100)[-3:] == ["question 21", "question 22", "question 23"]


def test_a_session_that_is_deleted_is_not_there(folder: Folder) -> None:
    with folder.open() as storage, folder.open() as other:
        storage.rename("s", "before")
        other.delete("s")
        with pytest.raises(SessionNotFoundError):
            storage.rename("s", "after")


def test_a_link_in_the_place_of_the_head_is_not_followed(folder: Folder, tmp_path: Path) -> None:
    with folder.open() as storage:
        storage.rename("s", "before")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_bytes(folder.head.read_bytes())
        folder.head.unlink()
        folder.head.symlink_to(elsewhere)
        with pytest.raises(CorruptDataError):
            storage.rename("s", "after")
        assert b"before" in elsewhere.read_bytes()


def test_what_failed_is_looked_at_anew(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that was taken back leaves nothing to go by."""
    with folder.open() as storage:
        storage.rename("s", "before")

        def broken(*_: Any, **__: Any) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patched:
            patched.setattr(linux, "exchange", broken)
            with pytest.raises(SessileError):
                storage.rename("s", "never")
        sizes = reads_of(monkeypatch)
        storage.rename("s", "after")
        assert sizes
        session = storage.get_session("s")
        assert session is not None
        assert session.name == "after"
        storage.verify("s")
