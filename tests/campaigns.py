"""The conformance suite as this package's own tests run it: random campaigns are samples, by the seed of the run."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sessile.testing import DriverConformance, Scale

TORTURE = "SESSILE_TORTURE" in os.environ

CAMPAIGNS = ("test_model", "test_writers", "test_kill")
"""Tests of the suite that repeat, with random choices, what others do once."""

ABOVE_DRIVERS = ("test_sessions", "test_branches", "test_damage", "test_people")
"""Tests of the suite that call drivers only by way of the storage: on each they run the same lines of it."""

SHARES = {
    "test_a_mutant_is_killed": 3,
    "test_a_wrong_driver_is_caught": 2,
    "test_the_report_names_what_failed": 3,
    "test_cuts_on_postgresql": 2,  # through SQLAlchemy
}
"""Long tests, of whose parameters about one of so many runs in CI, chosen by the seed of the run."""


class SampledConformance(DriverConformance):
    """Fewer sequences of operations than authors of drivers get: the same suite runs against many drivers here.

    Each run chooses others; `SESSILE_TORTURE=1` makes the whole of them.
    """

    def scale(self) -> Scale:
        scale = super().scale()
        return scale if TORTURE else replace(scale, examples=scale.examples // 4)


def share_of(suite: type[DriverConformance], item: pytest.Item, face: object) -> int:
    """Of how many checks of a class one runs in CI, chosen by the seed of the run.

    `one_of` is what the class asks for: on an emulator beside another one. `one_of_sync`, `one_of_async`: for a face
    that is a thread's hop, or the background loop, around the client that the other one uses. What stands above the
    drivers runs whole on those in memory and on SQLite (`whole`), and every second check elsewhere; of campaigns one of
    two runs on each.
    """
    share: int = getattr(suite, "one_of", 1) * getattr(suite, f"one_of_{face}", 1)
    name = getattr(item, "originalname", None)
    above = name in ABOVE_DRIVERS and not getattr(suite, "whole", False)
    campaign = name in CAMPAIGNS and item.get_closest_marker("measured_children") is None
    return 2 * share if above or campaign else share


def sampled(step: int = 3) -> Iterator[int]:
    """The numbers 1, 2, 3 … of which every `step`th is tried, from a first one that the seed of the run chooses.

    Each test has a choice of its own. `SESSILE_TORTURE=1` tries them all.
    """
    if TORTURE:
        return itertools.count(1)
    chosen = f"{os.environ['SESSILE_SEED']} {os.environ['PYTEST_CURRENT_TEST']}"
    return itertools.count(1 + zlib.crc32(chosen.encode()) % step, step)
