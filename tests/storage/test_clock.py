"""Time: one clock, the database's, however wrong those of the machines are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.records import MICROSECOND
from sessile.storage import cache, turns
from sessile.storage.clock import AHEAD, Clock
from sessile.storage.core import Core
from sessile.storage.extending import operate
from sessile.storage.vocabulary import ResultKept

from .helpers import Counted, Dated, append, end, start, take, wait_until

YEARS = 10 * 365 * 86400.0


class Machine:
    """This machine's clock, which can be set wrong. `time.monotonic` is not moved by that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wrong = 0.0
        nanoseconds, seconds = time.time_ns, time.time
        monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + int(self.wrong * 1e9))
        monkeypatch.setattr(time, "time", lambda: seconds() + self.wrong)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def updated_us(storage: Storage, session_id: str = "s") -> int:
    head = storage.get_session(session_id)
    assert head is not None
    return head.updated_us


def set_clocks(machine: Machine, storage: Storage, wrong: float) -> None:
    """Set this machine's clock wrong, and let the storage take that for the time, as if it was made just then."""
    machine.wrong = wrong

    async def look(core: Core) -> None:
        await core.set_clock(core.deadline())

    operate(storage, look)


def ids(storage: Storage, **filters: Any) -> list[str]:
    return [head.session_id for head in storage.sessions(**filters)]


# ---------------------------------------------------------------- a database with a clock of its own


@pytest.mark.parametrize("wrong", [-YEARS, YEARS], ids=["machine is behind", "machine is ahead"])
def test_everything_goes_by_the_databases_clock(machine: Machine, wrong: float) -> None:
    machine.wrong = wrong
    driver = Dated(MemoryDriver())
    with Storage(driver, lease=1000) as storage:
        before = driver.time
        turn = start(storage)
        append(storage, turn, "one")
        operate(storage, turns.renew_turn, turn)
        times = [entry.time_us for entry in storage.entries("s")]
        assert before <= times[0] <= times[-1] <= driver.time
        assert storage.get_run("s", 1).status == "running"
        assert [head.status for head in storage.sessions()] == ["running"]
        driver.ahead += 1001
        assert storage.get_run("s", 1).status == "interrupted"
        assert [head.status for head in storage.sessions()] == ["interrupted"]
        taken, _ = take(storage)
        assert storage.get_run("s", 1).status == "running"
        end(storage, taken)

        storage.set_ttl("s", 10)
        assert ids(storage) == ["s"]
        assert storage.count_sessions() == 1
        driver.ahead += 11
        assert storage.get_session("s") is None
        assert ids(storage) == []
        assert storage.count_sessions(user_id=ANY_USER) == 0
        assert storage.sweep() == 1


def test_a_machine_whose_clock_jumps_writes_no_wrong_time(machine: Machine) -> None:
    driver = Dated(MemoryDriver())
    with Storage(driver) as storage:
        turn = start(storage)
        for wrong in (YEARS, -YEARS, 0):
            machine.wrong = wrong
            append(storage, turn, "said")  # without a look at the database before
            operate(storage, turns.renew_turn, turn)
            assert storage.get_run("s", 1).status == "running"
        end(storage, turn)
        assert all(0 <= driver.time - entry.time_us < 600 * MICROSECOND for entry in storage.entries("s"))


def test_a_lease_is_renewed_without_a_look_at_the_session() -> None:
    driver = Counted(MemoryDriver())
    with Storage(driver) as storage:
        turn = start(storage)
        driver.reset()
        operate(storage, turns.renew_turn, turn)
        assert driver.calls["load"] == 0
        assert storage.get_run("s", 1).status == "running"


def test_the_clock_is_asked_once_and_then_comes_with_every_look() -> None:
    driver = Counted(MemoryDriver())
    with Storage(driver) as storage:
        storage.sessions()
        storage.add_run("s")
        storage.sessions()
        assert driver.calls["now"] == 1


def test_a_clock_goes_on_between_two_looks() -> None:
    clock = Clock()
    clock.set(5)
    wait_until(lambda: clock.now() > 1000)
    clock.set(5)
    assert clock.now() < 1000 * MICROSECOND


