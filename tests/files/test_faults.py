"""A disk that is full or fails at any call that changes something: the error tells the truth, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.files.folders import KINDS, Folder

from sessile import ANY_USER, JsonStorage
from sessile.drivers.files import disk, left, linux, locks, sessions, tree
from sessile.drivers.files import storage as module_of_storage
from sessile.drivers.files.formats import JsonFormat
from sessile.drivers.files.storage import FileDriver
from sessile.errors import StorageError, StorageFullError
from sessile.storage.driver import Deadline
from sessile.storage.faces import step

CHANGES = ("write", "fdatasync", "fsync", "replace", "ftruncate", "open")
READS = ("open", "read", "pread", "stat", "fstat", "scandir")


class FailingOs:
    """The module `os`, of whose calls the n-th that changes something (or of other names) fails, or all from then."""

    def __init__(self, number: int, code: int, *, lasting: bool, names: tuple[str, ...] = CHANGES) -> None:
        self.number, self.code, self.lasting = number, code, lasting
        self.names = names
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self.called(name, real) if name in self.names else real

    def called(self, name: str, real: Any) -> Any:
        """A call that fails when it is its turn."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self.names is CHANGES and name == "open" and not arguments[1] & os.O_CREAT:
                return real(*arguments, **options)
            self.calls += 1
            if self.calls == self.number or (self.lasting and self.calls > self.number):
                if name == "write" and self.calls == self.number:
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])  # a part may have been written
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments, **options)

        return call


def changes(storage: Any) -> None:
    storage.add_run("s", run_id="new", input="question 4", state={"new": 1})


def hot(storage: Any) -> None:
    """The commit of one that has committed before: its head changes names with the one that is there."""
    changes(storage)


def creation(storage: Any) -> None:
    storage.add_run("t", run_id="new", input="question 1", state={"new": 1})


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_may_fail(
    kind: str, code: int, lasting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = Folder(kind, tmp_path / "template")
    for work, session_id in ((changes, "s"), (hot, "s"), (creation, "t")):
        for number in count(1):
            shutil.copytree(template.path, tmp_path / "folder")
            storage = KINDS[kind](tmp_path / "folder")
            storage.setup()
            if work is hot:
                storage.rename("s", "one")
                storage.rename("s", "two")
            failing = FailingOs(number, code, lasting=lasting)
            error: StorageError | None = None
            with monkeypatch.context() as patch:
                for module in (disk, locks, sessions, tree, left):
                    patch.setattr(module, "os", failing)
                patch.setattr(linux, "exchange", failing.called("exchange", linux.exchange))
                try:
                    work(storage)
                except StorageError as caught:
                    error = caught
            storage.close()
            examine(kind, tmp_path / "folder", session_id, error)
            shutil.rmtree(tmp_path / "folder")
            if failing.calls < number:
                assert error is None
                assert number > 5
                break
            if code == errno.ENOSPC:
                assert error is None or isinstance(error, StorageFullError)


@pytest.mark.parametrize("value", [b"new", None])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_every_call_that_writes_a_record_may_fail(
    value: bytes | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = Folder("json", tmp_path / "template")
    with template.open() as storage:
        head = storage.get_session("s")
    assert head is not None

    def driver(path: Path) -> FileDriver:
        return FileDriver(path, JsonFormat())

    arguments = ("s", head.incarnation, "key")
    assert step(driver(template.path).put_record(*arguments, b"old", Deadline(5)))
    for number in count(1):
        shutil.copytree(template.path, tmp_path / "folder")
        failing = FailingOs(number, code, lasting=False)
        error: StorageError | None = None
        with monkeypatch.context() as patch:
            for module in (disk, locks, sessions, tree):
                patch.setattr(module, "os", failing)
            try:
                step(driver(tmp_path / "folder").put_record(*arguments, value, Deadline(5)))
            except StorageError as caught:
                error = caught
        found = step(driver(tmp_path / "folder").get_record(*arguments, Deadline(5)))
        assert found == value if error is None else found in (b"old", value)
        assert error is None or error.written == "unknown" or found == b"old"
        names = [file.name for file in (tmp_path / "folder").rglob("records/*")]
        assert not [name for name in names if name.startswith(".")]
        shutil.rmtree(tmp_path / "folder")
        if failing.calls < number:
            assert error is None
            assert number > 1
            break


def test_every_read_that_makes_the_index_anew_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list names what it could not read, or is an error, and the next one has everything."""
    folder = Folder("json", tmp_path / "folder")
    with folder.open() as storage:
        storage.add_run("t")
    for number in count(1):
        shutil.rmtree(folder.path / ".sessile")
        failing = FailingOs(number, errno.EIO, lasting=False, names=READS)
        with folder.open() as storage:
            with monkeypatch.context() as patch:
                for module in (disk, locks, sessions, tree, module_of_storage):
                    patch.setattr(module, "os", failing)
                with suppress(StorageError):
                    page = storage.sessions()
                    assert len({head.session_id for head in page.items} | page.unreadable.keys()) == 2
            assert {head.session_id for head in storage.sessions().items} == {"s", "t"}
        if failing.calls < number:
            assert number > 20
            break


def examine(kind: str, path: Path, session_id: str, error: StorageError | None) -> None:
    """What another process finds afterwards is what was said."""
    with KINDS[kind](path) as storage:
        old = [run.input for run in storage.runs("s")]
        assert old[:3] == ["question 1", "question 2", "question 3"]
        storage.verify("s")
        there = "new" in [run.run_id for run in storage.runs(session_id)]
        if error is None:
            assert there
        elif error.written == "no":
            assert not there
        storage.add_run(session_id, input="afterwards")
        storage.verify(session_id)
        assert [run.input for run in storage.runs(session_id)][-1] == "afterwards"
        listed = {head.session_id for head in storage.sessions().items}
        assert listed == {"s", session_id}


# ---------------------------------------------------------------- what is no session any more


def _replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _replaced_by_a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _folder_is_a_file(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.write_text("hello")


def _folder_is_a_link_to_itself(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.symlink_to(path.parent.name)


def _junk(path: Path) -> None:
    path.write_bytes(b"\xff\xfe junk\n")


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("head.json", _replaced_by_a_folder),
        ("head.json", _replaced_by_a_link_to_itself),
        ("log.jsonl", _replaced_by_a_folder),
        ("log.jsonl", _replaced_by_a_link_to_itself),
        ("log.jsonl", _junk),
        ("log.jsonl", Path.unlink),
        ("log.jsonl", _folder_is_a_file),
        ("log.jsonl", _folder_is_a_link_to_itself),
    ],
)
def test_one_spoiled_session_keeps_no_other_and_can_be_deleted(
    tmp_path: Path, name: str, spoil: Any, again: bool
) -> None:
    storage = JsonStorage(tmp_path)
    for session_id in ("one", "two", "three"):
        storage.add_run(session_id, user_id="ada")
    storage.create_session("expired", user_id="ada", ttl=0)
    (folder,) = (tmp_path / "sessions").glob("two*")
    spoil(folder / name)
    if again:
        storage.close()
        storage = JsonStorage(tmp_path)
    with storage:
        page = storage.sessions(user_id="ada")
        assert ({head.session_id for head in page}, list(page.unreadable)) == ({"one", "three"}, ["two"])
        assert storage.sweep() == 1
        with pytest.raises(StorageError):
            storage.delete("two", user_id="ada")  # nothing says any more that it is hers
        assert storage.delete("two", user_id=ANY_USER)
        assert not os.path.lexists(folder)
        assert storage.delete_user("ada") == 2
        assert storage.sessions(user_id=ANY_USER).unreadable == {}
