"""Cases and replays over runs that another program has changed: what cannot be read is no case, all else is."""

from __future__ import annotations

import random
from typing import cast

import pytest
from pydantic_ai.models.test import TestModel
from tests.spoiling import SPOILERS

from sessile import Agent, MemoryStorage
from sessile.drivers.memory import MemoryDriver
from sessile.evaluation import Dataset, cases, replay


@pytest.mark.parametrize("what", ["head", "commit"])
def test_one_changed_value_costs_no_more_than_its_session(what: str) -> None:
    for seed in range(8):
        with MemoryStorage(inline_media_bytes=0) as storage:
            agent = Agent(TestModel(call_tools=[]), storage=storage, name="a")
            for name in ("spoiled", "sound"):
                agent.run("hello", session_id=name)
                agent.run("again", session_id=name)
            driver = cast(MemoryDriver, storage._core.driver)  # type: ignore[union-attr]
            sound = driver._sessions.pop("sound")
            SPOILERS[what](driver, random.Random(f"{what} {seed}"))
            driver._sessions["sound"] = sound
            found = cases(storage)
            assert [one.number for one in found if one.session_id == "sound"] == [1, 2]
            for form in ("yaml", "json"):
                assert "again" in Dataset("d", found).to_text(form)
            assert len(replay(agent, found).compared) == len(found)
