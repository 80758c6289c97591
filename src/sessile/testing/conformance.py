"""The suite as a pytest class, for authors of drivers to subclass."""

from __future__ import annotations

from typing import Any

from ..errors import missing_dependency
from ..storage.storage import Storage
from . import branches, contract, damage, lists, lookups, people, processes, recovery, sessions, suite
from .checks import Area, Check, Face, Location, NotDeclaredError, Scale, Subject

try:
    import pytest
except ImportError as error:
    raise missing_dependency("pytest", "testing", "sessile.testing.DriverConformance") from error


def _each(area: Area) -> Any:
    """One test for each check of an area and each face that it runs through."""
    cases = [(check, face) for check in area.checks for face in check.faces]
    return pytest.mark.parametrize(("check", "face"), cases, ids=[f"{check.name}-{face}" for check, face in cases])


class DriverConformance:
    """What every driver must do. Subclass it under a name that begins with `Test`, and give `make_storage`.

    ```python
    class TestMyStorage(DriverConformance):
        @pytest.fixture(autouse=True)
        def _folder(self, tmp_path):
            self.path = tmp_path / "sessions.my"

        def make_storage(self):
            return MyStorage(self.path)

        def location(self, storage):
            return f"my:///{self.path}"
    ```

    Capabilities that the driver does not declare are skipped. `SESSILE_TORTURE=10` makes the long checks ten times
    as long; `SESSILE_SEED=…` repeats the choices of a run whose output had that seed.
    """

    def make_storage(self) -> Storage:
        """A fresh, empty storage. Called at least once by each test."""
        raise NotImplementedError("Give make_storage(): it makes a fresh, empty storage.")

    def location(self, storage: Storage) -> Location | None:
        """How another process opens the data of this storage; needed if it is durable or multi_process."""
        return None

    def discard(self, storage: Storage) -> None:
        """Called with each storage when its check is over, after it was closed; remove its data here."""

    def break_database(self, storage: Storage) -> bool:
        """Make every further read of this storage's data fail (stop the server, damage the file), and return True.

        The suite then checks that failures are raised and not taken for absence. False: that cannot be done.
        """
        return False

    def scale(self) -> Scale:
        """How much the long checks do: what the environment asks for; a server that is slow may need less of it."""
        return Scale.from_environment()

    def run_check(self, check: Check, face: Face) -> None:
        """Run one check; skip it if the driver does not declare what it is about."""
        scale = self.scale()
        print(f"SESSILE_SEED={scale.seed}")  # noqa: T201 (pytest shows it when the check fails)
        subject = Subject(self.make_storage, self.location, self.discard, self.break_database, scale)
        try:
            check.run(subject, face)
        except NotDeclaredError as capability:
            pytest.skip(f"The driver does not declare {capability}.")

    @_each(contract.area)
    def test_contract(self, check: Check, face: Face) -> None:
        """The methods of the driver, one by one."""
        self.run_check(check, face)

    @_each(lookups.area)
    def test_lookups(self, check: Check, face: Face) -> None:
        """Commits by key, records by prefix, several things at once, rewriting, the clock."""
        self.run_check(check, face)

    @_each(lists.area)
    def test_lists(self, check: Check, face: Face) -> None:
        """Order, pages and filters of lists."""
        self.run_check(check, face)

    @_each(sessions.area)
    def test_sessions(self, check: Check, face: Face) -> None:
        """Everything that users do with sessions and runs."""
        self.run_check(check, face)

    @_each(branches.area)
    def test_branches(self, check: Check, face: Face) -> None:
        """Rewinding, forks, the log, files, media and open runs."""
        self.run_check(check, face)

    @_each(recovery.area)
    def test_faults(self, check: Check, face: Face) -> None:
        """Lost answers, failures and crashes between storage and driver."""
        self.run_check(check, face)

    @_each(damage.area)
    def test_damage(self, check: Check, face: Face) -> None:
        """What cannot be read, or is over a limit, costs only itself."""
        self.run_check(check, face)

    @_each(people.area)
    def test_people(self, check: Check, face: Face) -> None:
        """Lists by status, what waits for people, sessions that are claimed, and what is erased."""
        self.run_check(check, face)

    @_each(suite.model)
    def test_model(self, check: Check, face: Face) -> None:
        """Random sequences of operations against a plain model."""
        self.run_check(check, face)

    @_each(processes.writers)
    def test_writers(self, check: Check, face: Face) -> None:
        """Several processes on the same data."""
        self.run_check(check, face)

    @_each(processes.kills)
    def test_kill(self, check: Check, face: Face) -> None:
        """Processes that are killed while they write."""
        self.run_check(check, face)
