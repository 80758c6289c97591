"""Heads of a process that commits again and again: how they are found after a power cut, and by the lists of others."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.encryption.opening import FILTERED, KEYS
from tests.files.folders import Folder

from sessile import Storage
from sessile.drivers.files import linux
from sessile.drivers.files.heads import MOST_EXCHANGED
from sessile.encryption import EncryptedStorage
from sessile.errors import SealedError, StorageFullError
from sessile.storage import extending
from sessile.storage.snapshots import Draft, Snapshot
from sessile.storage.storage import operate
from sessile.storage.vocabulary import SessionSummarized

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged on Linux alone")


def base_of(folder: Folder) -> Path:
    return folder.session / f".{folder.head.name}.base"


def begun(folder: Folder) -> None:
    """One has changed the name in the head by hand; then a process commits a few times."""
    with folder.open() as storage:
        storage.rename("s", "before")
    folder.edit(folder.head, "before", "by hand")
    with folder.open() as storage:
        for number in range(4, 8):
            storage.add_run("s", input=f"question {number}")


@linux_only
@pytest.mark.parametrize("broken", [b"", b"\0" * 700, b'{\n  "sess'])
def test_a_broken_head_keeps_what_was_changed_by_hand(broken: bytes, folder: Folder) -> None:
    begun(folder)
    folder.head.write_bytes(broken)
    with folder.open() as storage:
        session = storage.get_session("s", last_runs=10)
        assert session is not None
        assert (session.name, session.run_count) == ("by hand", 7)
        assert [run.input for run in session.runs] == [f"question {number}" for number in range(1, 8)]
        assert [head.name for head in storage.sessions()] == ["by hand"]
        storage.add_run("s", input="question 8")
    assert folder.inputs(last=1) == ["question 8"]


@linux_only
def test_where_the_older_head_is_damaged_too_the_log_is_all_that_is_needed(folder: Folder) -> None:
    begun(folder)
    folder.edit(base_of(folder), "usage", "u5age")
    folder.head.write_bytes(b"")
    with folder.open() as storage:
        session = storage.get_session("s")
        assert session is not None
        assert (session.name, session.run_count) == ("before", 7)


@linux_only
def test_a_head_that_is_removed_is_rebuilt_from_the_log_alone(folder: Folder) -> None:
    begun(folder)
    assert base_of(folder).exists()
    folder.head.unlink()
    with folder.open() as storage:
        session = storage.get_session("s")
        assert session is not None
        assert (session.name, session.run_count) == ("before", 7)
        storage.verify("s")


@linux_only
def test_what_is_kept_of_a_head_is_not_taken_for_that_of_another_log(folder: Folder, tmp_path: Path) -> None:
    """A copy of head and log is put back, goes another way, and its head breaks."""
    shutil.copytree(folder.session, tmp_path / "copy")
    with folder.open() as storage:
        for _ in range(3):
            storage.update_state("s", set={"way": "first"})
    assert base_of(folder).exists()
    for name in (folder.head.name, folder.log.name):
        shutil.copy(tmp_path / "copy" / name, folder.session / name)
    with folder.open() as storage:
        storage.rename("s", "second")
    with folder.open() as storage:
        storage.rename("s", "third")
    folder.head.write_bytes(b"")
    with folder.open() as storage:
        session = storage.get_session("s")
        assert session is not None
        assert (session.name, session.state) == ("third", {})
        storage.verify("s")


@linux_only
def test_what_is_taken_out_of_a_log_is_not_kept_in_an_older_head(folder: Folder) -> None:
    with folder.open() as storage:
        storage.update_state("s", set={"k": "secret"})
        storage.rename("s", "one")
        storage.update_state("s", remove=["k"])
        assert b"secret" in base_of(folder).read_bytes()
        storage.erase_run("s", 3)
        storage.rename("s", "two")
    kept = [path.read_bytes() for path in folder.session.glob(".*")]
    assert not any(b"secret" in content for content in kept)


@linux_only
def test_a_summary_of_an_erased_run_is_not_kept_in_an_older_head(folder: Folder) -> None:
    async def summarized(_: Snapshot) -> Draft:
        return Draft([SessionSummarized(upto=2, text="a secret").entry()])

    with folder.open() as storage:
        operate(storage, extending.commit, "s", summarized)
        storage.rename("s", "one")
        assert b"secret" in base_of(folder).read_bytes()
        storage.erase_run("s", 2)
        storage.rename("s", "two")
        storage.rename("s", "three")
    kept = {path.name: path.read_bytes() for path in folder.session.iterdir() if path.is_file()}
    assert not [name for name, content in kept.items() if b"secret" in content]


def test_after_many_exchanged_heads_one_takes_the_name(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    replace = os.replace

    def counted(*arguments: Any, **options: Any) -> None:
        taken.append(arguments)
        replace(*arguments, **options)

    monkeypatch.setattr(os, "replace", counted)
    with folder.open() as storage:
        for number in range(2 * MOST_EXCHANGED + 3):
            storage.rename("s", f"name {number}")
        storage.verify("s")
    assert len(taken) >= 3
    assert not (folder.session / f".{folder.head.name}.new").exists()


@linux_only
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_where_names_cannot_be_exchanged(code: int, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an old kernel says it, and a sandbox."""

    def cannot(*_: Any) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(linux, "_calls", lambda: (cannot, None))
    with folder.open() as storage:
        for number in range(4, 9):
            storage.add_run("s", input=f"question {number}")
        storage.verify("s")
    assert folder.inputs(last=1) == ["question 8"]
    assert not base_of(folder).exists()


