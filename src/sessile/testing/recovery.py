"""Faults between a storage and its database: lost answers, failures, crashes half-way."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

from ..errors import SessileError, StorageError
from ..storage.core import Core
from ..storage.driver import Append, CommitRow
from ..storage.encoding import encode
from . import faults
from .checks import Area, ConformanceError, NotDeclaredError, Trial, expect, expect_equal, expect_error
from .samples import START, append_of, head_row
from .sessions import add_runs

area = Area("faults")


async def _inject(trial: Trial, plan: faults.Plan) -> None:
    async def operation(core: Core) -> None:
        await faults.wrap(core, plan)

    await trial.operate(operation)


async def _heal(trial: Trial) -> None:
    await trial.operate(faults.unwrap)


_CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("add_run", {"input": "x", "state": {"run": 1}}),
    ("update_state", {"patch": {"k": 2}}),
    ("rename", {"name": "new"}),
    ("set_metadata", {"metadata": {"k": 1}}),
    ("set_ttl", {"ttl": 3600}),
    ("rewind", {"at": 1}),
)
"""Changes of one session that are one commit each."""

FAULTS: tuple[tuple[faults.Fault, ...], ...] = (
    (faults.FAIL,),
    (faults.LOSE_ANSWER,),
    (faults.FAIL, faults.LOSE_ANSWER),
    (faults.FAIL, faults.FAIL, faults.FAIL),
)


@area.check()
async def changes_happen_once(trial: Trial) -> None:
    """After lost answers and failures every change is in the log exactly once, and was acknowledged."""
    await add_runs(trial, "s", 2)
    revision = 2
    for name, arguments in _CHANGES:
        for number, script in enumerate(FAULTS):
            fresh = {"patch": {"k": number, name: number}} if name == "update_state" else arguments
            fresh = {"metadata": {name: number}} if name == "set_metadata" else fresh
            await _inject(trial, faults.Script("append", script))
            await getattr(trial.do, name)("s", **fresh)
            await _heal(trial)
            revision += 1
            head = await trial.do.get_session("s")
            expect_equal(head.revision, revision, f"the revision after {name} with {[f.kind for f in script]}")
            expect_equal(await trial.do.verify("s"), revision, "commits")
    expect_equal(len(await trial.do.runs("s", from_run=1)), 1, "runs after rewinding to the first")
    expect_equal((await trial.do.get_session("s")).run_count, 2 + len(FAULTS), "runs on all branches")


@area.check()
async def sessions_are_made_and_deleted_once(trial: Trial) -> None:
    """A session whose making lost its answer is there; one whose deleting did is gone."""
    for number, script in enumerate(FAULTS):
        await _inject(trial, faults.Script("append", script))
        made = await trial.do.create_session(f"s{number}")
        await _heal(trial)
        expect_equal(await trial.do.get_session(f"s{number}"), made, "a session that was made with a lost answer")
        await _inject(trial, faults.Script("append", script))
        expect_equal(await trial.do.delete(f"s{number}"), True, "delete with a lost answer")
        await _heal(trial)
        expect_equal(await trial.do.get_session(f"s{number}"), None, "a session that was deleted with a lost answer")
    expect_equal(await trial.do.count_sessions(), 0, "sessions that are left")


@area.check()
async def lost_answers_among_rivals(trial: Trial) -> None:
    """Answers are lost and rivals write meanwhile: everything acknowledged is there once."""
    plan = faults.Random(trial.subject.scale.seed)
    await trial.do.create_session("s")
    await _inject(trial, plan)

    async def write(writer: int) -> list[str]:
        for number in range(10):
            await trial.do.add_run("s", run_id=f"{writer}-{number}", state={f"w{writer}": number})
        return [f"{writer}-{number}" for number in range(10)]

    def start(writer: int) -> Any:
        return lambda: write(writer)

    acknowledged = await trial.together(*[start(writer) for writer in range(4)])
    await _heal(trial)
    runs = await trial.do.runs("s", from_run=1)
    wanted = sorted(run_id for written in acknowledged for run_id in written)
    expect_equal(sorted(run.run_id for run in runs), wanted, "acknowledged runs")
    expect_equal((await trial.do.get_session("s")).state, {f"w{writer}": 9 for writer in range(4)}, "state")
    expect_equal(await trial.do.verify("s"), 41, "commits")


@area.check()
async def refused_writes_are_told(trial: Trial) -> None:
    """A write that the database refuses is an error at once, and nothing is written."""
    await add_runs(trial, "s", 1)
    before = await trial.do.get_session("s")
    await _inject(trial, faults.Always("append", faults.REFUSE))
    for name, arguments in (*_CHANGES, ("delete", {}), ("fork", {"session_id": "f"})):
        error = await expect_error(StorageError, getattr(trial.do, name)("s", **arguments), name)
        expect_equal(error.written, "no", f"what {name} says about the write")
    await _heal(trial)
    expect_equal(await trial.do.get_session("s"), before, "the session after refused writes")
    expect_equal(await trial.do.get_session("f"), None, "a fork that was refused")


class _AfterLostAnswer:
    """Loses the answer of the first append, and lets the `failures` reads that follow fail."""

    def __init__(self, reads: tuple[str, ...], fault: faults.Fault, failures: int) -> None:
        self.reads, self.fault, self.failures = reads, fault, failures
        self.lost = False

    def __call__(self, operation: str) -> faults.Fault | None:
        if operation == "append" and not self.lost:
            self.lost = True
            return faults.LOSE_ANSWER
        if self.lost and operation in self.reads and self.failures > 0:
            self.failures -= 1
            return self.fault
        return None


@area.check()
async def lost_answers_are_looked_for(trial: Trial) -> None:
    """After a lost answer the log is read again and again until it can be read."""
    await trial.do.create_session("s")
    for number, reads in enumerate((("load",), ("entries",), ("load", "entries")), 1):
        await _inject(trial, _AfterLostAnswer(reads, faults.FAIL, 3))
        run = await trial.do.add_run("s", run_id=f"r{number}")
        await _heal(trial)
        expect_equal((run.number, run.run_id), (number, f"r{number}"), f"a run after {reads} failed")
    expect_equal(await trial.do.verify("s"), 4, "commits")


@area.check()
async def unknown_outcomes_are_told(trial: Trial) -> None:
    """When neither the write's answer nor the log can be had, the error says that the outcome is unknown."""
    await trial.do.create_session("s")
    for number, reads in enumerate((("load", "entries"), ("load",)), 1):
        await _inject(trial, _AfterLostAnswer(reads, faults.REFUSE, 1000))
        error = await expect_error(StorageError, trial.do.add_run("s", run_id=f"r{number}"), "add_run")
        expect_equal(error.written, "unknown", f"what the error says about the write when {reads} fail")
        await _heal(trial)
        expect_equal(len(await trial.do.runs("s")), number, "runs, with those whose outcome was unknown")


