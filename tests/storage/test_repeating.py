"""A `run_id` that a caller gave names one run, for as long as the session lives."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from sessile import Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import AlreadyExistsError, InvalidInputError, SessionNotFoundError, StorageUnavailableError
from sessile.records import Run
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.repeating import run_key, same_json
from sessile.storage.turns import TurnSpec

from .helpers import Counted, Tapped, append, end, open_turn, start, texts

LONG = "é" * 127 + "x"


def test_a_run_is_found_again_however_much_came_after_it(storage: Storage) -> None:
    first = storage.add_run("s", input="x", output="y", format="test/1", messages=[{"text": "m"}], run_id="request-1")
    for number in range(200):
        storage.update_state("s", {"n": number})
    storage.add_run("s", input="another", run_id="request-2")
    again = storage.add_run("s", input="x", output="later", run_id="request-1")
    assert (again.number, again.output, texts(again.messages)) == (first.number, "y", ["m"])
    assert [run.run_id for run in storage.runs("s")] == ["request-1", "request-2"]


@pytest.mark.parametrize("run_id", ["a", "run:a", LONG, "🙂" * 63, "a\nb", "%", " "])
def test_any_id_will_do(storage: Storage, run_id: str) -> None:
    storage.add_run("s", input=1)
    storage.add_run("s", input=run_id, run_id=run_id)
    storage.add_run("s", input=1)
    assert storage.add_run("s", input=run_id, run_id=run_id).number == 2


def test_keys_are_ids_and_differ() -> None:
    assert run_key("a") == "run:a"
    keys = {run_key(LONG), run_key(LONG[:-1]), run_key(LONG[:-1] + "y"), run_key("#")}
    assert len(keys) == 4
    assert all(len(key.encode()) <= 255 for key in keys)


def test_the_same_id_with_another_input_is_refused(storage: Storage) -> None:
    storage.add_run("s", input={"a": 1, "b": [2]}, agent="bot", run_id="r")
    storage.add_run("s", input={"b": [2], "a": 1}, agent="bot", run_id="r")
    for change in ({"input": {"a": 1}}, {"input": {"a": True, "b": [2]}}, {"agent": "other"}, {"agent": None}):
        with pytest.raises(InvalidInputError, match="has a run 'r' already"):
            storage.add_run("s", **{"input": {"a": 1, "b": [2]}, "agent": "bot", "run_id": "r", **change})
    assert len(storage.runs("s")) == 1


def test_what_is_the_same_json() -> None:
    assert same_json({"a": [1, {"b": None, "c": "\ud800"}]}, {"a": (1, {"c": "\ud800", "b": None})})
    for one, other in ((1, True), (0, None), ({"a": 1}, {"a": 1, "b": None}), ([1, 2], [2, 1]), ("1", 1)):
        assert not same_json(one, other)


def test_another_session_of_the_same_name_is_another(storage: Storage) -> None:
    storage.add_run("s", input=1, run_id="r")
    storage.delete("s")
    assert storage.add_run("s", input=2, run_id="r").input == 2
    assert storage.add_run("t", input=3, run_id="r").input == 3


def test_another_users_run_is_not_shown(storage: Storage) -> None:
    storage.add_run("s", input="secret", user_id="ada", run_id="r")
    with pytest.raises(SessionNotFoundError):
        storage.add_run("s", input="secret", user_id="bob", run_id="r")


def test_callers_at_once_with_one_id_make_one_run(storage: Storage) -> None:
    storage.create_session("s")
    found: list[Run] = []

    def add(number: int) -> None:
        for request in range(5):
            found.append(storage.add_run("s", input=request, output=number, run_id=f"request-{request}"))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(run.run_id for run in storage.runs("s")) == [f"request-{request}" for request in range(5)]
    for run in found:
        assert run.output == storage.get_run("s", run.number).output
    storage.verify("s")


def test_two_starts_at_once_with_one_id_make_one_run(storage: Storage) -> None:
    one, two = (open_turn(storage, run_id="r", input="x", only_once=True) for _ in range(2))
    operate(storage, turns.start_turn, one)
    with pytest.raises(AlreadyExistsError):
        operate(storage, turns.start_turn, two)
    assert len(storage.runs("s")) == 1


def test_ids_cost_nothing_where_none_is_given() -> None:
    driver = Counted(MemoryDriver())
    with Storage(driver) as storage:
        storage.add_run("s", run_id="given")
        driver.reset()
        storage.add_run("s")
        assert driver.calls == {"append": 1}
        driver.reset()
        end(storage, start(storage))
        assert driver.calls == {"load": 1, "append": 2}
        driver.reset()
        storage.add_run("s", run_id="new")
        assert driver.calls == {"entries": 1, "append": 1}
        assert driver.rows == 0


# ---------------------------------------------------------------- turns


def spec(run_id: str = "r", **options: Any) -> TurnSpec:
    return TurnSpec("s", run_id, **{"input": f"input of {run_id}", "only_once": True, **options})


def repeated(storage: Storage, **options: Any) -> Any:
    return operate(storage, turns.repeated, spec(**options))


@pytest.mark.parametrize("durability", ["run", "exit"])
def test_a_turn_is_found_at_every_stage(storage: Storage, durability: Any) -> None:
    assert repeated(storage) is None
    turn = open_turn(storage, run_id="r", only_once=True, durability=durability)
    if durability == "run":
        operate(storage, turns.start_turn, turn)
        found = repeated(storage)
        assert (found.open, found.run.status) == (True, "running")
        append(storage, turn, "one")
    end(storage, turn, "two")
    for number in range(100):
        storage.update_state("s", {"n": number})
    found = repeated(storage)
    assert (found.open, found.run.status, found.run.output) == (False, "completed", "output of r")
    assert texts(found.run.messages)[-1] == "two"
    with pytest.raises(InvalidInputError, match="with another input"):
        repeated(storage, input="another")
    with pytest.raises(InvalidInputError, match="as one of None"):
        repeated(storage, agent="another")
    with pytest.raises(SessionNotFoundError):
        repeated(storage, user_id="eve")


def test_a_run_written_at_its_end_is_written_once(storage: Storage) -> None:
    one, two = (open_turn(storage, run_id="r", only_once=True, durability="exit") for _ in range(2))
    end(storage, one, "first")
    with pytest.raises(AlreadyExistsError):
        end(storage, two, "second")
    assert texts(storage.messages("s")) == ["first"]


def test_media_in_an_input_are_compared_by_what_they_hold(storage: Storage) -> None:
    def image(content: str) -> Any:
        return [{"kind": "binary", "media_type": "image/png", "data": content * 8000}]

    given = spec(input=image("QUJD"))
    operate(storage, turns.begin_turn, given, 0)
    assert repeated(storage, input=image("QUJD")).run.run_id == "r"
    with pytest.raises(InvalidInputError):
        repeated(storage, input=image("QUJE"))


def test_a_start_whose_answer_is_lost_does_not_take_itself_for_another() -> None:
    """The commit arrives late: after the look for it, and before its key is looked for."""
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        storage.create_session("s")
        turn = open_turn(storage, run_id="r", only_once=True)
        late: list[Any] = []

        def on_its_way(write: Any, deadline: Any) -> None:
            driver.before.clear()
            late.append((write, deadline))
            driver.before["entries"] = arrive
            raise StorageUnavailableError("The connection is gone.", written="unknown")

        def arrive(*args: Any) -> None:
            driver.before.clear()
            from sessile.storage.faces import step

            assert step(driver.inner.append(*late[0]))

        driver.before["append"] = on_its_way
        operate(storage, turns.start_turn, turn)
        assert late
        assert len(storage.runs("s")) == 1
        end(storage, turn, "done")
        assert storage.get_run("s", 1).status == "completed"
