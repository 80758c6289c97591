"""What cannot be read, or is over a limit, costs only itself, and can be deleted like anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import NewerVersionError, TooLargeError
from ..records import ANY_USER
from ..storage.absence import as_row
from ..storage.core import Core
from ..storage.driver import Append
from .checks import Area, Trial, expect, expect_equal, expect_error
from .samples import START, append_of
from .sessions import add_runs

area = Area("damage")

_NEWER = '"version":9999'


async def _newer(trial: Trial, session_id: str, **fields: Any) -> None:
    """A session of one commit that a newer version has made, head and log."""
    write = append_of(session_id, **fields)
    head = write.head._replace(body=write.head.body.replace('"version":1', _NEWER, 1))
    commits = tuple(row._replace(body=row.body.replace('"version":1', _NEWER, 1)) for row in write.commits)
    expect(await trial.driver.append(Append(session_id, "i1", 0, commits, head)), "a session of a newer version")


@area.check()
async def newer_sessions_are_named_and_deleted(trial: Trial) -> None:
    """A session of a newer version is named in lists beside the others, and deleted by whom it belongs to."""
    await _newer(trial, "newer", user_id="ada")
    await trial.do.create_session("mine", user_id="ada")
    page = await trial.do.sessions(user_id="ada")
    expect_equal([head.session_id for head in page], ["mine"], "sessions that can be read")
    expect_equal(list(page.unreadable), ["newer"], "sessions that cannot")
    await expect_error(NewerVersionError, trial.do.get_session("newer", user_id="ada"), "reading it")
    expect_equal(await trial.do.delete("newer"), False, "deleting it without its user")
    expect_equal(await trial.do.delete("newer", user_id="ada"), True, "deleting it")
    expect_equal(await trial.driver.load("newer", 0), None, "the session after that")
    await _newer(trial, "newer", user_id="ada")
    expect_equal(await trial.do.delete_user("ada"), 2, "sessions of the user that were deleted")
    expect_equal(await trial.do.count_sessions(user_id=ANY_USER), 0, "sessions that are left")


@area.check()
async def newer_sessions_expire(trial: Trial) -> None:
    """An expired session of a newer version is absent, is swept, and leaves its id to whoever wants it."""
    for session_id in ("swept", "made again"):
        await _newer(trial, session_id, expires_at=START, ttl=1)
    expect_equal(await trial.do.get_session("made again"), None, "an expired session")
    run = await trial.do.add_run("made again", output="x")
    expect_equal((run.number, await trial.do.verify("made again")), (1, 1), "the session that was made in its place")
    expect_equal(await trial.do.sweep(), 1, "sessions that were swept")
    expect_equal(await trial.driver.load("swept", 0), None, "the session that was swept")


@area.check()
async def a_newer_commit_costs_its_run(trial: Trial) -> None:
    """Of the runs of a session the one that a newer version wrote is named, and the others are there."""
    await add_runs(trial, "s", 2)
    loaded = await trial.driver.load("s", 1)
    assert loaded is not None
    (row,) = loaded.commits
    body = row.body.replace('"version":1', _NEWER, 1).replace('"run":2', '"run":3')
    newer = row._replace(seq=3, commit_id="newer", run=3, body=body, key=None)
    head = as_row(replace(await trial.do.get_session("s"), revision=3, run_count=3, tip=3))
    expect(await trial.driver.append(Append("s", head.incarnation, 2, (newer,), head)), "a commit of a newer version")
    await trial.do.add_run("s", output="after")
    for found in (await trial.do.runs("s"), (await trial.do.get_session("s", last_runs=4)).runs):
        expect_equal(([run.number for run in found], list(found.unreadable)), ([1, 2, 4], [3]), "runs, and what is not")
    expect_equal(list((await trial.do.messages("s")).unreadable), [3], "runs whose messages cannot be read")
    entries = await trial.do.entries("s")
    expect_equal((entries[-1].seq, list(entries.unreadable)), (4, [3]), "entries, and commits that cannot be read")
    await expect_error(NewerVersionError, trial.do.get_run("s", 3), "reading the run")


@area.check()
async def limits_never_keep_from_deleting(trial: Trial) -> None:
    """A session over a limit can be renamed, rewound, made smaller, swept and deleted; it only may not grow."""
    for session_id in ("s", "t", "u"):
        await trial.do.create_session(session_id, state={"a": "x" * 2_000, "b": "y" * 2_000})
        await trial.do.add_run(session_id)

    async def lower(core: Core) -> None:
        core.settings = replace(core.settings, max_state_bytes=100, max_metadata_bytes=10, max_commit_bytes=600)

    await trial.operate(lower)
    for state in ({"a": "z" * 2_001}, {"c": "some more"}):
        await expect_error(TooLargeError, trial.do.update_state("s", state), "a state that grows")
    await expect_error(TooLargeError, trial.do.update_state("s", {"a": "z" * 700}), "a commit over its limit")
    await trial.do.update_state("s", remove=["a"])
    await trial.do.rename("s", "n" * 255)
    await trial.do.rewind("s", at=0)
    await trial.do.set_ttl("s", 0)
    await trial.do.set_ttl("t", 0)
    expect_equal(await trial.do.sweep(), 2, "sessions that were swept")
    expect_equal(await trial.do.delete("u"), True, "deleting a session over the limits")
    expect_equal(await trial.do.count_sessions(), 0, "sessions that are left")
