"""A workflow of 20 steps in processes that die anywhere, and a count of what was executed, taken outside of them.

Each step writes a line to a file when it begins and one when it ends, with its idempotency key. `python -m` starts the
nursery of `tests.agents.resume_helpers`, which forks a process for each job.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.agents.resume_helpers import Child, Nursery, die_at_commit, serve
from tests.agents.resume_tools import Traces, wait_until

from sessile import Context, SqliteStorage, Workflow, current_step, session_state
from sessile.storage.encoding import decode

MODULE = "tests.workflows.crashing"
LEASE = 0.25
STEPS = 20
RESULT = sum(range(1, STEPS + 1))
STATE = {f"did {value}": True for value in range(1, STEPS + 1)}


class Steps:
    """Steps that leave traces. One that is told to kills its process: `inside` the nth execution of any."""

    def __init__(self, traces: Traces, sleep: float = 0.0, inside: int = 0) -> None:
        self.traces, self.sleep, self.inside, self.executed = traces, sleep, inside, 0

    def _begin(self, value: int) -> str:
        line = f"{current_step().path} {current_step().idempotency_key}"
        self.traces.add(f"begin {line}")
        self.executed += 1
        if self.executed == self.inside:
            os.kill(os.getpid(), signal.SIGKILL)
        session_state()[f"did {value}"] = True
        return line

    async def later(self, value: int) -> int:
        line = self._begin(value)
        await asyncio.sleep(random.uniform(0, self.sleep))
        self.traces.add(f"end {line}")
        return value

    def plain(self, value: int) -> int:
        line = self._begin(value)
        time.sleep(random.uniform(0, self.sleep))
        self.traces.add(f"end {line}")
        return value


def make(storage: SqliteStorage, steps: Steps) -> Workflow[int]:
    """12 steps in sequence, of both kinds, then two branches of 3, then 2 at once."""

    async def flow(ctx: Context) -> int:
        total = 0
        for value in range(1, 13):
            total += await ctx.step(steps.later if value % 2 else steps.plain, value)

        async def branch(first: int) -> int:
            return sum([await ctx.step(steps.later, value) for value in range(first, first + 3)])

        total += sum(await ctx.gather(branch(13), branch(16)))
        return total + sum(await asyncio.gather(ctx.step(steps.later, 19), ctx.step(steps.plain, 20)))

    return Workflow(flow, name="flow", storage=storage)


class Scene:
    """A folder with a database and traces, in which processes work on the workflow."""

    def __init__(self, folder: Path, nursery: Nursery, **job: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.nursery, self.job = folder, nursery, job
        self.traces = Traces(folder)

    def start(self, **job: Any) -> Child:
        return self.nursery.start_job(self.folder, {**self.job, **job})

    def storage(self) -> SqliteStorage:
        return SqliteStorage(self.folder / "sessions.db", lease=LEASE)

    def executions(self) -> Counter[str]:
        """How often each step has begun, by its position."""
        return Counter(line.split()[1] for line in self.traces.lines if line.startswith("begin"))

    def keys(self) -> dict[str, set[str]]:
        """The idempotency keys that each step has had."""
        keys: dict[str, set[str]] = {}
        for line in self.traces.lines:
            _, path, key = line.split()
            keys.setdefault(path, set()).add(key)
        return keys

    def finished(self) -> set[str]:
        """The steps that are in the journal, read from the file itself."""
        if not (self.folder / "sessions.db").exists():
            return set()
        with closing(sqlite3.connect(self.folder / "sessions.db")) as db:
            try:
                bodies = [body for (body,) in db.execute("SELECT body FROM sessile_commits ORDER BY seq")]
            except sqlite3.OperationalError:  # killed before the tables were made
                return set()
        entries = [entry for body in bodies for entry in decode(body)["entries"]]
        return {entry["data"]["path"] for entry in entries if entry["kind"] == "step.finished"}

    def problems(self, kills: int) -> list[str]:
        """What is wrong with a workflow that has come to its end after so many kills."""
        found: list[str] = []
        executions, keys = self.executions(), self.keys()
        if len(executions) != STEPS:
            found.append(f"{len(executions)} steps were executed, not {STEPS}")
        again = sum(executions.values()) - STEPS
        if again > 2 * kills:  # two branches: at most two steps are at work at any moment
            found.append(f"{again} executions too many after {kills} kills")
        found += [f"step {path} had {len(some)} keys" for path, some in keys.items() if len(some) != 1]
        if len({next(iter(some)) for some in keys.values()}) != len(keys):
            found.append("two steps had the same key")
        with self.storage() as storage:
            run, head = storage.get_run("s", 1), storage.get_session("s")
            storage.verify("s")
        if (run.status, run.output) != ("completed", RESULT) or head is None or head.state != STATE:
            found.append(f"the run is {run.status} with {run.output}, the state {head and head.state}")
        return found


def resumable(scene: Scene) -> bool:
    """Whether the run can be taken over: its process's lease has run out, or it was never begun."""
    with scene.storage() as storage:
        head = storage.get_session("s")
        return head is None or storage.get_run("s", 1).status in ("interrupted", "completed")


