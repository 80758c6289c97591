"""`MongoDbStorage` when processes and servers die between two writes, and commits of several documents."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from typing import Any

import pytest
from tests.mongodb.helpers import FUTURE, MIB, Documents, call, driver_of, inputs, kinds, wait_until_answered
from tests.servers.mongodb import FerretServer

import sessile
from sessile import ANY_USER, MongoDbStorage
from sessile.errors import (
    StorageError,
    TooLargeError,
)
from sessile.storage.driver import Deadline
from sessile.storage.extending import operate
from sessile.storage.faces import step
from sessile.testing.samples import append_of

# ---------------------------------------------------------------- processes that are killed between two writes

KILLED = """\
import os, signal, sys
from sessile import MongoDbStorage
from sessile.drivers.mongodb.port import Port

url, method, number, code = sys.argv[1:]
storage = MongoDbStorage(url, max_commit_bytes=2**26)
storage.setup()
plain = getattr(Port, method, None)
calls = []


async def dying(self, *args, **kwargs):
    calls.append(args)
    if len(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return await plain(self, *args, **kwargs)


async def between(self, what, first, second, deadline):
    self.collection(self.target.sessions).bulk_write([first])
    os.kill(os.getpid(), signal.SIGKILL)


if method == "between":
    Port.write_in_order = between
else:
    setattr(Port, method, dying)
exec(code)
print("not killed")
"""


def kill_before(url: str, method: str, number: int, code: str) -> None:
    """Run code in a process that is killed when it calls a method of the port for that time.

    `"between"`: it sends the claim of a commit without its head, and is killed when it is acknowledged.
    """
    command = [sys.executable, "-c", KILLED, url, method, str(number), code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-9, ""), done.stderr


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may need more than the two seconds after which a reader takes a head that lags for left by a crash."""
    monkeypatch.setattr("sessile.storage.core.LAG", 3600 * 10**6)


@pytest.mark.usefixtures("slow")
def test_killed_between_claim_and_head(
    mongodb_url: str, storage: MongoDbStorage, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit has happened, its state patch too; lists become right when the session is looked at again."""
    storage.add_run("s", input="a", state={"kept": 1, "changed": 1})
    kill_before(mongodb_url, "between", 1, "storage.add_run('s', input='b', state={'changed': 2, 'new': [None]})")
    head = documents.find_one({"revision": {"$gt": 0}})
    assert head is not None
    assert head["revision"] == 1
    seen = storage.get_session("s")
    assert seen is not None
    assert (seen.revision, seen.run_count) == (2, 2)
    assert seen.state == {"kept": 1, "changed": 2, "new": [None]}
    assert inputs(storage) == ["a", "b"]
    assert storage.verify("s") == 2
    assert storage.sessions().items[0].revision == 1

    monkeypatch.setattr("sessile.storage.core.LAG", 0)
    with MongoDbStorage(mongodb_url, max_state_bytes=10) as another:  # its limits are for what it writes
        assert another.get_session("s") == seen
    assert storage.sessions(with_state=True).items == [seen]

    storage.add_run("s", input="c", state={"changed": None})
    assert inputs(storage) == ["a", "b", "c"]
    assert storage.verify("s") == 3


@pytest.mark.usefixtures("slow")
def test_client_and_server_are_killed_between_claim_and_head(own_ferretdb: FerretServer) -> None:
    """As they are: the server has the claim, waits with the head, and both processes get SIGKILL."""
    code = "import sys, sessile; sessile.open(sys.argv[1]).add_run('s', input='b', state={'changed': 2, 'new': [None]})"
    with MongoDbStorage(own_ferretdb.url) as storage:
        storage.add_run("s", input="a", state={"kept": 1, "changed": 1})
        with closing(own_ferretdb.database.connect()) as postgres:
            postgres.execute("BEGIN")
            [table] = postgres.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE tablename LIKE 'sessile_sessions%'"
            ).fetchone() or [None]
            postgres.execute(f"SELECT 1 FROM {table} FOR UPDATE")  # the head, and what else is there
            client = subprocess.Popen([sys.executable, "-c", code, own_ferretdb.url])
            while len(inputs(storage)) < 2:  # as the log says; the head lags
                assert client.poll() is None
            client.kill()
            own_ferretdb.kill()
        assert client.wait() == -9
        own_ferretdb.start()
        wait_until_answered(storage)
        with own_ferretdb.connect() as by_hand:
            head = by_hand.get_default_database()["sessile_sessions"].find_one({"revision": {"$gt": 0}})
        assert head is not None
        assert head["revision"] == 1
        seen = storage.get_session("s")
        assert seen is not None
        assert (seen.revision, seen.state) == (2, {"kept": 1, "changed": 2, "new": [None]})
        storage.add_run("s", input="c")
        assert inputs(storage) == ["a", "b", "c"]
        assert storage.verify("s") == 3


def test_an_append_to_a_head_that_lags(mongodb_url: str, storage: MongoDbStorage) -> None:
    """Two crashes in a row: the next append rolls the head forward over both."""
    storage.add_run("s", input=0)
    for number in (1, 2):
        kill_before(mongodb_url, "between", 1, f"storage.add_run('s', input={number}, state={{'n{number}': 1}})")
    storage.rename("s", "new")
    assert storage.verify("s") == 4
    assert storage.sessions(with_state=True).items[0].state == {"n1": 1, "n2": 1}


def test_killed_while_a_session_is_made(mongodb_url: str, storage: MongoDbStorage, documents: Documents) -> None:
    """There is no session, its id is free, and sweeping removes what is left, but nothing of others."""
    storage.add_run("other", input="x")
    kill_before(mongodb_url, "between", 1, "storage.add_run('s', input='lost')")
    assert documents.count_documents({"session_id": "s"}) == 1
    assert storage.get_session("s") is None
    assert [head.session_id for head in storage.sessions().items] == ["other"]
    storage.add_run("s", input="new")
    assert inputs(storage) == ["new"]
    assert storage.verify("s") == 1
    assert storage.sweep() == 0
    assert documents.count_documents({"session_id": "s"}) == 3  # it may still be at work
    call(storage, "sweep", FUTURE)
    assert documents.count_documents({"session_id": "s"}) == 2
    assert inputs(storage, "other") == ["x"]
    assert inputs(storage) == ["new"]


@pytest.mark.parametrize(("method", "number"), [("update", 1), ("remove", 1), ("remove", 2)])
@pytest.mark.parametrize("then", ["sweep", "make it again"])
def test_killed_while_a_session_is_deleted(
    mongodb_url: str, storage: MongoDbStorage, documents: Documents, method: str, number: int, then: str
) -> None:
    """It is gone for everybody from the commit on, and what is left goes with the next one of its id, or a sweep."""
    storage.add_run("s", input="old", state={"old": 1})
    kill_before(mongodb_url, method, number, "storage.delete('s')")
    assert storage.get_session("s") is None
    assert storage.sessions(user_id=ANY_USER).items == []
    if then == "sweep":
        storage.sweep()
        assert kinds(documents) == []
    else:
        storage.add_run("s", input="new")
        assert inputs(storage) == ["new"]
        assert storage.verify("s") == 1
        assert storage.get_session("s").state == {}  # pyright: ignore[reportOptionalMemberAccess]
        assert documents.count_documents({}) == 2


def test_appends_to_a_deleted_session_leave_nothing(storage: MongoDbStorage, documents: Documents) -> None:
    """Neither one whose writer has seen the session before, nor one that comes while it is being removed."""
    assert call(storage, "append", append_of())
    call(storage, "delete", "s", "i1")
    assert not call(storage, "append", append_of(expected=1))
    assert not call(storage, "put_record", "s", "i1", "k", b"x")
    assert kinds(documents) == []

    assert call(storage, "append", append_of())
    documents.update_one({"revision": 1}, {"$set": {"gone": True, "hidden": True}})
    assert not call(storage, "append", append_of(expected=1))
    assert kinds(documents) == []

    assert call(storage, "append", append_of())
    documents.update_one({"revision": 1}, {"$set": {"gone": True, "hidden": True}})
    assert call(storage, "append", append_of(incarnation="i2"))
    assert [row.seq for row in call(storage, "entries", "s", "i2", sessile.storage.Span())] == [1]
    assert documents.count_documents({}) == 2


def test_claims_of_an_incarnation_that_is_gone_do_not_disturb(storage: MongoDbStorage, documents: Documents) -> None:
    for seq in (1, 2, 3, 9):
        documents.insert_one(
            {
                "_id": f'["s","gone",{seq}]',
                "session_id": "s",
                "incarnation": "gone",
                "seq": seq,
                "commit_id": f"c{seq}",
                "run": 1,
                "time": 1,
                "body": "{}",
                "at": 1,
            }
        )
    assert storage.get_session("s") is None
    for number in range(12):
        storage.add_run("s", input=number)
    assert inputs(storage) == list(range(12))
    view = storage.get_session("s", last_runs=12)
    assert view is not None
    assert [run.input for run in view.runs] == list(range(12))
    assert storage.verify("s") == 12
    assert storage.delete("s")
    assert kinds(documents) == []


def test_records_of_a_session_that_is_gone_are_swept(storage: MongoDbStorage, documents: Documents) -> None:
    """As a process leaves them that ends before it has seen that the session was deleted."""
    for session_id in ("s", "other"):
        assert call(storage, "append", append_of(session_id=session_id))
        assert call(storage, "put_record", session_id, "i1", "k", b"x")
    documents.delete_many({"session_id": "s", "seq": {"$ne": 0}})
    call(storage, "sweep", FUTURE)
    assert documents.count_documents({"session_id": "s"}) == 0
    assert call(storage, "get_record", "other", "i1", "k") == b"x"


# ---------------------------------------------------------------- large commits


SMALL = "from sessile.drivers.mongodb import parts; parts.INLINE_BYTES, parts.PART_BYTES = 60_000, 25_000"
"""What makes commits large that are not, because FerretDB reads all of them at every look."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.drivers.mongodb.parts.INLINE_BYTES", 60_000)
    monkeypatch.setattr("sessile.drivers.mongodb.parts.PART_BYTES", 25_000)


def test_a_commit_that_is_larger_than_a_document(mongodb_url: str, documents: Documents) -> None:
    text = "ä🦪" * (3 * MIB)
    with MongoDbStorage(mongodb_url, max_commit_bytes=64 * MIB) as storage:
        storage.add_run("s", format="test/1", messages=[{"text": text}])
        assert storage.messages("s")[0].data == {"text": text}
        assert kinds(documents).count(-1) == 3


@pytest.mark.usefixtures("small")
def test_large_commits_are_split(storage: MongoDbStorage, documents: Documents) -> None:
    text = "ä🦪" * 10_000
    storage.add_run("s", input="small")
    storage.add_run("s", input="large", format="test/1", messages=[{"text": text}])
    storage.add_run("s", input="last")
    assert kinds(documents).count(-1) == 3
    assert inputs(storage) == ["small", "large", "last"]
    assert storage.messages("s", last_runs=2)[0].data == {"text": text}
    assert storage.verify("s") == 3
    call(storage, "sweep", FUTURE)
    assert kinds(documents).count(-1) == 3

    head = storage.get_session("s")
    assert head is not None
    lost = append_of(expected=2, incarnation=head.incarnation)
    row = lost.commits[0]._replace(body=json.dumps(text, ensure_ascii=False))
    assert not call(storage, "append", lost._replace(commits=(row,)))
    assert kinds(documents).count(-1) == 3

    assert storage.delete("s")
    assert kinds(documents) == []


@pytest.mark.usefixtures("small")
def test_a_missing_part_is_told(storage: MongoDbStorage, documents: Documents) -> None:
    """Unless the session is being deleted."""
    storage.add_run("s", format="test/1", messages=[{"text": "x" * 70_000}])
    documents.delete_one({"seq": -1})
    with pytest.raises(StorageError, match="A part of commit 1"):
        storage.runs("s")
    [claim] = documents.find({"seq": 1})
    documents.delete_one({"seq": 1})

    async def read(core: Any) -> Any:
        return await core.driver._parts.rows([claim], core.deadline())

    assert operate(storage, read) == []


@pytest.mark.usefixtures("small")
def test_killed_between_parts_and_claim(mongodb_url: str, storage: MongoDbStorage, documents: Documents) -> None:
    storage.add_run("s", input="a")
    kill_before(
        mongodb_url,
        "write_in_order",
        1,
        f"{SMALL}; storage.add_run('s', format='test/1', messages=[{{'text': 'x' * 70_000}}])",
    )
    assert kinds(documents).count(-1) == 3
    assert inputs(storage) == ["a"]
    call(storage, "sweep", FUTURE)
    assert kinds(documents).count(-1) == 0
    assert inputs(storage) == ["a"]


@pytest.mark.usefixtures("small")
def test_a_part_that_cannot_be_written_is_no_commit(own_ferretdb: FerretServer) -> None:
    """There is nothing to look for: the claim comes last."""
    with MongoDbStorage(own_ferretdb.url) as storage:
        storage.setup()
        own_ferretdb.kill()
        with pytest.raises(StorageError) as caught:
            step(driver_of(storage).append(append_of(text="x" * 70_000), Deadline(1)))
        assert caught.value.written == "no"


def test_large_commits_are_refused_before_anything_is_sent(mongodb_url: str, documents: Documents) -> None:
    with MongoDbStorage(mongodb_url, max_commit_bytes=64 * MIB, large_commits="refuse") as storage:
        storage.add_run("s", input="a")
        before = documents.count_documents({})
        with pytest.raises(TooLargeError, match="large_commits") as caught:
            storage.add_run("s", format="test/1", messages=[{"text": "x" * (16 * MIB)}])
        assert caught.value.written == "no"
        assert documents.count_documents({}) == before


def test_a_state_larger_than_a_document_is_refused_before_anything_is_sent(
    mongodb_url: str, documents: Documents
) -> None:
    with MongoDbStorage(mongodb_url, max_commit_bytes=64 * MIB, max_state_bytes=64 * MIB) as storage:
        storage.add_run("s", input="a")
        with pytest.raises(TooLargeError, match="head"):
            storage.update_state("s", {"k": "x" * (16 * MIB)})
        assert storage.verify("s") == 1
        assert documents.count_documents({}) == 2
