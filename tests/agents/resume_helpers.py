"""Agents whose tools leave traces in a file, and real processes that run them and can be killed anywhere.

`Nursery` starts one Python process that has imported everything and has no threads; it forks a child for each job,
so that a real process costs milliseconds. A child runs or resumes an agent over a SQLite file and writes what came
out of it to a file.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pydantic_ai
from openai import AsyncOpenAI
from pydantic_ai import DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.agents.resume_tools import City, Traces, tools_of, wait_until
from tests.model_server import ModelServer

from sessile import Agent, Message, Run, SessionCapability, SqliteStorage, Team
from sessile.agents import Members
from sessile.storage.encoding import decode_commit

ROOT = Path(__file__).resolve().parents[2]


def model_at(url: str, name: str = "gpt-test") -> OpenAIChatModel:
    """The real client, which shows every failure at once."""
    return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=_client(url)))


def _client(url: str) -> AsyncOpenAI:
    # A connection for each request, so that nothing is left open in an event loop that is closed; and more than 5 s to
    # make it, which a busy machine may need.
    return AsyncOpenAI(
        base_url=url, api_key="test", max_retries=0, timeout=600, default_headers={"Connection": "close"}
    )


def make_agent(url: str, storage: Any, traces: Traces, **options: Any) -> Agent[Any]:
    """An agent over the model server, with all the tools."""
    return Agent(model_at(url), storage=storage, name="worker", tools=tools_of(traces), **options)


def make_team(
    url: str, storage: Any, traces: Traces, mode: Any = "coordinate", own: Any = None, **options: Any
) -> Team[Any]:
    """A team of two agents and a team, all with all the tools. `mode` may also be `relay`: one after the other.

    `own` is a storage of the writer's own.
    """

    async def relay(task: str, members: Members) -> str:
        first = await members["writer"].run(task)
        return f"{first.output} / {(await members['checker'].run(task)).output}"

    def agent(name: str, **options: Any) -> Agent[Any]:
        return Agent(model_at(url), name=name, tools=tools_of(traces), **options)

    members = [agent("writer", storage=own), agent("checker"), Team([agent("clerk")], model_at(url), name="desk")]
    mode = relay if mode == "relay" else mode
    own = {} if mode is relay else {"tools": tools_of(traces)}
    return Team(members, model_at(url), name="crew", storage=storage, mode=mode, **own, **options)


def call(tool: str, **arguments: Any) -> str:
    """A line that makes the model call a tool."""
    return f"call {tool} {json.dumps(arguments)}"


def then(*lines: str) -> str:
    """Calls that the model makes one after the other."""
    return "\nthen ".join(lines)


# ---------------------------------------------------------------- what is stored


def parts(messages: Sequence[Message]) -> list[str]:
    """The stored messages, short: `user`, `call X`, `result of X`, `text`."""
    return [text for message in messages for text in _parts(message.data)]


def _parts(data: Any) -> Iterator[str]:
    for part in data["parts"]:
        kind, name = part["part_kind"], part.get("tool_name")
        short = {"user-prompt": "user", "tool-call": f"call {name}", "tool-return": f"result of {name}"}
        yield short.get(kind, kind)


def results(run: Run) -> dict[str, Any]:
    """What the tools of a run have returned, as stored, by tool name."""
    found = [part for message in run.messages for part in message.data["parts"] if part["part_kind"] == "tool-return"]
    return {part["tool_name"]: part["content"] for part in found}


def ids(pending: Any) -> dict[str, str]:
    """Tool call ids of what waits, by tool name."""
    return {call.tool_name: call.tool_call_id for call in (*pending.approvals, *pending.calls)}


# ---------------------------------------------------------------- processes


class Child:
    """A process that does one job."""

    def __init__(self, nursery: Nursery, pid: int, out: Path) -> None:
        self.nursery, self.pid, self.out = nursery, pid, out

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def stop(self, traces: Traces) -> None:
        """Let it stand still, until `go_on`."""
        os.kill(self.pid, signal.SIGUSR1)
        traces.wait_for("stopped")

    def go_on(self, traces: Traces) -> None:
        traces.add("go on")
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        self.nursery.alive.discard(self.pid)
        return int(self.nursery.ask({"wait": self.pid}))

    def result(self) -> Any:
        """What came out of the job, when the process has ended by itself."""
        code = self.wait()
        assert code == 0, f"the process ended with {code}"
        return json.loads(self.out.read_text())


class Nursery:
    """Starts children; see the top of this file."""

    def __init__(self, module: str = "tests.agents.resume_helpers", *, measured: bool = True) -> None:
        """Without `measured` the coverage of the children is not measured, which takes as long as what they do."""
        self.alive: set[int] = set()
        command = [sys.executable, "-m", module]
        env = {key: value for key, value in os.environ.items() if measured or not key.startswith("COVERAGE_PROCESS")}
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def ask(self, job: dict[str, Any]) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def close(self) -> None:
        for pid in self.alive:  # of tests that have failed
            os.kill(pid, signal.SIGKILL)
        with self.process:
            self.process.communicate()

    def start(self, folder: Path, url: str, do: str, *args: Any, **job: Any) -> Child:
        """A child that calls the agent's method `do`; see `_job` for the rest."""
        return self.start_job(folder, {"url": url, "do": do, "args": args, **job})

    def start_job(self, folder: Path, job: dict[str, Any]) -> Child:
        """A child that does a job of the module's own, and writes what came of it where `out` says."""
        out = folder / f"out-{time.time_ns()}.json"
        job = {"folder": str(folder), "out": str(out), **job}
        pid = int(self.ask(job))
        self.alive.add(pid)
        return Child(self, pid, out)


