"""Processes that are killed in the middle of a handoff: whoever resumes the run comes to the same end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from tests.agents.resume_helpers import LEASE, Nursery, a_nursery, storage_in
from tests.agents.resume_tools import Traces, wait_until
from tests.campaigns import sampled
from tests.teams.handing import desk, lead, over, told

PROMPT = told(
    front=[("note", {"text": "front"}), over("billing", "money")],
    billing=[("note", {"text": "billing"}), over("tech")],
    tech=[("note", {"text": "tech"})],
)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with a_nursery("tests.teams.handing") as made:
        yield made


def shape(storage: Any) -> Any:
    run = storage.get_run("s", 1)
    below = [(one.agent, one.status, one.handoff, one.usage) for one in run.children]
    return run.status, run.output, run.answered_by, run.usage, below, lead(storage)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_commit(nursery: Nursery, tmp_path: Path, when: str) -> None:
    """One member works at a time, and nothing is done twice but what was being done."""
    with storage_in(tmp_path, "whole.db") as storage:
        desk(storage=storage, durability="step").run(PROMPT, session_id="s")
        whole = shape(storage)
    assert whole[-1] == "tech"
    for which in sampled(6):
        folder = tmp_path / str(which)
        folder.mkdir()
        child = nursery.start_job(folder, {"prompt": PROMPT, "die": [when, "any", which]})
        if child.wait() != -signal.SIGKILL:
            assert which > 20
            return
        traces = Traces(folder)
        with storage_in(folder, lease=LEASE) as storage:
            if storage.get_session("s") is None or storage.get_run("s", 1).status == "completed":
                continue
            wait_until(lambda: storage.get_run("s", 1).status == "interrupted")
            result = desk(storage=storage, traces=traces, durability="step").resume("s")
            assert (result.status, result.output) == ("completed", "tech answers.")
            assert shape(storage) == whole
            assert set(traces.lines) == {"front", "billing", "tech"}
            assert len(traces.lines) <= 4
            storage.verify("s")


def test_resumed_by_a_program_that_lacks_who_was_answering(nursery: Nursery, tmp_path: Path) -> None:
    """Billing has taken over, and is gone in the next version: the first member answers, and leads from then on."""
    child = nursery.start_job(tmp_path, {"prompt": PROMPT, "die": ["after", "lead.passed", 1]})
    assert child.wait() == -signal.SIGKILL
    with storage_in(tmp_path, lease=LEASE) as storage:
        wait_until(lambda: storage.get_run("s", 1).status == "interrupted")
        assert lead(storage) == "billing"
        result = desk("front", "tech", storage=storage, durability="step").resume("s")
        assert (result.status, result.output) == ("completed", "front answers.")
        assert (lead(storage), storage.get_run("s", 1).answered_by) == ("front", "front")
        storage.verify("s")


def test_resumed_while_one_works_that_is_gone(nursery: Nursery, tmp_path: Path) -> None:
    child = nursery.start_job(tmp_path, {"prompt": PROMPT, "die": ["after", "tool.started", 5]})
    assert child.wait() == -signal.SIGKILL
    with storage_in(tmp_path, lease=LEASE) as storage:
        wait_until(lambda: storage.get_run("s", 1).status == "interrupted")
        assert [one.agent for one in storage.get_run("s", 1).children][-1] == "billing"
        result = desk("tech", "front", storage=storage, durability="step").resume("s")
        assert (result.status, result.output, lead(storage)) == ("completed", "tech answers.", "tech")
        storage.verify("s")
