"""SQLite from many processes at once, from processes that are killed, and across forks."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sessile import SqliteStorage

from .helpers import child, crash, finish, texts

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def go(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Let processes that wait for a line on their input begin at once, and return what they print."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [finish(process) for process in processes]


READY = """
import sys
from sessile import SqliteStorage
print("ready", flush=True)
sys.stdin.readline()
"""


def test_eight_processes_that_start_at_once_on_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "s.db"
    code = (
        READY
        + """
with SqliteStorage(sys.argv[1], timeout=600, synchronous="NORMAL") as storage:
    for number in range(5):
        said = [{"text": sys.argv[2] + str(number)}]
        storage.add_run("shared", format="test/1", messages=said, state={sys.argv[2]: number})
        storage.add_run("own " + sys.argv[2])
"""
    )
    go([child(code, path, name) for name in "abcdefgh"])
    with SqliteStorage(path) as storage:
        found = texts(storage.messages("shared"))
        assert sorted(found) == [f"{name}{number}" for name in "abcdefgh" for number in range(5)]
        for name in "abcdefgh":
            assert [text for text in found if text[0] == name] == [f"{name}{number}" for number in range(5)]
        assert storage.count_sessions() == 9
        assert storage.verify("shared") == 40
        head = storage.get_session("shared")
        assert head is not None
        assert head.state == dict.fromkeys("abcdefgh", 4)


def test_of_eight_processes_that_take_a_run_over_one_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with SqliteStorage(path, lease=0.001) as storage:
        crash(storage)
    code = (
        READY
        + """
from sessile.errors import NotResumableError
from sessile.storage import taking, turns
from sessile.storage.extending import operate
with SqliteStorage(sys.argv[1], timeout=600, lease=1e6) as storage:
    try:
        spec = turns.TurnSpec("s", "ignored", None)
        print(operate(storage, taking.take_turn, spec, None, 3, lambda *args: [])[0].epoch)
    except NotResumableError:
        print("refused")
"""
    )
    assert sorted(go([child(code, path) for _ in range(8)])) == ["2\n"] + ["refused\n"] * 7


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    code = """
import itertools, sys
from sessile import SqliteStorage
storage = SqliteStorage(sys.argv[1])
for number in itertools.count(1):
    print(storage.add_run("s", input="x" * 5000).number, flush=True)
"""
    for _ in range(3):
        process = child(code, path)
        assert process.stdout is not None
        acknowledged = 0
        while acknowledged % 10 or not acknowledged:
            acknowledged = int(process.stdout.readline())
        process.kill()
        rest = process.stdout.read()  # `communicate` would leave out what was read from the pipe already
        process.communicate()
        whole = [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = int(whole[-1]) if whole else acknowledged
        with SqliteStorage(path) as storage:
            count = storage.verify("s")
            assert acknowledged <= count <= acknowledged + 1
            assert {run.status for run in storage.runs("s")} == {"completed"}
            storage.add_run("s")
            for _ in range(9 - count % 10):
                storage.add_run("s")


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_between_the_commit_and_the_removal_of_a_deletion(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    code = """
import os, signal, sys
from sessile import SqliteStorage
from sessile.drivers.sqlite import SqliteDriver

async def killed(self, *args):
    os.kill(os.getpid(), signal.SIGKILL)

with SqliteStorage(sys.argv[1]) as storage:
    storage.add_run("s", format="test/1", messages=[{"text": "x"}])
    SqliteDriver.delete = killed
    storage.delete("s")
"""
    process = child(code, path)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with SqliteStorage(path) as storage:
        by_hand = sqlite3.connect(path)
        assert by_hand.execute("SELECT count(*) FROM sessile_commits").fetchone() == (2,)
        assert (storage.get_session("s"), storage.runs("s"), storage.count_sessions()) == (None, [], 0)
        assert storage.sweep() == 1
        assert by_hand.execute("SELECT count(*) FROM sessile_commits").fetchone() == (0,)
        by_hand.close()


# ---------------------------------------------------------------- forks

FORK = """
import os, sys, threading
from sessile import MemoryStorage, SqliteStorage

storage = SqliteStorage(sys.argv[1], timeout=600, synchronous="NORMAL")

def write(name, count=20):
    for number in range(count):
        storage.add_run("s", format="test/1", messages=[{"text": name + str(number)}])

def fork(in_child):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            in_child()
            code = 0
        finally:
            os._exit(code)
    return pid

