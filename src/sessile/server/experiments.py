"""Replays over HTTP: stored runs that run again in the background, their progress, and a report that is kept.

An experiment is a session of its own kind, hidden among no others: its one run has the report as its output. So any
process shows it, and who asks for it again under its name goes on where it was broken off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from ..errors import AlreadyExistsError, InvalidInputError
from ..evaluation import Case, Contains, Evaluator, Exact, JsonFields, Judge, Matches, Report, areplay
from ..evaluation.case import case_of
from ..insight import RunFilters
from ..records import ANY_USER, JsonObject, Run
from .problems import Problem
from .serving import Server, View

logger = logging.getLogger("sessile.server")

KIND = "experiment"
"""The kind of the sessions that hold reports."""

MOST_CASES = 1000
"""How many cases one experiment has at most."""


@dataclass(eq=False)
class Experiment:
    """A replay in progress here.

    Attributes:
        name: by which it is found, and continued.
        total, done: how many cases there are, and how many are done.
        model: what it runs with, if not with the agent's own.
        chosen: which runs it is made of, as they were asked for.
        started_at: when it has begun; of one that is read from the storage, when its report was written.
        report: what has come of it, when it has.
        error: what has kept it from ending.
    """

    name: str
    agent: str
    total: int
    done: int = 0
    model: str | None = None
    chosen: JsonObject = field(default_factory=dict[str, Any])
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    report: JsonObject | None = None
    error: str | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> str:
        """`running`, `completed` or `failed`."""
        return "failed" if self.error else "running" if self.report is None else "completed"

    def to_json(self, *, report: bool = True) -> JsonObject:
        """As the API shows it."""
        shown: JsonObject = {
            "experiment": self.name,
            "agent": self.agent,
            "status": self.status,
            "done": self.done,
            "total": self.total,
            "error": self.error,
            **self.about(),
            "started_at": self.started_at.isoformat(timespec="microseconds"),
        }
        return {**shown, "report": self.report} if report else shown

    def about(self) -> JsonObject:
        """What it runs, and with what: kept with its session, so that lists can say it."""
        return {"model": self.model, "chosen": self.chosen}

    def move(self) -> None:
        """Tell those who watch that something has changed."""
        self.moved.set()
        self.moved = asyncio.Event()


def session_of(name: str) -> str:
    """The session that keeps an experiment's report."""
    return f"{KIND}:{name}"


async def cases_by(view: View, filters: RunFilters, whose: Any, limit: int) -> list[Case]:
    """The newest runs that match, as cases, oldest first."""
    found: list[Case] = []
    cursor: str | None = None
    while len(found) < limit:
        page = await view.index().aruns(user_id=whose, limit=min(100, limit), cursor=cursor, **filters)
        found += await asyncio.to_thread(_cases_of, view, list(page))
        cursor = page.next_cursor
        if cursor is None:
            break
    return found[:limit][::-1]


def _cases_of(view: View, runs: Sequence[Any]) -> list[Case]:
    return [case for run in runs if (case := case_of(view.storage, run)) is not None]


def evaluators_of(given: Sequence[JsonObject]) -> list[Evaluator]:
    """What judges, by a word for each kind."""
    made: list[Any] = []
    for one in given:
        kind = one["kind"]
        if kind == "exact":
            made.append(Exact())
        elif kind == "contains":
            made.append(Contains(one.get("text")))
        elif kind == "matches":
            made.append(Matches(_needed(one, "pattern")))
        elif kind == "json":
            made.append(JsonFields(*(one.get("fields") or ())))
        else:
            made.append(Judge(_needed(one, "model"), _needed(one, "rubric")))
    return made


def _needed(given: JsonObject, name: str) -> str:
    if not given.get(name):
        raise InvalidInputError(f"An evaluator of the kind {given['kind']!r} needs {name}.")
    return cast(str, given[name])


def begin(
    view: View,
    name: str,
    agent: str,
    cases: Sequence[Case],
    *,
    model: str | None,
    chosen: JsonObject,
    evaluators: Sequence[Evaluator],
    tools: Any,
    jobs: int,
    ttl: float | None,
) -> Experiment:
    """Begin an experiment in the background, or join the one of this name that is running here."""
    server = view.server
    known = server.experiments.get(name)
    if isinstance(known, Experiment) and known.status == "running":
        return known
    runner = view.runner(agent)
    made = server.experiments[name] = Experiment(name, agent, len(cases), model=model, chosen=chosen)

    async def work() -> None:
        def progress(done: int, total: int) -> None:
            made.done = done
            made.move()

        try:
            report = await areplay(
                runner,
                cases,
                evaluators=evaluators,
                experiment=name,
                tools=tools,
                model=model,
                jobs=jobs,
                storage=server.storage,
                ttl=ttl,
                progress=progress,
            )
            made.report = report.to_json()
            await _keep(server, made, report, ttl)
        except Exception as error:  # noqa: BLE001 (whatever it is, who watches is told)
            made.error = f"{type(error).__name__}: {error}"
            logger.warning("Experiment %s has failed: %s", name, error)
        finally:
            made.move()
            asyncio.get_running_loop().call_later(server.limits.kept_seconds, _forget, server, made)

    server.work.spawn(work())
    return made


def _forget(server: Server, made: Experiment) -> None:
    """From now on its report is read from the storage."""
    if server.experiments.get(made.name) is made:
        del server.experiments[made.name]


async def _keep(server: Server, made: Experiment, report: Report, ttl: float | None) -> None:
    """Write the report down, as the newest run of the experiment's session."""
    session_id = session_of(made.name)
    with suppress(AlreadyExistsError):  # it is continued
        about = {"cases": len(report.compared), **made.about()}
        await server.storage.acreate_session(
            session_id, kind=KIND, agent=made.agent, name=report.experiment, metadata=about, ttl=ttl
        )
    await server.storage.aadd_run(
        session_id,
        output=made.report,
        agent=made.agent,
        metadata={"cases": len(report.compared), **made.about()},
        user_id=ANY_USER,
    )


async def found(view: View, name: str) -> Experiment:
    """An experiment that is running here, or has a report; raises a problem (404)."""
    here = view.server.experiments.get(name)
    if isinstance(here, Experiment):
        return here
    runs = await view.storage.aruns(session_of(name), last=1, user_id=ANY_USER)
    if not runs:
        hint = "One that another process works on is there when it is done; ask for it again under its name."
        raise Problem(404, "no-such-experiment", f"There is no experiment {name!r} here.", hint=hint)
    return _kept(name, runs[0])


def _kept(name: str, run: Run) -> Experiment:
    report = cast(JsonObject, run.output)
    count = len(report["cases"])
    told = run.metadata
    chosen = cast(JsonObject, told.get("chosen") or {})  # reports of earlier versions do not say it
    return Experiment(name, run.agent or "", count, count, told.get("model"), chosen, run.started_at, report)