@area.check()
async def failing_reads_are_told(trial: Trial) -> None:
    """A read that fails is an error, never an absent session or an empty list; a write on top of it is none."""
    await add_runs(trial, "s", 3)
    await trial.do.create_session("hers", user_id="ada")
    reads: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
        ("get_session", ("s",), {}),
        ("runs", ("s",), {}),
        ("get_run", ("s", 1), {}),
        ("messages", ("s",), {"last_runs": 1}),
        ("branches", ("s",), {}),
        ("entries", ("s",), {}),
        ("verify", ("s",), {}),
        ("sessions", (), {}),
        ("count_sessions", (), {}),
        ("media", ("s", "0" * 64), {}),
        ("create_session", ("s",), {}),
        ("add_run", ("s",), {}),
        ("delete", ("s",), {}),
        ("delete_user", ("ada",), {}),
        ("sweep", (), {}),
    )
    for fault in (faults.REFUSE, faults.FAIL):
        await _inject(trial, faults.Always("reads", fault))
        for name, args, kwargs in reads:
            await expect_error(StorageError, getattr(trial.do, name)(*args, **kwargs), f"{name} that cannot read")
    await _heal(trial)
    head = await trial.do.get_session("s")
    expect_equal((head.revision, head.run_count), (3, 3), "the session after operations that could not read")


@area.check()
async def a_broken_database_is_told(trial: Trial) -> None:
    """When the database itself fails, every read of the driver raises a `StorageError`; none answers "absent"."""
    await add_runs(trial, "s", 1)
    head = await trial.do.get_session("s")
    if not trial.subject.break_database(trial.storage):
        raise NotDeclaredError("break_database()")
    driver = trial.driver
    await expect_error(StorageError, driver.load("s", 1), "load on a broken database")
    await expect_error(StorageError, driver.load("absent"), "load on a broken database")
    await expect_error(StorageError, driver.entries("s", head.incarnation), "entries on a broken database")
    await expect_error(StorageError, driver.list(), "list on a broken database")
    await expect_error(StorageError, driver.count(), "count on a broken database")
    await expect_error(StorageError, driver.get_record("s", head.incarnation, "k"), "get_record on a broken database")
    await expect_error(StorageError, trial.do.get_session("s"), "session on a broken database")


