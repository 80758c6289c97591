"""What pages about deploying promise: servers and workers that are told to stop, killed or frozen.

The programs are those of the pages (```python app.py); only the model is another one, whose answers take their time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx
import pytest
import yaml
from tests.servers.process import private_port
from tests.transcripts import shown

from sessile import SqliteStorage

DOCS = Path(__file__).resolve().parent.parent / "docs"
BIN = Path(sys.executable).parent

SLOW = '''\
"""Stands for a language model that takes its time: ten words, one after the other; then it asks for no more."""
import asyncio, os

from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.models.function import FunctionModel

PAUSE = float(os.environ.get("PAUSE", "0"))


async def answer(messages, info):
    print(f"works in {os.getpid()}", flush=True)
    await asyncio.sleep(PAUSE * 10)
    return ModelResponse([TextPart("one two three four five six seven eight nine ten")])


async def stream(messages, info):
    for word in "one two three four five six seven eight nine ten".split():
        yield word + " "
        await asyncio.sleep(PAUSE)


def OfflineModel():
    return FunctionModel(answer, stream_function=stream)
'''

pytestmark = [pytest.mark.no_cover]


def program(page: str, title: str, folder: Path, **instead: str) -> None:
    """Write a page's program into a folder, with the slow model."""
    text = next(block.text for block in shown(DOCS / page) if block.title == title)
    wanted = "from sessile.agents.offline import OfflineModel"
    assert wanted in text
    text = text.replace(wanted, "from slow import OfflineModel")
    for old, new in instead.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / title).write_text(f"{text}\n", "utf-8")
    (folder / "slow.py").write_text(SLOW, "utf-8")


