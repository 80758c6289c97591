"""The clock of a server whose answers are dated to the second."""

from __future__ import annotations

import pytest

from sessile.storage import dates
from sessile.storage.dates import SECOND, ServerClock

HOUR = 3600 * SECOND


class Machine:
    """This machine's clock, and a server that is `ahead` of it; one of the two clocks may be set, or stand still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
        self.monotonic = 777_777
        self.utc = 1_700_000_000 * SECOND + 123_456
        self.server = self.utc + ahead
        self.clock = ServerClock()
        monkeypatch.setattr(dates, "monotonic_micros", lambda: self.monotonic)
        monkeypatch.setattr(dates, "_utc_micros", lambda: self.utc)

    def pass_by(self, micros: int) -> None:
        self.monotonic, self.utc, self.server = self.monotonic + micros, self.utc + micros, self.server + micros

    def answer(self) -> None:
        """A request that takes 20 ms, in the midst of which the server dates its answer."""
        sent = self.monotonic
        self.pass_by(10_000)
        date = self.server // SECOND * SECOND
        self.pass_by(10_000)
        self.clock.saw(date, sent, self.monotonic)

    def error(self) -> int:
        """How far the clock is from the server's."""
        return abs(self.clock.now() - self.server)


@pytest.mark.parametrize("ahead", [-HOUR, -3 * SECOND, 3 * SECOND, HOUR, 24 * HOUR + 777])
def test_a_machine_whose_clock_is_wrong_tells_the_servers_time(monkeypatch: pytest.MonkeyPatch, ahead: int) -> None:
    machine = Machine(monkeypatch, ahead)
    machine.answer()
    assert machine.error() <= SECOND + 20_000
    for _ in range(200):
        machine.pass_by(37_000)
        machine.answer()
    assert machine.error() <= 60_000  # many answers leave little room


def test_a_machine_whose_clock_is_right_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 0)
    for _ in range(200):
        machine.answer()
        machine.pass_by(37_000)
        assert machine.error() == 0


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_machine_whose_clock_is_set_meanwhile(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    machine = Machine(monkeypatch, 0)
    machine.answer()
    machine.utc += step
    assert machine.error() == 0


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_server_whose_clock_is_set_meanwhile(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    machine = Machine(monkeypatch, 10 * SECOND)
    for _ in range(20):
        machine.answer()
    machine.server += step
    machine.answer()
    assert machine.error() <= SECOND + 20_000


def test_without_an_answer_it_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, HOUR)
    machine.utc += 5
    assert machine.clock.now() == machine.utc
    assert not machine.clock.is_known
