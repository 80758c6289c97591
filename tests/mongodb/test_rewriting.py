"""Commits with other bodies in MongoDB, also such as lie in parts."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.mongodb.helpers import FUTURE, Documents, call, driver_of, kinds
from tests.mongodb.test_crashes import SMALL, kill_before

from sessile import MongoDbStorage
from sessile.errors import TooLargeError
from sessile.records import Entry
from sessile.storage.driver import CommitRow, Span
from sessile.storage.encoding import encode_commit
from sessile.storage.extending import operate
from sessile.testing.samples import append_of

LOG = Span(limit=1000)


def body(text: str) -> str:
    return encode_commit([Entry("test.note", {"text": text})])


LARGE, LARGER, SHORT = body("secret" * 12_000), body("other" * 30_000), body("")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.drivers.mongodb.parts.INLINE_BYTES", 60_000)
    monkeypatch.setattr("sessile.drivers.mongodb.parts.PART_BYTES", 25_000)


def fill(storage: MongoDbStorage, *bodies: str) -> None:
    for seq, text in enumerate(bodies):
        write = append_of("s", seq)
        assert call(storage, "append", write._replace(commits=(write.commits[0]._replace(body=text),)))


def log(storage: MongoDbStorage) -> list[CommitRow]:
    return call(storage, "entries", "s", "i1", LOG)


def rewrite(storage: MongoDbStorage, *bodies: str) -> bool:
    changed = [row._replace(body=text) for row, text in zip(log(storage), bodies, strict=True)]
    return call(storage, "rewrite", "s", "i1", changed)


def bodies(storage: MongoDbStorage) -> list[str]:
    return [row.body for row in log(storage)]


def test_parts_come_and_go(storage: MongoDbStorage, documents: Documents) -> None:
    fill(storage, LARGE, SHORT, LARGE)
    assert rewrite(storage, SHORT, LARGER, LARGER)
    assert bodies(storage) == [SHORT, LARGER, LARGER]
    assert kinds(documents).count(-1) == 14
    assert not [part for part in documents.find({"seq": -1}) if b"secret" in part["value"]]
    assert rewrite(storage, SHORT, SHORT, SHORT)
    assert bodies(storage) == [SHORT] * 3
    assert kinds(documents).count(-1) == 0


@pytest.mark.parametrize(("method", "number", "before"), [("update_all", 1, LARGE), ("remove", 1, LARGER)])
def test_killed_while_a_large_commit_is_rewritten(
    mongodb_url: str, storage: MongoDbStorage, documents: Documents, method: str, number: int, before: str
) -> None:
    """The commit is as it was, or as it shall be; what the other one had is swept, though it was there at a sweep."""
    fill(storage, LARGE)
    call(storage, "sweep", call(storage, "now"))
    code = f"""
{SMALL}
from tests.mongodb.test_rewriting import LARGER, rewrite
rewrite(storage, LARGER)
"""
    kill_before(mongodb_url, method, number, code)
    assert bodies(storage) == [before]
    assert kinds(documents).count(-1) == 10
    call(storage, "sweep", FUTURE)
    assert bodies(storage) == [before]
    assert kinds(documents).count(-1) == (3 if before == LARGE else 7)
    assert rewrite(storage, SHORT)
    assert kinds(documents).count(-1) == 0


def test_several_rewrite_a_large_commit_at_once(storage: MongoDbStorage, documents: Documents) -> None:
    fill(storage, LARGE)
    (row,) = log(storage)
    texts = [body(str(number) * 70_000) for number in range(4)]
    done: list[bool] = []

    def many(text: str) -> None:
        for _ in range(4):
            done.append(call(storage, "rewrite", "s", "i1", [row._replace(body=text)]))
            assert bodies(storage)[0] in texts

    threads = [threading.Thread(target=many, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 16
    assert bodies(storage)[0] in texts
    call(storage, "sweep", FUTURE)  # FerretDB's updates are not atomic: two may believe that theirs was the last one
    assert bodies(storage)[0] in texts
    assert kinds(documents).count(-1) == 3


def test_a_reader_of_parts_that_are_replaced_reads_the_new_ones(storage: MongoDbStorage, documents: Documents) -> None:
    fill(storage, LARGE)
    [claim] = documents.find({"seq": 1})
    assert rewrite(storage, LARGER)

    async def read(core: Any) -> Any:
        return await core.driver._parts.rows([claim], core.deadline())

    assert [row.body for row in operate(storage, read)] == [LARGER]


def test_a_commit_that_would_be_too_large_is_refused(mongodb_url: str) -> None:
    with MongoDbStorage(mongodb_url, large_commits="refuse") as storage:
        fill(storage, SHORT, SHORT)
        with pytest.raises(TooLargeError, match="large_commits"):
            rewrite(storage, body("x"), LARGE)
        assert bodies(storage) == [SHORT, SHORT]


def test_rewriting_is_counted_when_it_begins_anew(storage: MongoDbStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else has made a commit small that was seen as a large one."""
    fill(storage, LARGE)
    rewriting = driver_of(storage)._rewriting
    there, rival = rewriting._there, [True]

    async def beaten(*args: Any) -> Any:
        found = await there(*args)
        if rival:
            rival.clear()
            thread = threading.Thread(target=rewrite, args=(storage, SHORT))
            thread.start()
            thread.join()
        return found

    monkeypatch.setattr(rewriting, "_there", beaten)
    assert rewrite(storage, LARGER)
    assert bodies(storage) == [LARGER]
    assert driver_of(storage).stats.counts()["retries"] == 1