# ---------------------------------------------------------------- lists


def names(storage: Storage, **options: Any) -> list[str | None]:
    return [head.name for head in storage.sessions(**options)]


def test_lists_of_others_see_every_commit(folder: Folder) -> None:
    """Also one that the index was only told of: in the right place, by its filters, and counted."""
    with folder.open() as writer, folder.open() as reader:
        writer.create_session("t", name="t 0")
        for number in range(4):
            writer.rename("s", f"s {number}")
            assert names(reader) == [f"s {number}", f"t {number}"]
            writer.rename("t", f"t {number + 1}")
            assert names(reader, limit=1) == [f"t {number + 1}"]
            assert reader.count_sessions(user_id=None) == 2
        writer.claim("s", user_id="ada")
        writer.rename("s", "hers", user_id="ada")
        assert names(reader, user_id="ada") == ["hers"]
        assert reader.count_sessions(user_id="ada") == reader.count_sessions(user_id=None) == 1


def test_lists_see_what_a_killed_process_has_committed(folder: Folder) -> None:
    code = (
        "import os, sys, signal, sessile\n"
        "storage = sessile.open(sys.argv[1])\n"
        "for number in range(5):\n"
        "    storage.rename('s', f'name {number}')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with folder.open() as reader:
        assert names(reader) == [None]
        subprocess.run([sys.executable, "-c", code, f"{folder.kind}:///{folder.path}"], check=False)
        assert names(reader) == ["name 4"]
        assert names(reader) == ["name 4"]


def test_lists_do_not_wait_for_a_process_that_is_stuck_in_a_commit(folder: Folder) -> None:
    code = (
        "import sys, time, sessile\n"
        "from sessile.drivers.files import disk\n"
        "def stuck(file):\n"
        "    print('stuck', flush=True)\n"
        "    time.sleep(600)\n"
        "storage = sessile.open(sys.argv[1])\n"
        "for name in ('one', 'two', 'three'):\n"
        "    storage.rename('s', name)\n"
        "disk.sync = stuck\n"
        "storage.rename('s', 'four')\n"
    )
    with folder.open() as reader:
        assert names(reader) == [None]
        url = f"{folder.kind}:///{folder.path}"
        with subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE) as writer:
            try:
                assert writer.stdout is not None
                assert writer.stdout.readline() == b"stuck\n"
                assert names(reader) == names(reader, name_prefix="three") == ["three"]
            finally:
                writer.kill()
        assert reader.rename("s", "five").name == "five"
        assert names(reader) == ["five"]


def test_a_session_that_was_deleted_is_in_no_list(folder: Folder) -> None:
    with folder.open() as writer, folder.open() as reader:
        for number in range(3):
            writer.rename("s", f"s {number}")
        writer.delete("s")
        assert names(reader) == []
        writer.create_session("s", name="again")
        assert names(reader) == ["again"]