PRIVATE = "pelican-7b1f"
"""A text of a conversation. Written here once, because tracebacks show lines of code too."""

_DAMAGED: tuple[Any, ...] = (
    PRIVATE,
    [PRIVATE],
    [{"kind": "session.created", "data": PRIVATE}],
    [{"kind": "run.started", "run_id": "r", "run": 1, "data": {"input": PRIVATE, "status": PRIVATE, "times": PRIVATE}}],
    [{"kind": "run.ended", "run_id": "r", "run": PRIVATE, "data": {"status": PRIVATE, "usage": PRIVATE}}],
)
"""What an entry, or all entries, of a commit should not be."""


@area.check()
async def errors_tell_nothing_of_conversations(trial: Trial) -> None:
    """Whatever is refused or damaged: no text of a session is in the error, in its traceback, or in the logs."""
    do, text = trial.do, PRIVATE
    said = {"messages": [{"text": text}], "format": "test/1"}
    run = {"input": text, "output": text, **said, "state": {"k": text}, "metadata": {"k": text}}
    await do.create_session("s", name=text)
    await do.add_run("s", **run)
    with _listening() as logged:
        await _expect_untold(lambda: do.add_run("s", input=text * 2_000_000), "a commit that is too large")
        await _expect_untold(lambda: do.update_state("s", {"k": text * 30_000}), "a state that is too large")
        await _expect_untold(lambda: do.update_state("s", {"k": {text}}), "a state that is not JSON")
        await _expect_untold(lambda: do.set_metadata("s", {"k": {(text,): 1}}), "metadata with a key that is no text")
        await _expect_untold(lambda: do.rename("s", text * 30), "a name that is too long")
        await _expect_untold(lambda: do.create_session("s", name=text, state={"k": text}), "a session that is there")
        for number, entries in enumerate(_DAMAGED):
            await _append_damaged(trial, f"damaged {number}", entries)
            await _expect_untold(lambda: do.verify(f"damaged {number}"), f"verifying damage {number}")  # noqa: B023
        for session_id, error in (await do.sessions()).unreadable.items():
            _check_untold(error, f"a list with {session_id}")
        if trial.subject.break_database(trial.storage):
            await _expect_untold(lambda: do.add_run("s", **run), "a write to a broken database")
            write = append_of("t", text=text, name=text, metadata={"k": text}, state={"k": text})
            await _expect_untold(lambda: trial.driver.append(write), "an append to a broken database")
        trial.storage.close()
        await _expect_untold(lambda: do.add_run("s", **run), "a write to a closed storage")
    expect(PRIVATE not in "\n".join(logged), f"a text of a session is in the logs: {logged}")


async def _append_damaged(trial: Trial, session_id: str, entries: Any) -> None:
    body = encode({"version": 1, "writer": PRIVATE, "entries": entries})
    commit = CommitRow(1, f"commit of {session_id}", 0, START, body)
    head = head_row(session_id, name=PRIVATE, metadata={"k": PRIVATE})
    head = head._replace(body=encode({"version": 1, "state": PRIVATE, "ttl": PRIVATE, "usage": PRIVATE}))
    expect(await trial.driver.append(Append(session_id, "i1", 0, (commit,), head)), "a damaged commit is stored")


async def _expect_untold(action: Callable[[], Awaitable[Any]], what: str) -> None:
    try:
        await action()
    except SessileError as error:
        _check_untold(error, what)
    else:
        raise ConformanceError(f"{what} was not refused.")


def _check_untold(error: BaseException, what: str) -> None:
    """Nothing is told by the traceback, nor by causes and contexts that it leaves out, which other tools show."""
    told = ["".join(traceback.format_exception(error))]
    todo, seen = [error], list[BaseException]()
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.append(one)
            told += [str(one), repr(one)]
            todo += [below for below in (one.__cause__, one.__context__) if below is not None]
    for text in told:
        expect(PRIVATE not in text, f"{what} tells a text of a session: {text}")


@contextmanager
def _listening() -> Generator[list[str]]:
    """All that is logged meanwhile."""
    logged: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(self.format(record))

    logger, listener = logging.getLogger("sessile"), Listener()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield logged
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


