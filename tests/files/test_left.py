"""A process that commits again does not read what it has left itself, and notices what others have done meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.files.folders import Folder

from sessile import Storage
from sessile.errors import CorruptDataError, SessileError, SessionNotFoundError


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
            patched.setattr(os, "replace", broken)
            with pytest.raises(SessileError):
                storage.rename("s", "never")
        sizes = reads_of(monkeypatch)
        storage.rename("s", "after")
        assert sizes
        session = storage.get_session("s")
        assert session is not None
        assert session.name == "after"
        storage.verify("s")