@contextmanager
def started(command: list[str], folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program of the virtual environment's, in a session of its own, which is gone at the end."""
    kept = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder), **environment}
    with (folder / "output.txt").open("a") as output:
        running = subprocess.Popen(
            command, cwd=folder, env=kept, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def until(told: Callable[[], Any], folder: Path) -> Any:
    """Wait until something is so; says what the programs have printed, if it never is."""
    for _ in range(1200):
        if found := told():
            return found
        time.sleep(0.05)
    raise AssertionError((folder / "output.txt").read_text("utf-8")[-4000:])


def answers(port: int, path: str) -> bool:
    """Whether a server of this machine answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}").status_code == 200
    except httpx.TransportError:
        return False


ADA = {"Authorization": "Bearer token-of-ada"}


class Server(NamedTuple):
    """How a program is served, and what becomes of a run when the server is stopped in the middle of it."""

    command: str
    stores: bool
    """Whether the run is stored as interrupted at once; else when its lease has run out."""


SERVERS = {
    "uvicorn": Server("uvicorn app:app --timeout-graceful-shutdown 1 --port {port}", True),
    "gunicorn": Server("gunicorn app:app -k asgi --graceful-timeout 1 -b 127.0.0.1:{port}", False),
    "gunicorn with uvicorn": Server(
        "gunicorn app:app -k serving.Worker --graceful-timeout 30 -b 127.0.0.1:{port}", True
    ),
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_deploy_in_the_middle_of_a_stream_loses_nothing(server: str, tmp_path: Path) -> None:
    command, stores = SERVERS[server]
    text = next(block.text for block in shown(DOCS / "fastapi.md") if block.title == "serving.py")
    (tmp_path / "serving.py").write_text(text.replace(": 20", ": 1"), "utf-8")
    instead = {} if stores else {'"sqlite:///sessions.db"))': '"sqlite:///sessions.db"), lease=1)'}
    program("fastapi.md", "app.py", tmp_path, **instead)
    port = private_port()
    seen: list[str] = []
    with started(command.format(port=port).split(), tmp_path, PAUSE="0.4") as serving:
        until(lambda: answers(port, "/openapi.json"), tmp_path)
        address = f"http://127.0.0.1:{port}/sessions/1/stream"
        try:
            with httpx.stream("POST", address, headers=ADA, json={"text": "Count."}, timeout=60) as response:
                for piece in response.iter_text():
                    seen.append(piece)
                    if len(seen) == 2:
                        serving.send_signal(signal.SIGTERM)
        except httpx.RemoteProtocolError:
            pass  # the server has cut the stream off
        serving.wait(60)
    assert "ten" not in "".join(seen)
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        mine = storage.for_user("ada")
        if not stores:
            until(lambda: mine.runs("1")[0].status != "running", tmp_path)
        (run,) = mine.runs("1")
        assert run.status == "interrupted", (tmp_path / "output.txt").read_text("utf-8")
    resume = "import app; print(app.agent.for_user('ada').resume('1').output)"
    with started([sys.executable, "-c", resume], tmp_path) as resuming:
        assert resuming.wait(60) == 0
    assert "nine ten" in (tmp_path / "output.txt").read_text("utf-8")
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        assert [run.status for run in storage.for_user("ada").runs("1")] == ["completed"]


def working_in(folder: Path) -> set[str]:
    """The processes in which the model was asked."""
    return set(re.findall(r"works in (\d+)", (folder / "output.txt").read_text("utf-8")))


WORKER = ["celery", "-A", "jobs", "worker", "-c", "1", "--without-mingle", "--without-gossip", "-l", "INFO"]
WORKERS = {"BROKER": "filesystem://", "LEASE": "1", "PAUSE": "0.2"}


def send_a_job(folder: Path) -> None:
    """Put a job of the page's program into a queue of files."""
    program("workers.md", "jobs.py", folder)
    folders = {name: str(folder / "queue") for name in ("data_folder_in", "data_folder_out")}
    (folder / "queue").mkdir()
    with (folder / "jobs.py").open("a") as file:
        file.write(f"app.conf.update(broker_transport_options={folders!r})\n")
    send = "import jobs; print('sent', jobs.answer.delay('s1', 'ada', 'Count.').id)"
    with started([sys.executable, "-c", send], folder, **WORKERS) as sending:
        assert sending.wait(60) == 0


def test_a_worker_of_celery_that_is_killed_is_followed_by_another(tmp_path: Path) -> None:
    send_a_job(tmp_path)
    with started(WORKER, tmp_path, **WORKERS), SqliteStorage(tmp_path / "jobs.db", lease=1) as storage:
        (run,) = until(lambda: storage.runs("s1", user_id="ada"), tmp_path)
        assert run.status == "running"
        (child,) = until(lambda: working_in(tmp_path), tmp_path)
        os.kill(int(child), signal.SIGKILL)
        until(lambda: storage.runs("s1", user_id="ada")[0].status == "completed", tmp_path)
        (run,) = storage.runs("s1", user_id="ada")
    said = (tmp_path / "output.txt").read_text("utf-8")
    assert len(working_in(tmp_path)) == 2, said
    assert run.output == "one two three four five six seven eight nine ten"
    assert re.findall(r"sent (\S+)", said) == [run.run_id]


def test_a_worker_of_celery_that_is_told_to_stop_ends_what_it_has_begun(tmp_path: Path) -> None:
    """A deploy: SIGTERM to the worker, whose task goes on to its end; nothing of it is interrupted or repeated."""
    send_a_job(tmp_path)
    with started(WORKER, tmp_path, **WORKERS) as worker, SqliteStorage(tmp_path / "jobs.db", lease=1) as storage:
        until(lambda: working_in(tmp_path), tmp_path)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(60) == 0
        (run,) = storage.runs("s1", user_id="ada")
    assert run.status == "completed", (tmp_path / "output.txt").read_text("utf-8")
    assert len(working_in(tmp_path)) == 1


def test_a_process_that_was_frozen_writes_nothing_over_what_another_has_done(tmp_path: Path) -> None:
    """As a function that its platform freezes in the middle, and wakes up when another has taken the run over."""
    text = "\n".join(block.text for block in shown(DOCS / "serverless.md") if block.language == "python")
    text = text.replace("from sessile.agents.offline import OfflineModel", "from slow import OfflineModel")
    text = text.replace("timeout=10)", "timeout=10, lease=1)").partition("\nevent = ")[0]
    event = {"id": "r1", "session": "s1", "user": "ada", "text": "Count."}
    (tmp_path / "function.py").write_text(f"{text}\nprint(handler({event!r}))\n", "utf-8")
    (tmp_path / "slow.py").write_text(SLOW, "utf-8")
    with SqliteStorage(tmp_path / "sessions.db", lease=1) as storage:
        with started([sys.executable, "function.py"], tmp_path, PAUSE="0.3") as frozen:
            until(lambda: storage.runs("s1", user_id="ada"), tmp_path)
            frozen.send_signal(signal.SIGSTOP)
            until(lambda: storage.runs("s1", user_id="ada")[0].status == "interrupted", tmp_path)
            with started([sys.executable, "function.py"], tmp_path) as other:
                assert other.wait(60) == 0
            done = storage.runs("s1", user_id="ada")
            assert [run.status for run in done] == ["completed"]
            frozen.send_signal(signal.SIGCONT)
            assert frozen.wait(60) != 0
        assert storage.runs("s1", user_id="ada") == done
    assert "LeaseLostError" in (tmp_path / "output.txt").read_text("utf-8")


def test_what_the_image_and_the_jobs_run(tmp_path: Path) -> None:
    """The commands of the page about containers: migrate, serve, sweep. (`test_image` builds the image.)"""
    program("containers.md", "shop.py", tmp_path)
    page = (DOCS / "containers.md").read_text("utf-8")
    files = [block.text for block in shown(DOCS / "containers.md") if block.language == "yaml"]
    jobs = [job for text in files for job in yaml.safe_load_all(text)]
    assert [job["kind"] for job in jobs] == ["Deployment", "Job", "CronJob"]
    migrate, sweep = re.findall(r'command: (\["sessile".*\])', page)
    serve = json.loads(re.findall(r"^CMD (\[.*\])$", page, re.MULTILINE)[0])
    port = private_port()
    (tmp_path / "tokens.json").write_text('{"a-long-random-token-0123456789": "ada"}', "utf-8")
    instead = {"0.0.0.0": "127.0.0.1", "8000": str(port), "/run/secrets/tokens.json": "tokens.json"}
    environment = {"SESSILE_STORAGE": "sqlite:///sessions.db"}
    with started(json.loads(migrate), tmp_path, **environment) as migrating:
        assert migrating.wait(60) == 0
    with started([instead.get(word, word) for word in serve], tmp_path, **environment):
        probes = jobs[0]["spec"]["template"]["spec"]["containers"][0]
        for probe in ("livenessProbe", "readinessProbe"):
            until(lambda path=probes[probe]["httpGet"]["path"]: answers(port, path), tmp_path)
    with started(json.loads(sweep), tmp_path, **environment) as sweeping:
        assert sweeping.wait(60) == 0