@dataclass
class Kills:
    """What a campaign has come to."""

    kills: int = 0
    runs: int = 0
    again: int = 0
    problems: list[str] = field(default_factory=list[str])


def kill_at_random(folder: Path, nursery: Nursery, kills: int, seed: int) -> Kills:
    """Kill the workflow's process again and again at random moments of its life, until it has come to its end."""
    chance, done = random.Random(seed), Kills()
    while done.kills < kills:
        done.runs += 1
        scene = Scene(folder / str(done.runs), nursery, sleep=0.01)
        before = done.kills
        while not _one_life(scene, chance, done, most=kills):
            wait_until(lambda scene=scene: resumable(scene))
        done.again += sum(scene.executions().values()) - STEPS
        done.problems += scene.problems(done.kills - before)
    return done


def _one_life(scene: Scene, chance: random.Random, done: Kills, most: int) -> bool:
    """One process; False if it was killed before it had come to the end."""
    began, finished = scene.executions(), scene.finished()
    child = scene.start()
    if done.kills < most:
        time.sleep(chance.uniform(0.01, 0.2))
        os.kill(child.pid, signal.SIGKILL)
    code = child.wait()
    done.kills += code == -signal.SIGKILL
    done.problems += _repeated(finished, began, scene.executions())
    if code == 0:
        said = json.loads(child.out.read_text())
        if said.get("output") != RESULT:
            done.problems.append(str(said))
    return code == 0


def _repeated(finished: set[str], before: Counter[str], after: Counter[str]) -> list[str]:
    return [f"finished step {path} ran again" for path in finished if after[path] != before[path]]


def _do(job: dict[str, Any]) -> None:
    """Run or resume the workflow, whatever is needed. `die`, `inside`: where to be killed; `gate`: wait for it."""
    folder = Path(job["folder"])
    traces = Traces(folder)
    storage = SqliteStorage(folder / "sessions.db", lease=job.get("lease", LEASE))
    flow = make(storage, Steps(traces, job.get("sleep", 0.0), job.get("inside", 0)))
    if "die" in job:
        die_at_commit([storage], traces, *job["die"])
    if job.get("gate"):
        (folder / f"ready-{os.getpid()}").touch()
        wait_until(traces.gate.exists)
    try:
        result = flow.run(session_id="s", run_id="r") if not job.get("resume") else flow.resume("s")
        said: dict[str, Any] = {"output": result.output, "status": result.status}
    except Exception as error:  # noqa: BLE001 (the test looks at it)
        said = {"error": type(error).__name__, "message": str(error)}
    Path(job["out"]).write_text(json.dumps(said))


if __name__ == "__main__":
    serve(_do)