def storage_in(folder: Path, name: str = "sessions.db", **options: Any) -> SqliteStorage:
    return SqliteStorage(folder / name, **options)


LEASE = 0.3
"""Seconds until a process that was killed is taken for gone; no test relies on one that lives being faster."""


class World:
    """A model server, a folder with a database and traces, and processes."""

    def __init__(self, folder: Path, nursery: Nursery, server: ModelServer, lease: float) -> None:
        self.folder, self.nursery, self.server, self.lease = folder, nursery, server, lease
        self.traces = Traces(folder)
        self.storage = storage_in(folder, lease=lease)

    def agent(self, **options: Any) -> Agent[Any]:
        return make_agent(self.server.base_url, self.storage, self.traces, **{"durability": "step", **options})

    def team(self, **options: Any) -> Team[Any]:
        return make_team(self.server.base_url, self.storage, self.traces, **{"durability": "step", **options})

    def start(self, do: str, *args: Any, **job: Any) -> Child:
        """A process that works in the same folder."""
        return self.nursery.start(self.folder, self.server.base_url, do, *args, **{"lease": self.lease, **job})

    def interrupted(self, number: int = 1) -> Run:
        """The run, when it is seen that its process is gone."""
        wait_until(lambda: self.run(number).status == "interrupted")
        return self.run(number)

    def run(self, number: int = 1) -> Run:
        return self.storage.get_run("s", number)

    @property
    def parts(self) -> list[str]:
        return parts(self.storage.messages("s"))

    @property
    def revision(self) -> int:
        head = self.storage.get_session("s")
        return 0 if head is None else head.revision


@contextlib.contextmanager
def a_world(folder: Path, nursery: Nursery, lease: float = LEASE) -> Iterator[World]:
    with ModelServer() as server:
        world = World(folder, nursery, server, lease)
        yield world
        if world.revision:
            world.storage.verify("s")
        world.storage.close()


@contextlib.contextmanager
def a_nursery(*module: str, measured: bool = True) -> Iterator[Nursery]:
    """A nursery of this module's children (`Nursery`), closed after it."""
    nursery = Nursery(*module, measured=measured)
    try:
        yield nursery
    finally:
        nursery.close()


