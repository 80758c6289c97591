"""Ratings of runs: entries of the log, of which the newest of each source counts."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import ANY_USER, Storage
from sessile.errors import InvalidInputError, RunNotFoundError, SessionNotFoundError, StorageError
from sessile.storage.driver import Span
from sessile.storage.extending import operate
from sessile.storage.rewriting import erase
from sessile.storage.vocabulary import ERASED


def test_the_newest_of_each_source_counts_and_all_stay(storage: Storage) -> None:
    run = storage.add_run("s", input="x", user_id="ada")
    storage.rate("s", run.run_id, score=False, user_id="ada")
    said = storage.rate("s", 1, score=True, comment="now it is right", by="ada", user_id="ada")
    storage.rate("s", 1, score=0.25, label="vague", comment="no numbers", source="judge", user_id="ada")
    found = storage.get_run("s", 1, user_id="ada")
    assert [(one.source, one.score) for one in found.ratings] == [("user", 0), ("user", 1), ("judge", 0.25)]
    assert found.rating() == said
    judged = found.rating("judge")
    assert judged is not None
    assert (judged.label, judged.comment, judged.by) == ("vague", "no numbers", None)
    assert found.rating("nobody") is None
    assert storage.verify("s", user_id="ada") == 4


def test_a_rating_changes_nothing_else(storage: Storage) -> None:
    storage.add_run("s", input="x", output="y", state={"step": 1})
    before = storage.get_session("s")
    storage.rate("s", 1, label="good")
    after = storage.get_session("s")
    assert before is not None
    assert after is not None
    assert (after.state, after.status, after.usage, after.run_count) == ({"step": 1}, "completed", before.usage, 1)
    assert [run.output for run in storage.runs("s")] == ["y"]


def test_old_runs_and_runs_of_all_branches(storage: Storage) -> None:
    ids = [storage.add_run("s", input=number).run_id for number in range(150)]
    storage.rewind("s", at=100)
    for run in (1, ids[1], ids[140]):
        storage.rate("s", run, score=1)
    assert [storage.get_run("s", number).ratings[0].score for number in (1, 2, 141)] == [1, 1, 1]


def test_runs_by_given_ids(storage: Storage) -> None:
    storage.add_run("s", input="x", run_id="request-1")
    for number in range(20):
        storage.add_run("s", input=number)
    storage.rate("s", "request-1", score=1)
    assert storage.get_run("s", 1).ratings[0].score == 1


def test_whose(storage: Storage) -> None:
    storage.add_run("s", input="x", user_id="ada")
    for user in ("bob", None):
        with pytest.raises(SessionNotFoundError):
            storage.rate("s", 1, score=1, user_id=user)
    storage.rate("s", 1, score=1, user_id=ANY_USER)
    storage.for_user("ada").add_run("own", input="x")
    storage.for_user("ada").rate("own", 1, score=1)
    assert storage.for_user("ada").get_run("own", 1).ratings[0].score == 1


@pytest.mark.parametrize("run", [2, "nothing", "x" * 255])
def test_no_such_run(storage: Storage, run: Any) -> None:
    storage.add_run("s", input="x")
    with pytest.raises(RunNotFoundError):
        storage.rate("s", run, score=1)
    with pytest.raises(SessionNotFoundError):
        storage.rate("t", run, score=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"score": float("nan")},
        {"score": "5"},
        {"score": 1e300},
        {"label": ""},
        {"label": 3},
        {"comment": 3},
        {"score": 1, "by": ""},
        {"score": 1, "source": ""},
        {"score": 1, "run": 0},
        {"score": 1, "run": None},
    ],
)
def test_wrong_arguments(storage: Storage, wrong: dict[str, Any]) -> None:
    storage.add_run("s", input="x")
    with pytest.raises((InvalidInputError, StorageError)) as caught:
        storage.rate("s", **{"run": 1, **wrong})
    assert caught.value.written == "no"
    assert storage.get_run("s", 1).ratings == []


def test_forks_have_none_and_erasing_takes_the_words(storage: Storage) -> None:
    storage.add_run("s", input="x")
    storage.rate("s", 1, score=1, label="good", comment="my card is 4711", by="ada")
    storage.fork("s", session_id="t")
    assert storage.get_run("t", 1).ratings == []
    operate(storage, erase, "s", Span())
    (left,) = storage.get_run("s", 1).ratings
    assert (left.score, left.label, left.comment, left.by) == (1, "good", ERASED, ERASED)


async def test_asynchronous_callers(storage: Storage) -> None:
    await storage.aadd_run("s", input="x")
    assert (await storage.arate("s", 1, score=True)).score == 1
