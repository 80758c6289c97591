"""Processes that are killed with SIGKILL: what has finished does not run again, and the result is the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("openai")

from tests.agents.resume_helpers import Nursery, a_nursery
from tests.agents.resume_tools import wait_until
from tests.workflows.crashing import LEASE, MODULE, RESULT, STEPS, Scene, kill_at_random, resumable


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery(MODULE, measured=False) as made:
        yield made


def test_killed_at_every_boundary_and_inside_steps(nursery: Nursery, tmp_path: Path) -> None:
    """Killed in each step before its commit (in some at their beginning, too), at the start and at the end."""
    commits = STEPS + 2  # its start and its end
    deaths = [{"die": ["before", "any", which]} for which in range(1, commits + 1)]
    deaths += [{"die": ["after", "any", which]} for which in (1, commits)]
    deaths += [{"inside": which} for which in range(1, STEPS + 1, 3)]
    scenes = [(Scene(tmp_path / str(number), nursery), death) for number, death in enumerate(deaths)]
    dying = [scene.start(**death) for scene, death in scenes]
    assert {child.wait() for child in dying} == {-signal.SIGKILL}
    kept = [(scene, scene.finished(), scene.executions()) for scene, _ in scenes]
    time.sleep(LEASE)
    for scene, _, _ in kept:
        wait_until(lambda scene=scene: resumable(scene))
    resumed = [scene.start() for scene, _, _ in kept]
    assert [child.result() for child in resumed] == [{"output": RESULT, "status": "completed"}] * len(kept)
    for scene, finished, before in kept:
        after = scene.executions()
        assert [path for path in finished if after[path] != before[path]] == []
        assert scene.problems(kills=1) == []
    assert {len(finished) for _, finished, _ in kept} == set(range(STEPS + 1))


def test_killed_at_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    done = kill_at_random(tmp_path, nursery, kills=30, seed=seed)
    assert (done.kills, done.problems) == (30, []), f"SEED={seed}"


def test_eight_processes_resume_one_run(nursery: Nursery, tmp_path: Path) -> None:
    """One of them takes it and executes what is left; the others are refused. No step is executed twice."""
    scene = Scene(tmp_path / "8", nursery, sleep=0.005, lease=5.0)
    assert scene.start(inside=7, lease=LEASE).wait() == -signal.SIGKILL
    wait_until(lambda: resumable(scene))
    children = [scene.start(resume=True, gate=True) for _ in range(8)]
    wait_until(lambda: len(list(scene.folder.glob("ready-*"))) == 8)
    scene.traces.open_gate()
    results = [child.result() for child in children]
    done = [result for result in results if "output" in result]
    refused = [result for result in results if "error" in result]
    assert done == [{"output": RESULT, "status": "completed"}]
    assert [result["error"] for result in refused] == ["NotResumableError"] * 7
    assert scene.executions() == Counter({**dict.fromkeys(scene.executions(), 1), "7": 2})
    assert scene.problems(kills=1) == []


def test_a_process_that_was_only_slow(nursery: Nursery, tmp_path: Path) -> None:
    """It comes back when another one has taken its run, and stops: it does not execute one more step."""
    scene = Scene(tmp_path / "slow", nursery, sleep=0.02)
    child = scene.start()
    scene_lines = scene.traces
    wait_until(lambda: len(scene_lines.lines) > 8)
    os.kill(child.pid, signal.SIGSTOP)
    wait_until(lambda: resumable(scene))
    assert scene.start(resume=True).result()["output"] == RESULT
    os.kill(child.pid, signal.SIGCONT)
    assert child.result()["error"] in ("LeaseLostError",)
    assert scene.problems(kills=1) == []
