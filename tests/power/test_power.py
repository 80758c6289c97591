"""After a power cut at any moment, everything that was acknowledged is there and can be read.

The whole campaign is `make torture`; this is a sample of its images.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.power.campaign import URLS, run_power

from sessile.testing import Scale

SHARES = {"json": 0.0008, "yaml": 0.0008, "sqlite": 0.005, "sealed": 0.0008}
"""Which share of the images is opened: 50 to 80 of each."""


@pytest.fixture(autouse=True)
def _strace() -> None:
    if shutil.which("strace") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("There is no strace.")
        pytest.skip("strace is not there (Linux; apt-get install strace).")


@pytest.mark.parametrize("kind", URLS)
def test_nothing_acknowledged_is_lost(kind: str, tmp_path: Path) -> None:
    scale = Scale.from_environment()
    print(f"SESSILE_SEED={scale.seed}")
    figures = run_power(URLS[kind], tmp_path, scale.seed, SHARES[kind])
    assert not figures.problems, "\n".join(figures.problems[:5])
    assert figures.lost == 0
    assert figures.acknowledged == 8
    assert figures.rounds > 20


def test_a_storage_that_does_not_wait_for_the_disk_is_found_out(tmp_path: Path) -> None:
    """With `NORMAL`, SQLite may lose the last commits to a power cut, as its documentation says."""
    figures = run_power(f"{URLS['sqlite']}?synchronous=NORMAL", tmp_path, 1, 0.008, until_found=True)
    assert figures.problems