def join(*pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0, "the child has failed"

def gate():
    r, w = os.pipe()
    return lambda: os.read(r, 1), lambda: os.write(w, b"x")
"""

CHECK = """
with SqliteStorage(sys.argv[1]) as again:
    texts = sorted(message.data["text"] for message in again.messages("s", from_run=1))
    assert texts == sorted(name + str(n) for name in NAMES for n in range(20)), texts
    assert again.verify("s") == len(texts)
print("fine")
"""


def forking(tmp_path: Path, code: str, names: str) -> None:
    assert finish(child(FORK + code + CHECK.replace("NAMES", repr(names)), tmp_path / "s.db")) == "fine\n"


@forks
def test_parent_and_child_both_go_on_writing(tmp_path: Path) -> None:
    forking(
        tmp_path,
        """
write("a")
pid = fork(lambda: write("b"))
write("c")
join(pid)
storage.close()
""",
        "abc",
    )


@forks
def test_a_child_goes_on_after_its_parent_has_closed_the_file(tmp_path: Path) -> None:
    """Where a connection is inherited, SQLite removes the log from under the child here."""
    forking(
        tmp_path,
        """
write("a")
storage.get_session("s")
written, say_written = gate()
closed, say_closed = gate()

def in_child():
    write("b")
    say_written()
    closed()
    write("c")

pid = fork(in_child)
written()
write("d")
storage.close()
say_closed()
join(pid)
""",
        "abcd",
    )


@forks
def test_a_parent_goes_on_after_its_child_has_closed_the_file(tmp_path: Path) -> None:
    forking(
        tmp_path,
        """
write("a")

def in_child():
    write("b")
    storage.close()

join(fork(in_child))
write("c")
join(fork(lambda: fork(in_child_of_a_child := lambda: write("d")) and os.wait()))
storage.close()
""",
        "abcd",
    )


@forks
def test_forks_while_other_threads_read_and_write(tmp_path: Path) -> None:
    forking(
        tmp_path,
        """
write("a")
done = threading.Event()

def read():
    while not done.is_set():
        storage.runs("s")

threads = [threading.Thread(target=write, args=(name,)) for name in "bc"] + [threading.Thread(target=read)]
for thread in threads:
    thread.start()
pids = [fork(lambda: write("d")), fork(lambda: write("e"))]
forkers = [threading.Thread(target=lambda name=name: join(fork(lambda: write(name)))) for name in "fg"]
for forker in forkers:
    forker.start()
for forker in forkers:
    forker.join()
join(*pids)
done.set()
for thread in threads:
    thread.join()
storage.close()
""",
        "abcdefg",
    )


@forks
def test_a_fork_does_not_wait_for_ever_for_a_reader(tmp_path: Path) -> None:
    """What is inherited then is never closed by the child, and both go on."""
    forking(
        tmp_path,
        """
from sessile.drivers import sqlite
from sessile.storage import Deadline
sqlite.FORK_SECONDS = 0.01
write("a")
driver = storage._core.driver
reading, say_reading = gate()
end, say_end = gate()

def read():
    with driver._reading(Deadline(600), short=False) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sessile_sessions").fetchone()
        say_reading()
        end()
        connection.execute("ROLLBACK")

thread = threading.Thread(target=read)
thread.start()
reading()

def in_child():
    write("b")
    storage.close()

join(fork(in_child))
write("c")
say_end()
thread.join()
storage.close()
""",
        "abc",
    )


@forks
def test_async_code_and_workers_in_a_child(tmp_path: Path) -> None:
    forking(
        tmp_path,
        """
import asyncio

async def awrite(name):
    said = [[{"text": name + str(n)}] for n in range(20)]
    await asyncio.gather(*(storage.aadd_run("s", format="test/1", messages=one) for one in said))

asyncio.run(awrite("a"))
pid = fork(lambda: asyncio.run(awrite("b")))
asyncio.run(awrite("c"))
join(pid)
storage.close()
""",
        "abc",
    )


@forks
def test_storages_in_memory_and_on_background_loops_in_a_child(tmp_path: Path) -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[2])
from tests.storage.helpers import Suspending
from sessile.storage import Storage
write("a")
memory, inside, closed = MemoryStorage(), SqliteStorage(":memory:"), MemoryStorage()
suspending = Storage(None, async_driver=lambda: Suspending())
for one in (memory, inside, suspending, closed):
    one.add_run("m", input="parent")
closed.close()

def in_child():
    for one in (memory, inside, suspending):
        one.add_run("m", input="child")
    assert [run.input for run in memory.runs("m")] == ["parent", "child"]
    assert [run.input for run in inside.runs("m")] == ["child"], "a database in memory stays with its process"

join(fork(in_child))
for one in (memory, inside, suspending):
    assert [run.input for run in one.runs("m")] == ["parent"]
    one.close()
storage.close()
"""
    root = Path(__file__).parents[2]
    code = FORK + code + CHECK.replace("NAMES", "'a'")
    assert finish(child(code, tmp_path / "s.db", root)) == "fine\n"
