"""Every route over sessions that another program has changed: no problem is unexpected, or tells what was said.

Whose session is damaged is told of it; other users are told what they are told of one that is not there, and what was
said stands in no answer of theirs.
"""

from __future__ import annotations

import copy
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient
from tests.campaigns import TORTURE
from tests.server.conftest import AUTH, Pace, agents
from tests.server.test_access import OPEN, ROUTES, SECRET, Asker, filled
from tests.spoiling import SPOILERS

from sessile import MemoryStorage
from sessile.drivers.memory import MemoryDriver
from sessile.server import Limits, create_app

SEEDS = 60 if TORTURE else 3

MOST = 100_000_000
"""Bytes of memory that a hundred requests about a few kilobytes do not need."""

WAITING = {("get", "/sessions/{session_id}/runs/{number}/events"), ("get", "/experiments/{experiment}/events")}


@pytest.mark.parametrize("what", SPOILERS)
def test_no_answer_is_unexpected(what: str, tmp_path: Path) -> None:
    pace = Pace()
    pace.seconds = 0
    with MemoryStorage(timeout=5) as storage:
        app = create_app(agents(storage, pace), auth=AUTH, limits=Limits(stop_seconds=0.1), resume_every=None)
        with TestClient(app, raise_server_exceptions=False) as client:
            asker = filled(app, client)
            driver = cast(MemoryDriver, storage._core.driver)  # type: ignore[union-attr]
            sound = driver._sessions
            tracemalloc.start()
            for seed in range(SEEDS):
                chance = random.Random(f"{what} {seed}")
                driver._sessions = copy.deepcopy(sound)
                SPOILERS[what](driver, chance)
                check(asker, what, seed, chance)
            assert tracemalloc.get_traced_memory()[1] < MOST
            tracemalloc.stop()
            driver._sessions = sound


def check(asker: Asker, what: str, seed: int, chance: random.Random) -> None:
    routes = sorted(set(ROUTES) - WAITING)
    chance.shuffle(routes)
    for route in sorted(routes, key=lambda one: one[0] != "get"):
        for who in ("bob", "root", "ada"):
            answer = asker(route, who)
            problem: Any = answer.json() if "problem" in answer.headers.get("content-type", "") else {}
            assert problem.get("type") != "urn:sessile:problem:internal", (what, seed, route, who)
            assert SECRET not in problem.get("detail", ""), (what, seed, route, who, problem)
            if who == "bob" and route not in OPEN:
                assert SECRET not in answer.text, (what, seed, route)
            told = f"{problem.get('detail')} {problem.get('hint')}"
            assert not re.search(r"Traceback|pydantic_core|KeyError", told), (what, seed, route, who, told)
