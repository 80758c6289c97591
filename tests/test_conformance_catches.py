"""The conformance suite is worth something: it catches drivers that are wrong in ways that drivers are wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sessile import MemoryStorage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError, MissingDependencyError, StorageUnavailableError
from sessile.storage import Driver, Storage
from sessile.testing import ConformanceError, Scale, Subject, check_driver, faults, run_kills, run_writers
from sessile.testing.checks import Check, NotDeclaredError
from sessile.testing.machine import machine_for
from sessile.testing.suite import AREAS

from . import conformance_drivers as drivers

WRONG: list[tuple[type[Driver], str]] = [
    (drivers.IgnoresRevision, "append_compares_the_revision"),
    (drivers.IgnoresIncarnation, "append_compares_the_incarnation"),
    (drivers.DeletesAnyIncarnation, "delete_compares_the_incarnation"),
    (drivers.CreatesOver, "append_does_not_create_twice"),
    (drivers.ChecksThenActs, "one_of_many_wins"),
    (drivers.HalfBatches, "batches_are_whole_or_not_at_all"),
    (drivers.FirstOfBatch, "append_takes_batches"),
    (drivers.Unordered, "newest_first"),
    (drivers.TiesByChance, "newest_first"),
    (drivers.PagesByTime, "pages_are_complete"),
    (drivers.CountsAPage, "filters_with_pages"),
    (drivers.ShowsHidden, "hidden_heads"),
    (drivers.ShowsExpired, "expired_heads"),
    (drivers.LooseMetadata, "filters_by_metadata"),
    (drivers.AnyCase, "ids_are_kept_apart"),
    (drivers.RewritesJson, "texts_come_back_as_they_went"),
    (drivers.IgnoresLimit, "entries_by_direction_and_limit"),
    (drivers.IgnoresDirection, "entries_by_direction_and_limit"),
    (drivers.NewestFirstAlways, "load_brings_the_newest_commits"),
    (drivers.LeavesRecords, "delete_removes_everything"),
    (drivers.LeavesLog, "delete_removes_everything"),
    (drivers.OrdersByUtf16, "ties_by_code_point"),
    (drivers.CutsCommitIds, "long_ids_are_kept"),
    (drivers.IgnoresDeadline, "a_deadline_that_has_passed"),
    (drivers.DamagesLargeBodies, "the_largest_commits_are_kept"),
]


def find_check(name: str) -> Check:
    return next(check for area in AREAS for check in area.checks if check.name == name)


def run(name: str, make_driver: Callable[[], Driver], **options: Any) -> None:
    find_check(name).run(Subject(lambda: Storage(make_driver()), **options), "sync")


@pytest.mark.parametrize(("driver", "check"), WRONG, ids=[driver.__name__ for driver, _ in WRONG])
def test_a_wrong_driver_is_caught(driver: type[Driver], check: str) -> None:
    with pytest.raises(ConformanceError):
        run(check, driver)
    run(check, MemoryDriver)  # and the right one is not


@pytest.mark.parametrize("driver", [drivers.IgnoresIncarnation, drivers.Unordered, drivers.LooseMetadata])
def test_the_report_names_what_failed(driver: type[Driver]) -> None:
    expected = dict(WRONG)[driver]
    report = check_driver(lambda: Storage(driver()), level="core", scale=Scale(examples=1, steps=2))
    assert not report.ok
    assert report.level == "none"
    assert expected in {outcome.check.name for outcome in report.failed}
    assert expected in str(report)


def test_reads_that_fail_must_not_say_absent() -> None:
    made: list[drivers.Breakable] = []

    def make(kind: type[drivers.Breakable]) -> Callable[[], Driver]:
        def driver() -> Driver:
            made.append(kind())
            return made[-1]

        return driver

    def break_database(_: Storage) -> bool:
        made[-1].broken = True
        return True

    run("a_broken_database_is_told", make(drivers.Breakable), break_database=break_database)
    with pytest.raises(ConformanceError, match="load on a broken database"):
        run("a_broken_database_is_told", make(drivers.AbsentOnError), break_database=break_database)


def test_the_model_catches_what_only_a_sequence_shows() -> None:
    """A list that shows a session as it was before it was renamed."""
    subject = Subject(lambda: Storage(drivers.ListsOldNames()), scale=Scale(seed=1, examples=200, steps=20))
    machine = machine_for(subject, "sync")
    unshrunk = settings(machine.TestCase.settings, phases=[Phase.generate], print_blob=False)
    with pytest.raises((ConformanceError, ExceptionGroup), match=r"sessions\(|distinct failures"):
        run_state_machine_as_test(machine, settings=unshrunk)


def test_durability_must_be_kept() -> None:
    """A driver that says it is durable, and keeps everything in memory, has lost all that it acknowledged."""
    figures = run_kills(drivers.SaysDurableStorage, Scale(seed=1), kills=2)
    assert figures.lost == figures.acknowledged > 0
    with pytest.raises(ConformanceError, match="lost"):
        figures.check()


def test_several_processes_must_share_their_data() -> None:
    figures = run_writers(drivers.SaysDurableStorage, Scale(seed=1, writers=2, threads=1, appends=2))
    assert figures.lost == figures.acknowledged == 4
    with pytest.raises(ConformanceError, match="lost"):
        figures.check()


def test_what_is_declared_must_be_testable() -> None:
    with pytest.raises(ConformanceError, match=r"location\(\)"):
        run("killed_processes_lose_nothing", drivers.SaysDurable)
    with pytest.raises(NotDeclaredError):
        run("killed_processes_lose_nothing", MemoryDriver)


def test_a_process_that_cannot_open_the_storage_is_no_success() -> None:
    with pytest.raises(ConformanceError, match="could not open"):
        run_kills("sqlite:////dev/null/no/such/folder.db", Scale(seed=1), kills=1)


# ---------------------------------------------------------------- faults, as drivers' authors use them


def test_an_answer_is_lost_at_will() -> None:
    with MemoryStorage() as storage:
        plan = faults.Script("append", [faults.LOSE_ANSWER, faults.Fault("delay", seconds=0.001)])
        faults.inject(storage, plan)
        storage.add_run("s1", input="Hello")
        storage.add_run("s1", input="Again")
        assert plan.calls == 2
        assert [run.input for run in storage.runs("s1")] == ["Hello", "Again"]

        faults.inject(storage, faults.Always("reads", faults.FAIL))  # in place of the other
        with pytest.raises(StorageUnavailableError, match="load failed"):
            storage.get_session("s1")
        faults.heal(storage)
        assert storage.verify("s1") == 2


async def test_a_crash_at_will() -> None:
    async with MemoryStorage() as storage:
        await storage.aadd_run("s1", input="Hello")
        await faults.ainject(storage, faults.Script("writes", [faults.CRASH_AFTER]))
        with pytest.raises(faults.SimulatedCrash):
            await storage.aadd_run("s1", input="written, and nobody knows")
        with pytest.raises(faults.SimulatedCrash):  # the process is gone
            await storage.aget_session("s1")
        await faults.aheal(storage)
        assert [run.number for run in await storage.aruns("s1")] == [1, 2]


def test_faults_by_chance_are_repeatable() -> None:
    def outcomes(seed: int) -> list[faults.Fault | None]:
        plan = faults.Random(seed)
        return [plan("append") for _ in range(100)]

    assert outcomes(1) == outcomes(1) != outcomes(2)
    assert {faults.LOSE_ANSWER, faults.FAIL, None} == set(outcomes(1))


# ---------------------------------------------------------------- the report


def test_the_report_of_a_right_driver() -> None:
    discarded: list[Storage] = []
    report = check_driver(
        MemoryStorage, discard=discarded.append, level="full", scale=Scale(seed=7, examples=2, steps=5)
    )
    assert report.ok, str(report)
    assert report.level == "core"  # it declares nothing that the higher levels are about
    assert report.seed == 7
    assert len(discarded) > len(report.outcomes) / 2
    text = str(report)
    assert text.startswith("MemoryStorage: level core (seed 7)")
    statuses = {outcome.check.area: outcome.status for outcome in report.outcomes}
    assert statuses["contract"] == "passed"
    assert statuses["kill"] == statuses["writers"] == "not declared"


def test_the_scale_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSILE_TORTURE", "10")
    monkeypatch.setenv("SESSILE_SEED", "42")
    scale = Scale.from_environment()
    assert scale.seed == 42
    assert scale.kills == 10 * Scale(0).kills
    monkeypatch.setenv("SESSILE_TORTURE", "much")
    with pytest.raises(InvalidInputError, match="SESSILE_TORTURE"):
        Scale.from_environment()


MISSING = """
import sys
sys.modules[{package!r}] = None
import sessile.testing
from sessile.testing import faults
try:
    sessile.testing.{name}
except ImportError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(("package", "name"), [("pytest", "DriverConformance"), ("hypothesis", "machine_for")])
def test_a_missing_library_is_one_clear_error(package: str, name: str) -> None:
    code = MISSING.format(package=package, name=name)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(MissingDependencyError.__name__)
    assert 'pip install "sessile[testing]"' in done.stdout
    assert len(done.stdout.splitlines()) == 1