def test_an_index_that_is_full_costs_the_commit_and_nothing_else(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessile.drivers.files.index import Index

    def full(*_: Any) -> bool:
        raise StorageFullError("The disk is full.")

    with folder.open() as storage:
        storage.rename("s", "one")
        with monkeypatch.context() as patch:
            patch.setattr(Index, "note_change", full)
            with pytest.raises(StorageFullError) as caught:
                storage.rename("s", "two")
        assert caught.value.written == "no"
        assert names(storage) == ["one"]
        storage.rename("s", "three")
        assert names(storage) == ["three"]
        storage.verify("s")


def test_a_process_that_changes_many_sessions_leaves_lists_little_to_do(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessile.drivers.files import index

    monkeypatch.setattr(index, "MOST_CHANGED", 2)
    with folder.open() as writer, folder.open() as reader:
        for number in range(5):
            for name in ("made", "changed", "again"):
                writer.create_session(f"t{number}", name=name) if name == "made" else writer.rename(f"t{number}", name)
        assert names(reader) == [*["again"] * 5, None]


def test_an_index_of_an_earlier_version_is_rebuilt(folder: Folder) -> None:
    """Of version 2, which knew no notes of changes."""
    with sqlite3.connect(folder.path / ".sessile" / "index.db") as connection:
        connection.execute("DROP TABLE changed")
        connection.execute("UPDATE heads SET name = 'out of date'")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with folder.open() as storage:
        assert names(storage) == [None]
        for name in ("one", "two", "three"):
            storage.rename("s", name)
            assert names(storage) == [name]


# ---------------------------------------------------------------- encrypted


@pytest.mark.parametrize(("where", "name"), [("put_in_place", "new"), ("write", "old")])
def test_an_encrypted_session_whose_writer_was_killed(where: str, name: str, folder: Folder) -> None:
    """Nobody but who has the keys can roll its head forward: the next one lies beside it, or the commit is none."""
    code = (
        "import os, sys\n"
        "from sessile import JsonStorage, YamlStorage\n"
        "from sessile.drivers.files.heads import Heads\n"
        "from sessile.encryption import EncryptedStorage\n"
        "inner = {'json': JsonStorage, 'yaml': YamlStorage}[sys.argv[1]]\n"
        "with EncryptedStorage(inner(sys.argv[2]), keys={'test': b'k' * 32}, clear=('name',)) as storage:\n"
        "    storage.create_session('t', name='made')\n"
        "    for number in range(3):\n"
        "        storage.rename('t', 'old')\n"
        "    setattr(Heads, sys.argv[3], lambda *_, **__: os._exit(9))\n"
        "    storage.rename('t', 'new')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, folder.kind, str(folder.path), where], check=False)
    assert ended.returncode == 9
    assert not list(folder.path.glob("sessions/t-*/.*.base"))
    with EncryptedStorage(folder.open(), keys=KEYS, clear=FILTERED) as storage:
        session = storage.get_session("t")
        assert session is not None
        assert session.name == name
        assert name in names(storage)
        storage.add_run("t", input="question")
        storage.verify("t")
    with EncryptedStorage(folder.open(), keys=KEYS, clear=FILTERED) as storage:
        assert [run.input for run in storage.runs("t")] == ["question"]


def test_an_encrypted_session_whose_creator_was_killed(folder: Folder) -> None:
    code = (
        "import os, sys\n"
        "from sessile import JsonStorage, YamlStorage\n"
        "from sessile.drivers.files.heads import Heads\n"
        "from sessile.encryption import EncryptedStorage\n"
        "inner = {'json': JsonStorage, 'yaml': YamlStorage}[sys.argv[1]]\n"
        "Heads.write = lambda *_, **__: os._exit(9)\n"
        "EncryptedStorage(inner(sys.argv[2]), keys={'test': b'k' * 32}).create_session('t')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, folder.kind, str(folder.path)], check=False)
    assert ended.returncode == 9
    with EncryptedStorage(folder.open(), keys=KEYS) as storage:
        assert storage.get_session("t") is None
        storage.add_run("t", input="question")
        storage.verify("t")


def test_an_encrypted_head_that_is_broken_is_left_as_it_is(folder: Folder) -> None:
    with EncryptedStorage(folder.open(), keys=KEYS) as storage:
        storage.create_session("t")
        storage.rename("t", "one")
        [head] = folder.path.glob(f"sessions/t-*/{folder.head.name}")
        head.write_bytes(head.read_bytes()[:300])
        before = {path.name: path.read_bytes() for path in head.parent.iterdir()}
        for _ in range(2):
            with pytest.raises(SealedError):
                storage.get_session("t")
        assert {path.name: path.read_bytes() for path in head.parent.iterdir()} == before
