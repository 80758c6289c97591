"""The examples run as they are, each in processes of its own, in an empty directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("pydantic_ai")

from tests.servers.redis import RedisServer

from sessile import SqliteStorage

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, *arguments: str, cwd: Path, code: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *arguments],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_there_is_a_test_for_every_example() -> None:
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tests


def test_remember(tmp_path: Path) -> None:
    assert "I cannot know" in run("remember", cwd=tmp_path)
    assert 'Your last question was: "What is the capital of France?"' in run("remember", cwd=tmp_path)


def test_tools_and_state(tmp_path: Path) -> None:
    assert 'You serve Ada, whose basket holds ["bread","milk"].' in run("tools_and_state", cwd=tmp_path)
    assert "4 in the basket" in run("tools_and_state", cwd=tmp_path)
    with SqliteStorage(tmp_path / "basket.db") as storage:
        session = storage.get_session("s1", user_id="ada")
    assert session is not None
    assert session.state == {"customer": "Ada", "basket": ["bread", "milk"] * 2}


def test_team(tmp_path: Path) -> None:
    assert "state: {'notes': ['Paris']}" in run("team", cwd=tmp_path)
    printed = run("team", cwd=tmp_path)
    assert 'geographer, 1 requests: Your last question was: "What is the capital of France?"' in printed
    assert "state: {'notes': ['Paris', 'Paris']}" in printed
    with SqliteStorage(tmp_path / "team.db") as storage:
        assert [len(run.children) for run in storage.runs("s1")] == [1, 2, 1, 2]


def test_approval(tmp_path: Path) -> None:
    printed = run("approval", cwd=tmp_path)
    asked, approved, completed = printed.splitlines()
    assert "paused" in asked
    assert "approved refund" in approved
    assert "completed: refund returned: paid 12.50 back for order 7" in completed
    processes = [re.findall(r"process (\d+)", line)[0] for line in (asked, approved, completed)]
    assert processes[0] != processes[1] == processes[2]


def test_approval_that_is_denied(tmp_path: Path) -> None:
    assert "paused" in run("approval", "ask", cwd=tmp_path)
    printed = run("approval", "deny", cwd=tmp_path)
    assert "refund was denied" in printed
    assert "paid" not in printed
    with SqliteStorage(tmp_path / "approval.db") as storage:
        assert [run.status for run in storage.runs("order-7")] == ["completed"]


def test_dbos_queue(tmp_path: Path) -> None:
    """DBOS starts the request again after a crash; what was done already is not done again."""
    asked, delivered = run("dbos_queue", "ask", "r1", "Hello", cwd=tmp_path, code=9, CRASH="1").splitlines()
    assert asked == "the model is asked"
    again, answer = run("dbos_queue", "recover", "r1", cwd=tmp_path).splitlines()
    assert again == delivered
    assert answer == "answer: I have seen 1 messages."
    assert "answer: I have seen 3 messages." in run("dbos_queue", "ask", "r2", "And now?", cwd=tmp_path)
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        assert [run.status for run in storage.runs("chat-ada", user_id="ada")] == ["completed", "completed"]
        steps = [step.data["name"] for step in storage.get_run("request-r1", 1, user_id="ada").steps]
    assert steps == ["support", "deliver"]


def test_dbos_later(tmp_path: Path) -> None:
    before, answer = run("dbos_later", "later", "r1", "1", "Hello", cwd=tmp_path).splitlines()
    assert before == "runs now: []"
    assert answer == "answer: I have seen 1 messages."
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        assert [run.run_id for run in storage.runs("chat", user_id="ada")] == ["r1"]
        storage.delete("chat", user_id="ada")
    assert "asked: What is new? (" in run("dbos_later", "daily", "1", "* * * * * *", cwd=tmp_path)


def test_celery_later(tmp_path: Path, own_redis: RedisServer) -> None:
    """A request that is sent later, and a schedule, over a server of Redis; each delivery is one run."""
    environment = {"BROKER": own_redis.url, "EVERY": "1", "PYTHONPATH": str(EXAMPLES)}
    flags = ["--beat", "--concurrency=1", "--without-mingle", "--without-gossip"]
    worker = [sys.executable, "-m", "celery", "-A", "celery_later", "worker", *flags]
    with (tmp_path / "worker.txt").open("w") as said:
        serving = subprocess.Popen(worker, cwd=tmp_path, stdout=said, stderr=said, env={**os.environ, **environment})
        try:
            before, answer = run("celery_later", "r1", "1", "Hello", cwd=tmp_path, **environment).splitlines()
            assert (before, answer) == ("runs now: []", "answer: I have seen 1 messages.")
            with SqliteStorage(tmp_path / "sessions.db") as storage:
                assert [one.run_id for one in storage.runs("chat", user_id="ada")] == ["r1"]
                while (
                    storage.get_session("report", user_id="ada") is None
                    or len(storage.runs("report", user_id="ada")) < 2
                ):
                    assert serving.poll() is None, (tmp_path / "worker.txt").read_text("utf-8")
                    time.sleep(0.05)
                assert {one.input for one in storage.runs("report", user_id="ada")} == {"What is new?"}
        finally:
            serving.terminate()
            serving.wait()


def test_looking_back(tmp_path: Path) -> None:
    printed = run("looking_back", cwd=tmp_path)
    assert "bob-1: A refund for bob.\nada-1: I want a refund.\n" in printed
    assert "not good: bob-1 1\nnot good: ada-1 2\n" in printed
    assert re.search(r"^ada: 2 runs, \d+ tokens\nbob: 1 runs, \d+ tokens$", printed, re.MULTILINE)


def test_few_shot(tmp_path: Path) -> None:
    printed = run("few_shot", cwd=tmp_path)
    assert "Answer: Under Account, choose “Cancel”. It ends with the month.\n</example>" in printed
    assert "shown to the model: [('monday', 1)]" in printed


def test_evaluate(tmp_path: Path) -> None:
    for _ in range(2):
        assert "3 cases: " in run("evaluate", cwd=tmp_path)
    assert "<title>Experiment no introduction</title>" in (tmp_path / "report.html").read_text("utf-8")
    with SqliteStorage(tmp_path / "shop.db") as storage:
        assert storage.count_sessions(user_id="ada") == 4


def test_telemetry(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk")
    printed = run("telemetry", cwd=tmp_path)
    assert "append sessile {" in printed
    assert "gen_ai.evaluation.result {'gen_ai.evaluation.name': 'user', 'gen_ai.evaluation.score.value': 1" in printed
