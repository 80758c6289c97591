"""Running an agent again over stored runs: each in a copy of its session as it was at that run."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from typing import Any, Literal, cast

from ..agents.agent import Agent
from ..agents.messages.stored import load_input
from ..agents.team.team import Team
from ..errors import (
    AlreadyExistsError,
    InvalidInputError,
    NotResumableError,
    RunNotFoundError,
    SessileError,
    SessionNotFoundError,
)
from ..records import ANY_USER, Duration, JsonObject, Run
from ..storage import Storage
from ..storage.checks import check_choice, check_count
from ..storage.faces import background
from ..storage.ids import check_id, uuid7
from ..workflows import Workflow
from .case import REPLAYED, Case, Replayed, before, replayed_of
from .evaluators import Evaluator, Outcome, check_evaluators, judged
from .logged import LoggedTools
from .report import Compared, Report

Tools = Literal["live", "log"]
Progress = Callable[[int, int], Any]

RUN_ID = "replay"
"""The id of a run that is a replay: so that it is made once, whatever crashes."""


def replay(
    agent: Agent[Any] | Team[Any] | Workflow[Any],
    cases: Sequence[Case],
    *,
    evaluators: Sequence[Evaluator] = (),
    experiment: str | None = None,
    tools: Tools = "live",
    model: Any = None,
    jobs: int = 4,
    storage: Storage | None = None,
    ttl: Duration | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run an agent again over stored runs, judge what comes of it, and compare.

    Each case runs in a session of its own: a fork of the session as it was before that run, with its history and its
    state, which `Session.forked_from` and its metadata (`replay`) link to the old one. It is the same user's. What
    evaluators say is stored as feedback on the new runs, with the evaluator's name as the source.

    A case whose run fails, pauses or cannot be begun counts as a failure with the score 0, and so does an evaluator
    that raises. Calling it again with the same `experiment` goes on where it was: runs that were made are not made
    again, nor judged again.

    ```python
    report = replay(agent, cases(storage, user_id=ANY_USER, label="good"), evaluators=[Exact()], tools="log")
    ```

    Args:
        agent: an agent, a team or a workflow.
        cases: which runs, as `cases` finds them.
        evaluators: what says how good an answer is: `Exact`, `Contains`, `Matches`, `JsonFields`, `Judge`, functions,
            or those of pydantic_evals.
        experiment: a name for it, by which it can be continued. Default: a new one.
        tools: `"live"`: tools are called; `"log"` (of an agent): they are answered from the log, and a call that is not
            there fails the case.
        model: of an agent or a team: which model is asked in place of its own.
        jobs: how many cases run at once.
        storage: where the runs are. Default: the agent's storage.
        ttl: after how long the sessions of the experiment expire.
        progress: is called with how many cases are done, and of how many.

    Raises:
        InvalidInputError: an argument is wrong, or there is no storage.
    """
    return background.run(
        areplay(
            agent,
            cases,
            evaluators=evaluators,
            experiment=experiment,
            tools=tools,
            model=model,
            jobs=jobs,
            storage=storage,
            ttl=ttl,
            progress=progress,
        )
    )


async def areplay(
    agent: Agent[Any] | Team[Any] | Workflow[Any],
    cases: Sequence[Case],
    *,
    evaluators: Sequence[Evaluator] = (),
    experiment: str | None = None,
    tools: Tools = "live",
    model: Any = None,
    jobs: int = 4,
    storage: Storage | None = None,
    ttl: Duration | None = None,
    progress: Progress | None = None,
) -> Report:
    """As `replay`, for asynchronous callers."""
    check_choice(tools, "tools", ("live", "log"))
    check_count(jobs, "jobs", least=1)
    named = check_evaluators(evaluators)
    meant: Storage | None = agent.storage if storage is None else storage
    if meant is None:
        raise InvalidInputError("The agent has no storage.", hint="Pass the one that has the runs: storage=…")
    if tools == "log" and (isinstance(agent, (Team, Workflow))):
        raise InvalidInputError("Only the tools of an agent can be answered from the log.")
    if model is not None and isinstance(agent, Workflow):
        raise InvalidInputError("A workflow has no model of its own.")
    experiment = uuid7() if experiment is None else check_id(experiment, "experiment")
    made = _Replay(_with_storage(agent, meant), meant, experiment, named, tools == "log", ttl, model)
    gate, done = asyncio.Semaphore(jobs), 0

    async def one(case: Case) -> Compared:
        nonlocal done
        async with gate:
            compared = await made.compare(case)
        done += 1
        if progress is not None:
            progress(done, len(cases))
        return compared

    tasks = [asyncio.ensure_future(one(case)) for case in cases]
    try:
        return Report(experiment, list(await asyncio.gather(*tasks)))
    finally:
        for task in tasks:
            task.cancel()  # those that are running when another one, or the caller, has broken it off
        await asyncio.gather(*tasks, return_exceptions=True)


def _with_storage(agent: Any, storage: Storage) -> Any:
    if agent.storage is storage:
        return agent
    own = copy(agent)
    own.storage = storage
    return own