@area.check()
async def crashes_leave_all_or_nothing(trial: Trial) -> None:
    """A process that is gone before or after its append leaves the change whole or not at all."""
    await add_runs(trial, "s", 1)
    revision = 1
    for name, arguments in _CHANGES:
        for fault, commits in ((faults.CRASH_BEFORE, 0), (faults.CRASH_AFTER, 1)):
            await _inject(trial, faults.Script("append", [fault]))
            await _expect_crash(trial, name, "s", **arguments)
            revision += commits
            expect_equal(await trial.do.verify("s"), revision, f"commits after {fault.kind} in {name}")


async def _expect_crash(trial: Trial, operation: str, *args: Any, **kwargs: Any) -> None:
    try:
        await getattr(trial.do, operation)(*args, **kwargs)
    except faults.SimulatedCrash:
        await _heal(trial)
        return
    raise ConformanceError(f"{operation} went on although its process was gone.")


@area.check()
async def crashes_in_delete(trial: Trial) -> None:
    """A session is gone as soon as its deletion is committed; its id is free, and `sweep` removes what is left."""
    for session_id in ("a", "b"):
        await add_runs(trial, session_id, 2, state={"old": True})
        await _inject(trial, faults.Script("delete", [faults.CRASH_BEFORE]))
        await _expect_crash(trial, "delete", session_id)
        expect_equal(await trial.do.get_session(session_id), None, "a session whose deletion was committed")
        expect_equal(await trial.do.count_sessions(), 0, "sessions after the deletion was committed")
    await trial.do.add_run("a", input="new")
    head = await trial.do.get_session("a")
    expect_equal((head.run_count, head.state), (1, {}), "a session of the id of a half-deleted one")
    expect_equal(await trial.do.sweep(), 1, "what sweep removes")
    expect_equal(await trial.driver.load("b"), None, "what sweep left")
    expect_equal(await trial.do.get_session("a"), head, "the new session after sweep")


@area.check()
async def crashes_in_fork(trial: Trial) -> None:
    """A fork that is not complete is seen by nobody; `sweep` removes it when it is old, and its id is free again."""
    await add_runs(trial, "s", 3)
    for calls in range(6):
        await _inject(trial, faults.Script("append", [None] * calls + [faults.CRASH_AFTER]))
        try:
            await trial.do.fork("s", session_id="f")
        except faults.SimulatedCrash:
            await _heal(trial)
            if await trial.do.get_session("f") is None:
                expect_equal(await trial.do.count_sessions(), 1, "sessions while a fork is half made")
                expect_equal(await trial.do.sweep(), 0, "sweep leaves forks in the making alone")
                expect_equal(await trial.do.sweep(abandoned_after=0), 1, "sweep removes abandoned forks")
                continue
        await _heal(trial)
        break
    expect_equal(len(await trial.do.runs("f")), 3, "runs of the complete fork")
    await trial.do.verify("f")
    expect(await trial.do.delete("f"), "the fork is deleted")


@area.check()
async def writers_lose_nothing(trial: Trial) -> None:
    """16 writers on one session: every run once, numbers dense, every read a prefix, every key of the state kept."""
    await trial.do.create_session("s")
    writers, count = 16, 5
    done: list[int] = []
    broken: list[str] = []

    async def write(writer: int) -> None:
        try:
            for number in range(count):
                await trial.do.add_run("s", run_id=f"{writer}-{number}", state={f"w{writer}": number})
        finally:
            done.append(writer)

    async def read() -> None:
        seen: list[str] = []
        while len(done) < writers and not broken:
            runs = await trial.do.runs("s", from_run=1)
            ids = [run.run_id for run in runs]
            if ids[: len(seen)] != seen or [run.number for run in runs] != list(range(1, len(ids) + 1)):
                broken.append(f"a read brought {ids} after {seen}")
            seen = ids

    def start(writer: int) -> Any:
        return lambda: write(writer)

    await trial.together(*[start(writer) for writer in range(writers)], read)
    expect(not broken, "; ".join(broken))
    found = [run.run_id for run in await trial.do.runs("s", from_run=1)]
    wanted = sorted(f"{writer}-{number}" for writer in range(writers) for number in range(count))
    expect_equal(sorted(found), wanted, "runs of all writers")
    expect_equal(
        (await trial.do.get_session("s")).state, {f"w{writer}": count - 1 for writer in range(writers)}, "state"
    )
    expect_equal(await trial.do.verify("s"), 1 + writers * count, "commits")
