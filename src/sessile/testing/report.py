"""The suite by one call, with a report."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..storage.storage import Storage
from .checks import Check, Face, Location, NotDeclaredError, Scale, Subject
from .faults import SimulatedCrash
from .suite import AREAS, CORE

Level = Literal["none", "core", "durable", "full"]
"""How far a driver has come.

`core`: right in one process. `durable`: moreover what was acknowledged survives `kill -9`. `full`: moreover several
processes may work on the same data. A level is reached when all checks of it and of those before have passed; what
the driver does not declare it does not reach.
"""

LEVELS: dict[Level, tuple[str, ...]] = {
    "none": (),
    "core": CORE,
    "durable": (*CORE, "kill"),
    "full": (*CORE, "kill", "writers"),
}
"""The areas of each level."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one check through one face; `error` is the traceback of a failed one."""

    check: Check
    face: Face
    status: Literal["passed", "failed", "not declared"]
    seconds: float
    error: str = ""


@dataclass(slots=True)
class Report:
    """What became of all checks. `print` it for a table; `ok` and `level` are for programs.

    `seed` repeats what was chosen at random: `check_driver(…, scale=Scale(seed=…))`.
    """

    name: str
    seed: int
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    @property
    def failed(self) -> list[Outcome]:
        """The checks that failed."""
        return [outcome for outcome in self.outcomes if outcome.status == "failed"]

    @property
    def ok(self) -> bool:
        """Whether all that is declared holds."""
        return bool(self.outcomes) and not self.failed

    @property
    def level(self) -> Level:
        """The highest level of which everything passed."""
        reached: Level = "none"
        for level, areas in LEVELS.items():
            if not all(self._passed(area) for area in areas):
                break
            reached = level
        return reached

    def _passed(self, area: str) -> bool:
        statuses = {outcome.status for outcome in self.outcomes if outcome.check.area == area}
        return "passed" in statuses and "failed" not in statuses

    def __str__(self) -> str:
        rows = [("area", "passed", "failed", "not declared", "seconds")]
        for area in dict.fromkeys(outcome.check.area for outcome in self.outcomes):
            found = [outcome for outcome in self.outcomes if outcome.check.area == area]
            counts = [
                str(sum(outcome.status == status for outcome in found))
                for status in ("passed", "failed", "not declared")
            ]
            rows.append((area, counts[0], counts[1], counts[2], f"{sum(outcome.seconds for outcome in found):.1f}"))
        lines = [
            f"{self.name}: level {self.level} (seed {self.seed})",
            "",
            *(f"{row[0]:<10}{row[1]:>8}{row[2]:>8}{row[3]:>14}{row[4]:>9}" for row in rows),
        ]
        for outcome in self.failed:
            check = outcome.check
            lines += ["", f"FAILED {check.area}.{check.name} ({outcome.face}): {check.about}", outcome.error.rstrip()]
        return "\n".join(lines)


def check_driver(
    make_storage: Callable[[], Storage],
    *,
    location: Callable[[Storage], Location | None] | None = None,
    discard: Callable[[Storage], None] | None = None,
    break_database: Callable[[Storage], bool] | None = None,
    level: Level = "full",
    scale: Scale | None = None,
) -> Report:
    """Run the whole suite on a driver, without pytest, and report.

    Args:
        make_storage: makes a fresh, empty storage; called several hundred times.
        location: how another process opens the data of a storage; needed if the driver is durable or multi_process.
        discard: called with each storage when its check is over, after it was closed; remove its data here.
        break_database: makes every further read of a storage's data fail, and returns True.
        level: how far to go.
        scale: how much the long checks do, and the seed of their choices.

    Failed checks are in the report, not raised. Must not be called where an event loop runs (there:
    `await asyncio.to_thread(check_driver, …)`). Raises `MissingDependencyError` if Hypothesis is not installed.
    """
    from . import machine  # fails here and clearly, not in the middle, if Hypothesis is missing

    assert machine.StorageMachine, "imported for the model test"
    subject = Subject(make_storage, scale=scale or Scale.from_environment())
    subject.location = location or subject.location
    subject.discard = discard or subject.discard
    subject.break_database = break_database or subject.break_database
    with make_storage() as storage:
        name = type(storage).__name__
    subject.discard(storage)
    report = Report(name, subject.scale.seed)
    for area in AREAS:
        if area.name in LEVELS[level]:
            report.outcomes += [_run(check, subject, face) for check in area.checks for face in check.faces]
    return report


def _run(check: Check, subject: Subject, face: Face) -> Outcome:
    began = time.monotonic()
    status: Literal["passed", "failed", "not declared"] = "passed"
    error = ""
    try:
        check.run(subject, face)
    except NotDeclaredError:
        status = "not declared"
    except (Exception, SimulatedCrash):  # noqa: BLE001 (whatever a driver under test raises is a result)
        status = "failed"
        error = traceback.format_exc()
    return Outcome(check, face, status, time.monotonic() - began, error)