def test_the_time_of_the_next_commit() -> None:
    clock = Clock()
    clock.set(0)
    now = clock.now()
    assert clock.next(now - 10) >= now
    assert clock.next(now + AHEAD // 2) == now + AHEAD // 2, "clocks may differ a little, and time does not go back"
    assert clock.next(now + 2 * AHEAD) < now + AHEAD, "nobody waits for years"


# ---------------------------------------------------------------- a clock that was wrong for a while


@pytest.fixture(params=["memory", "sqlite"])
def undated(request: pytest.FixtureRequest, tmp_path: Any, machine: Machine) -> Any:
    """A storage whose database has no clock but the machine's."""
    made: Storage = (MemoryStorage if request.param == "memory" else lambda **o: SqliteStorage(tmp_path / "s.db", **o))(
        lease=1000
    )
    with made:
        yield made


def test_a_session_from_the_future_takes_the_true_time_with_its_next_commit(undated: Storage, machine: Machine) -> None:
    undated.create_session("true")
    set_clocks(machine, undated, YEARS)
    undated.create_session("s", ttl=100)
    set_clocks(machine, undated, 0)
    undated.rename("true", "later")
    assert ids(undated)[0] == "s"
    now = updated_us(undated, "true")
    undated.rename("s", "repaired")
    assert 0 <= updated_us(undated) - now < 600 * MICROSECOND
    undated.rename("true", "last")
    assert ids(undated) == ["true", "s"]
    undated.verify("s")
    set_clocks(machine, undated, 101)
    assert undated.get_session("s") is None, "it expires as any other"
    assert undated.sweep() == 1


def test_a_sweep_repairs_sessions_from_the_future(undated: Storage, machine: Machine) -> None:
    set_clocks(machine, undated, YEARS)
    undated.create_session("s", ttl=100)
    undated.create_session("forever", state={"a": 1})
    set_clocks(machine, undated, 0)
    undated.create_session("true")
    assert undated.sweep() == 0
    assert ids(undated)[-1] == "true"
    undated.rename("true", "last")
    assert ids(undated)[0] == "true", "the others are from now"
    assert [entry.kind for entry in undated.entries("s")][-1] == "session.repaired"
    head = undated.get_session("forever")
    assert head is not None
    assert (head.state, head.revision) == ({"a": 1}, 2)
    undated.verify("forever")
    assert undated.sweep() == 0
    assert updated_us(undated, "forever") == head.updated_us, "it is repaired once"
    set_clocks(machine, undated, 101)
    assert undated.sweep() == 1
    assert ids(undated) == ["true", "forever"]


def test_a_run_from_the_future_whose_process_is_gone_is_interrupted(undated: Storage, machine: Machine) -> None:
    set_clocks(machine, undated, YEARS)
    start(undated)
    renewed = start(undated, run_id="renewed")
    operate(undated, turns.renew_turn, renewed)
    set_clocks(machine, undated, 0)
    assert [run.status for run in undated.runs("s")] == ["interrupted", "interrupted"]
    taken, _ = take(undated, 1)
    end(undated, taken, "after all")
    assert undated.get_run("s", 1).status == "completed"


def kept(output: Any) -> ResultKept:
    return ResultKept(name="step", output=output)


def read(storage: Storage) -> Any:
    result = operate(storage, cache.read_result, "cache:k", 100)
    return None if result is None else result.output


def test_a_result_that_was_kept_in_the_future_is_not_kept(undated: Storage, machine: Machine) -> None:
    set_clocks(machine, undated, YEARS)
    operate(undated, cache.keep_result, "cache:k", kept(1), 100)
    set_clocks(machine, undated, 0)
    assert read(undated) is None
    operate(undated, cache.keep_result, "cache:k", kept(2), 100)
    assert read(undated) == 2
    set_clocks(machine, undated, YEARS)
    operate(undated, cache.keep_result, "cache:other", kept(1), 100)
    set_clocks(machine, undated, 0)
    assert undated.sweep() == 1
    assert read(undated) == 2


def test_a_lease_as_long_as_it_was_asked_for_holds() -> None:
    with MemoryStorage(lease=3 * 86400) as storage:
        start(storage)
        assert storage.get_run("s", 1).status == "running"