class _Replay:
    """One experiment."""

    def __init__(
        self,
        agent: Any,
        storage: Storage,
        experiment: str,
        evaluators: dict[str, Any],
        logged: bool,
        ttl: Duration | None,
        model: Any,
    ) -> None:
        self._agent, self._storage, self._experiment = agent, storage, experiment
        self._evaluators, self._logged, self._ttl, self._model = evaluators, logged, ttl, model

    async def compare(self, case: Case) -> Compared:
        """Run a case again, judge both runs, and store what is said of the new one."""
        old = replayed_of(case.session_id, case.run)
        new, run = await self._again(case)
        if run is not None:
            known = {one.source: one for one in run.ratings}
            for name in self._evaluators:
                if name in known and known[name].by == self._experiment:
                    rating = known[name]
                    said = {"score": rating.score, "label": rating.label, "reason": rating.comment}
                    new.verdicts[name] = {key: value for key, value in said.items() if value is not None}
        await self._judge(case, old)
        await self._judge(case, new)
        if run is not None:
            await self._store(new, {one.source for one in run.ratings})
        return Compared(case, old, new)

    async def _again(self, case: Case) -> tuple[Replayed, Run | None]:
        session_id = self._session_of(case)
        try:
            await self._prepare(case, session_id)
            await self._ask(case, session_id)
        except SessileError as error:
            return await self._failed(session_id, case, error)
        except Exception as error:  # noqa: BLE001 (whatever a model or a tool raises is this case's failure)
            return await self._failed(session_id, case, error)
        return await self._stored(session_id, case)

    async def _prepare(self, case: Case, session_id: str) -> None:
        """The copy of the session as it was before the run; one that is there is continued."""
        there = await self._storage.aget_session(session_id, user_id=ANY_USER)
        if there is None:
            await self._fork(case, session_id)
        elif "replay" in there.metadata:
            return
        link = {"experiment": self._experiment, "session_id": case.session_id, "run": case.number}
        await self._storage.aset_metadata(session_id, {"replay": link}, user_id=ANY_USER)
        if self._ttl is not None:
            await self._storage.aset_ttl(session_id, self._ttl, user_id=ANY_USER)

    async def _fork(self, case: Case, session_id: str) -> None:
        head = await self._storage.aget_session(case.session_id, user_id=ANY_USER)
        if head is None:
            raise SessionNotFoundError(f"There is no session {case.session_id!r} any more.")
        at = before(head, case.number)
        title = f"Replay of {case.session_id} run {case.number}: {self._experiment}"[:200]
        with suppress(AlreadyExistsError):  # another process is at the same case
            await self._storage.afork(case.session_id, at=at, session_id=session_id, name=title, user_id=ANY_USER)

    async def _ask(self, case: Case, session_id: str) -> None:
        where: dict[str, Any] = {"session_id": session_id, "user_id": case.user_id, "run_id": RUN_ID}
        if isinstance(self._agent, Workflow):
            flow = cast("Workflow[Any]", self._agent)
            given = cast(JsonObject, case.input) if isinstance(case.input, dict) else {}
            await flow.arun(**where, **given)
            return

        async def media(digest: str) -> bytes:
            return await self._storage.amedia(case.session_id, digest, user_id=ANY_USER)

        options: dict[str, Any] = {} if self._model is None else {"model": self._model}
        if self._logged:
            options["capabilities"] = [LoggedTools(uses=replayed_of(case.session_id, case.run).tools)]
        await self._agent.arun(await load_input(case.input, media), **where, **options)

    async def _stored(self, session_id: str, case: Case) -> tuple[Replayed, Run | None]:
        """The run as it is stored: the last one of its session."""
        head = await self._storage.aget_session(session_id, user_id=ANY_USER)
        if head is None or not head.run_count:
            raise RunNotFoundError(f"The replay of {case.id} is gone.")
        run = await self._storage.aget_run(session_id, head.run_count, user_id=ANY_USER)
        new = replayed_of(session_id, run)
        if run.status == "paused":
            new.error = "It waits for a decision."
        return new, run

    async def _failed(self, session_id: str, case: Case, error: Exception) -> tuple[Replayed, Run | None]:
        """A case that failed: what is stored of it, and why."""
        said = f"{type(error).__name__}: {error}"
        try:
            new, run = await self._stored(session_id, case)
        except SessileError:
            new, run = Replayed(session_id, 0, "failed"), None
        if run is not None and run.run_id != RUN_ID:  # it did not begin: that is the last run of the copied history
            new, run = Replayed(session_id, 0, "failed"), None
        if not new.failed and not isinstance(error, NotResumableError):
            new = replace(new, status="failed")
        new.error = new.error or said
        return new, run

    def _session_of(self, case: Case) -> str:
        """The id of a case's session: the same whenever the experiment is continued."""
        which = f"{case.session_id}\0{case.run_id}".encode("utf-8", "surrogatepass")
        name = hashlib.blake2s(f"{self._experiment}\0".encode() + which, digest_size=12).hexdigest()
        return f"{REPLAYED}{name}"

    async def _judge(self, case: Case, result: Replayed) -> None:
        if result.failed:
            for name in self._evaluators:
                result.verdicts[name] = {"score": 0.0, "reason": f"The run is {result.status}."}
            return
        outcome = Outcome(case, case.input, result.output, case.expected, result)
        for name, evaluator in self._evaluators.items():
            if name not in result.verdicts:
                result.verdicts |= await judged(name, evaluator, outcome)

    async def _store(self, new: Replayed, known: set[str]) -> None:
        """Write down as feedback what was said of a new run."""
        for name, said in new.verdicts.items():
            if name not in known and said:
                await self._storage.arate(
                    new.session_id,
                    new.number,
                    score=said.get("score"),
                    label=said.get("label"),
                    comment=said.get("reason"),
                    by=self._experiment,
                    source=name,
                    user_id=ANY_USER,
                )
