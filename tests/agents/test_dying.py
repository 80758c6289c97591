"""Agents, teams and workflows whose processes die anywhere: nothing is done twice, and all comes to its end."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("openai")

from tests.agents.dying import MODULE, die_at_random
from tests.agents.resume_helpers import Nursery, a_nursery


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery(MODULE, measured=False) as made:
        yield made


def test_killed_and_stopped_at_random(nursery: Nursery, tmp_path: Path, postgres_url: str) -> None:
    """One of each. `make torture` does it a few hundred times, on SQLite too."""
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    done = die_at_random(nursery, tmp_path, postgres_url, kills=9, seed=seed)
    assert (done.runs, done.problems) == (3, []), f"SEED={seed}"