def _job(job: dict[str, Any]) -> Any:
    """One call of an agent, or of a `team`. `lease`; `agent`: its options; `die`: see there; `own`: a file for the
    writer's own storage; `gate`: wait for it first; `approvals`; `calls`: results of calls that are executed elsewhere.
    """
    folder = Path(job["folder"])
    traces = Traces(folder)
    storage = storage_in(folder, lease=job.get("lease", 30.0))
    options = {"durability": "step", **job.get("agent", {})}
    storages = [storage]
    if "own" in job:
        options["own"] = storage_in(folder, job["own"], lease=2 * job["lease"])  # held for longer than the team's
        storages.append(options["own"])
    if "output_type" in options:
        options["output_type"] = City
    agent = (make_team if job.get("team") else make_agent)(job["url"], storage, traces, **options)
    signal.signal(signal.SIGUSR1, lambda *_: _stand_still(storage, traces))
    if "die" in job:
        die_at_commit(storages, traces, *job["die"])
    options: dict[str, Any] = {"session_id": job.get("session_id", "s")}
    if job.get("approvals"):
        options["approvals"] = {call: _approval(value) for call, value in job["approvals"].items()}
    if job.get("calls"):
        options["results"] = DeferredToolResults(calls=job["calls"])
    if job.get("gate"):
        traces.add("ready")
        wait_until(traces.gate.exists)
    if job["do"] == "capability":
        capability = SessionCapability(storage, durability="step")
        bare = pydantic_ai.Agent(model_at(job["url"]), tools=tools_of(traces), capabilities=[capability])
        return bare.run_sync(*job["args"], conversation_id="s")
    if job["do"] == "stream":
        with agent.stream(*job["args"], **options) as stream:
            for _ in stream:
                pass
        return stream.result
    return getattr(agent, job["do"])(*job["args"], **options)


def _approval(value: Any) -> Any:
    if isinstance(value, str):
        return ToolDenied(value)
    return ToolApproved(override_args=value) if isinstance(value, dict) else value


def _stand_still(storage: SqliteStorage, traces: Traces) -> None:
    """Stop this process, but not in the middle of a write, which would lock the database for all others."""
    driver: Any = storage._core.driver
    with driver._write_lock:
        traces.add("stopped")
        os.kill(os.getpid(), signal.SIGSTOP)
        traces.wait_for("go on")  # this thread may not be stopped at once


def die_at_commit(storages: Sequence[SqliteStorage], traces: Traces, when: str, kind: str, which: int) -> None:
    """Kill (or `stop`) this process right `before` or `after` the nth commit that holds this kind of entry, or any."""
    seen = itertools.count(1)
    for storage in storages:
        _watch(storage, traces, when, kind, lambda: next(seen) == which)


def _watch(storage: SqliteStorage, traces: Traces, when: str, kind: str, reached: Callable[[], bool]) -> None:
    driver: Any = storage._core.driver
    append = driver.append

    async def dying(write: Any, deadline: Any) -> bool:
        kinds = [entry.kind for row in write.commits for entry in decode_commit(row)]
        due = kind in (*kinds, "any") and reached()
        if due and when == "stop":
            _stand_still(storage, traces)
        if due and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = await append(write, deadline)
        if due and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    driver.append = dying


def _child(job: dict[str, Any]) -> None:
    try:
        result = _job(job)
        said: dict[str, Any] = {
            "output": result.output if isinstance(result.output, str) else None,
            "status": result.status,
            "number": result.number,
            "usage": asdict(result.usage),
            "state": result.state,
            "pending": None if result.pending is None else ids(result.pending),
        }
    except Exception as error:  # noqa: BLE001 (the test looks at it)
        said = {"error": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
        said["output"] = getattr(getattr(error, "result", None), "output", None)
    Path(job["out"]).write_text(json.dumps(said))


def serve(do_job: Callable[[dict[str, Any]], None]) -> None:
    """Start a child for each line that has a job, wait for one where a line says so; answer with a line each."""
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(SystemExit):
                do_job(job)
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    serve(_child)
