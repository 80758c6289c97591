"""Deleting where the disk is full: what makes room must not need any."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sessile import SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import StorageFullError
from sessile.records import ANY_USER
from sessile.storage.absence import as_row
from sessile.storage.driver import Deadline
from sessile.storage.encoding import decode_head
from sessile.storage.faces import step

from .helpers import Lagging, Tapped, driver_of


def full(written: Any = "no") -> Any:
    """A hook of a database that has no room for another commit."""

    def refuse(*_: Any) -> None:
        raise StorageFullError("There is no room.", written=written)

    return refuse


@pytest.mark.parametrize("kind", [Tapped, Lagging])
def test_a_session_is_removed_without_saying_so_first(kind: type[Tapped]) -> None:
    driver = kind(MemoryDriver())
    with Storage(driver) as storage:
        for name in ("a", "b", "c", "mine"):
            storage.add_run(name, user_id="ada" if name != "mine" else None, input=name)
            storage.rename(name, "x", user_id=ANY_USER)
        driver.before["append"] = full()
        assert not storage.delete("a")  # another user's, whatever the disk has
        assert not storage.delete("nothing")
        assert storage.delete("a", user_id="ada")
        assert storage.get_session("a", user_id="ada") is None
        assert storage.delete_user("ada") == 2
        assert [session.session_id for session in storage.sessions(user_id=ANY_USER)] == ["mine"]
        assert storage.delete("mine", user_id=ANY_USER)
        del driver.before["append"]
        storage.add_run("new", input="again")
        assert [run.input for run in storage.runs("new")] == ["again"]


def test_what_may_have_been_written_is_not_taken_for_a_full_disk() -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        storage.add_run("s")
        driver.before["append"] = full("unknown")
        with pytest.raises(StorageFullError) as caught:
            storage.delete("s")
        assert caught.value.written == "unknown"
        assert "delete" not in driver.calls


def test_sweeping_removes_what_is_expired_but_not_what_was_prolonged() -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        for name in ("old", "prolonged"):
            storage.add_run(name, input=1)
            storage.set_ttl(name, 0.001)
        time.sleep(0.01)

        def refuse(write: Any, *_: Any) -> None:
            if write.session_id == "prolonged" and not prolonged:  # somebody has found the last room there was
                head = decode_head(write.head)
                head.hidden, head.expires_us = None, None
                commit = write.commits[0]._replace(commit_id="another")
                prolonged.append(
                    step(driver.inner.append(write._replace(commits=(commit,), head=as_row(head)), Deadline(5)))
                )
            full()()

        prolonged: list[bool] = []
        driver.before["append"] = refuse
        assert storage.sweep() == 1
        assert prolonged == [True]
        assert [session.session_id for session in storage.sessions()] == ["prolonged"]


def test_a_file_that_may_not_grow(path: Path) -> None:
    with SqliteStorage(path) as storage:
        for number in range(20):
            storage.add_run(f"s{number}", user_id="ada", input="x" * 20_000)
        writer = driver_of(storage)._writer
        pages = writer.execute("PRAGMA page_count").fetchone()[0]
        writer.execute(f"PRAGMA max_page_count = {pages}")

        def fill() -> None:
            for _ in range(100):
                storage.add_run("s0", user_id="ada", input="y" * 300)

        with pytest.raises(StorageFullError):
            fill()
        assert storage.delete("s0", user_id="ada")
        assert storage.delete_user("ada") == 19
        storage.add_run("new", input="x" * 20_000)  # in the pages that have become free
        assert storage.verify("new") == 1
        assert writer.execute("PRAGMA page_count").fetchone()[0] == pages


ON_A_SMALL_DISK = """
import sqlite3, subprocess, sys
import sessile
from sessile.errors import StorageFullError

with sessile.open(sys.argv[1]) as storage:
    for number in range(60):
        storage.add_run(f"s{number}", user_id="ada" if number % 2 else None, input="x" * 100_000)
    storage.set_ttl("s2", 0.001)
    if "sqlite" in sys.argv[1]:
        sqlite3.connect("s.db").execute("PRAGMA wal_checkpoint").fetchall()
    subprocess.run("cat /dev/zero > rest", shell=True, stderr=subprocess.DEVNULL)  # another program takes the rest
    try:
        for _ in range(1000):
            storage.add_run("s4", input="y" * int(sys.argv[3]))
    except StorageFullError as error:
        print("full", error.written)
    for number in range(6, 14, 2):
        assert storage.delete(f"s{number}")
    print("swept", storage.sweep())
    if sys.argv[2] == "all":
        print("of the user", storage.delete_user("ada"))
        assert all(storage.delete(item.session_id) for item in storage.sessions(limit=100))
    before = storage.count_sessions(user_id=sessile.ANY_USER)
    print("left", before)
    storage.add_run("new", input="z" * 20_000)
    print("again", storage.verify("new"))
"""


FULL = [("json:///data", "all", 30_000), ("yaml:///data", "all", 30_000), ("sqlite:///s.db", "some", 6_000_000)]
"""SQLite has room for some: as much as is left in its log, which cannot be made empty on a full disk."""


@pytest.mark.parametrize(("url", "how_many", "size"), FULL)
def test_a_disk_that_is_really_full(url: str, how_many: str, size: int, tmp_path: Path) -> None:
    small = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody make a small file system")
    script = f'mount -t tmpfs -o size=16m small "{tmp_path}" && cd "{tmp_path}" && exec "$@"'
    program = [sys.executable, "-c", ON_A_SMALL_DISK, url, how_many, str(size)]
    done = subprocess.run([*small, "sh", "-c", script, "sh", *program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left = ["of the user 30", "left 0"] if how_many == "all" else ["left 55"]
    assert done.stdout.splitlines() == ["full no", "swept 1", *left, "again 1"]
