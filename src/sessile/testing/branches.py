"""Branches, forks, the log, media and open runs, through the synchronous and asynchronous methods."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from ..errors import (
    AlreadyExistsError,
    CorruptDataError,
    LeaseLostError,
    NotResumableError,
    RunNotFoundError,
    SessionBusyError,
    SessionNotFoundError,
)
from ..records import Branch, Entry, Run, Status, Usage
from ..storage import erasing, files, taking, turns
from ..storage.core import Core
from ..storage.turns import Turn, TurnSpec
from ..storage.vocabulary import ERASED, FileWritten, MessageAdded, RunEnded
from .checks import Area, Trial, expect, expect_equal, expect_error
from .sessions import add_runs, texts, with_settings

area = Area("branches")


def _inputs(runs: list[Run]) -> list[Any]:
    return [run.input for run in runs]


# ---------------------------------------------------------------- rewinding


@area.check()
async def rewinding_makes_a_branch(trial: Trial) -> None:
    """The next run follows the run that was rewound to; what was left stays, and can be returned to."""
    await add_runs(trial, "s", 3)
    head = await trial.do.rewind("s", at=1)
    expect_equal((head.tip, head.run_count), (1, 3), "tip and run_count")
    expect_equal(texts(await trial.do.messages("s")), ["1?", "1!"], "messages after rewinding")
    run = await trial.do.add_run("s", input="other")
    expect_equal(run.number, 4, "the number of the run on the new branch")
    expect_equal(_inputs(await trial.do.runs("s")), [1, "other"], "runs of the new branch")
    wanted = [Branch(tip=3, runs=3, current=False), Branch(tip=4, runs=2, current=True)]
    expect_equal(await trial.do.branches("s"), wanted, "branches")
    expect_equal((await trial.do.get_run("s", 2)).input, 2, "a run of the branch that was left")
    await trial.do.rewind("s", at=3)
    expect_equal(_inputs(await trial.do.runs("s")), [1, 2, 3], "runs of the branch that was returned to")
    await trial.do.add_run("s", input="more")
    expect_equal(_inputs(await trial.do.runs("s", last=2)), [3, "more"], "the last runs of that branch")
    expect_equal([branch.tip for branch in await trial.do.branches("s")], [4, 5], "tips")
    await trial.do.verify("s")


@area.check()
async def rewinding_restores_the_state(trial: Trial) -> None:
    """The state becomes what it was after that run, whatever changed it since; or stays, if asked to."""
    await trial.do.create_session("s", state={"first": True})
    for number in (1, 2, 3):
        await trial.do.add_run("s", input=number, state={"step": number, f"k{number}": [number]})
    await trial.do.update_state("s", {"step": None, "late": 1})
    await trial.do.rewind("s", at=2, restore_state=False)
    expect_equal((await trial.do.get_session("s")).state["late"], 1, "state that was to stay")
    for at, wanted in (
        (2, {"first": True, "step": 2, "k1": [1], "k2": [2]}),
        (1, {"first": True, "step": 1, "k1": [1]}),
        (0, {"first": True}),
        (3, {"first": True, "step": 3, "k1": [1], "k2": [2], "k3": [3]}),
    ):
        head = await trial.do.rewind("s", at=at)
        expect_equal(head.state, wanted, f"state after rewinding to {at}")
        expect_equal(await trial.do.get_session("s"), head, "the session after rewinding")
    await trial.do.verify("s")


@area.check()
async def rewinding_to_the_beginning(trial: Trial) -> None:
    """Run 0 is before the first: an empty branch, whose next run has no history."""
    await add_runs(trial, "s", 2)
    await trial.do.rewind("s", at=0)
    expect_equal(await trial.do.runs("s"), [], "runs of an empty branch")
    await trial.do.add_run("s", input="fresh")
    expect_equal(_inputs(await trial.do.runs("s")), ["fresh"], "runs of the new branch")
    await expect_error(RunNotFoundError, trial.do.rewind("s", at=4), "rewinding to a run that is not there")


# ---------------------------------------------------------------- forks


@area.check()
async def forks_are_independent(trial: Trial) -> None:
    """A fork has the runs up to its point, the state as it was there, and a life of its own."""
    made = {"user_id": "ada", "agent": "support", "name": "Capitals", "metadata": {"plan": "pro"}}
    await trial.do.create_session("s", **made)
    for number in (1, 2, 3):
        messages = [{"text": f"{number}?"}, {"text": f"{number}!"}]
        usage = Usage(requests=1)
        await trial.do.add_run(
            "s", input=number, format="test/1", messages=messages, state={"step": number}, usage=usage, user_id="ada"
        )
    before = await trial.do.get_session("s", user_id="ada")
    fork = await trial.do.fork("s", at=2, session_id="f", user_id="ada")
    expect_equal(await trial.do.get_session("f", user_id="ada"), fork, "the fork")
    columns = (fork.user_id, fork.agent, fork.name, fork.metadata, fork.forked_from)
    wanted = ("ada", "support", "Capitals", {"plan": "pro"}, {"session_id": "s", "run": 2})
    expect_equal(columns, wanted, "columns of a fork")
    expect_equal((fork.state, fork.run_count, fork.usage), ({"step": 2}, 2, Usage()), "state, runs, usage")
    expect_equal(texts(await trial.do.messages("f", user_id="ada")), ["1?", "1!", "2?", "2!"], "messages of the fork")
    run = await trial.do.add_run("f", input="other", state={"step": "f"}, user_id="ada")
    expect_equal(run.number, 3, "the number of the next run of the fork")
    expect_equal(await trial.do.get_session("s", user_id="ada"), before, "the session that was forked")
    await trial.do.delete("s", user_id="ada")
    expect_equal(
        _inputs(await trial.do.runs("f", user_id="ada")), [1, 2, "other"], "runs of the fork of a deleted session"
    )
    await trial.do.verify("f", user_id="ada")


@area.check()
async def forks_of_a_branch(trial: Trial) -> None:
    """A fork follows the branch that its point lies on, numbers its runs anew, and takes a new id by itself."""
    await add_runs(trial, "s", 3)
    await trial.do.rewind("s", at=1)
    await add_runs(trial, "s", 1)
    expected: list[tuple[int | None, list[int]]] = [(None, [1, 4]), (3, [1, 2, 3]), (0, []), (4, [1, 4])]
    for at, wanted in expected:
        fork = await trial.do.fork("s", at=at)
        runs = await trial.do.runs(fork.session_id)
        expect_equal(_inputs(runs), wanted, f"runs of the fork at {at}")
        expect_equal([run.number for run in runs], list(range(1, len(wanted) + 1)), "their numbers")
        await trial.do.verify(fork.session_id)
    await expect_error(AlreadyExistsError, trial.do.fork("s", session_id="s"), "fork onto itself")
    await expect_error(RunNotFoundError, trial.do.fork("s", at=5), "fork at a run that is not there")
    expect_equal(await trial.do.count_sessions(), 5, "sessions after four forks")


@area.check()
async def forks_can_be_rewound(trial: Trial) -> None:
    """Rewinding a fork to its last copied run restores the state that the fork began with."""
    for number in (1, 2):
        await trial.do.add_run("s", input=number, state={"step": number})
    await trial.do.fork("s", session_id="f")
    await trial.do.add_run("f", input=3, state={"step": 3})
    head = await trial.do.rewind("f", at=2)
    expect_equal(head.state, {"step": 2}, "state of a fork after rewinding to its last copied run")
    head = await trial.do.rewind("f", at=1)
    expect_equal(head.state, {"step": 1}, "state of a fork after rewinding to its first run")


@area.check()
async def long_forks(trial: Trial) -> None:
    """More runs than one append may carry are copied in order."""
    count = min(2 * trial.capabilities.commits_per_append, 450) + 3
    for number in range(1, count + 1):
        await trial.do.add_run("s", input=number)
    await trial.do.fork("s", session_id="f")
    expect_equal(_inputs(await trial.do.runs("f", from_run=1)), list(range(1, count + 1)), "runs of a long fork")
    await trial.do.verify("f")


# ---------------------------------------------------------------- the log


@area.check()
async def the_log_is_whole(trial: Trial) -> None:
    """Every change is one commit, dense from 1, in order; pages go on after the last `seq`."""
    await trial.do.create_session("s")
    await add_runs(trial, "s", 3)
    await trial.do.rename("s", "x")
    await trial.do.rewind("s", at=1)
    entries: list[Entry] = await trial.do.entries("s")
    expect_equal(sorted({entry.seq for entry in entries}), list(range(1, 7)), "the seqs of the log")
    expect_equal([entry.seq for entry in entries], sorted(entry.seq for entry in entries), "the order of the log")
    times = [entry.time for entry in entries]
    expect_equal(times, sorted(times), "the times of the log")
    paged: list[Entry] = []
    after = 0
    while page := await trial.do.entries("s", after=after, limit=2):
        paged.extend(page)
        after = page[-1].seq
    expect_equal(paged, entries, "the log in pages")
    expect_equal(await trial.do.verify("s"), 6, "commits")


@area.check()
async def the_log_is_followed(trial: Trial) -> None:
    """`follow` brings what is there, then what is committed, each entry once, and ends with the session."""
    await add_runs(trial, "s", 2)
    follower = trial.follow("s", after=1, poll=0.01)
    seen = [await follower()]
    await trial.do.rename("s", "x")
    while seen[-1] is not None and seen[-1].seq < 3:
        seen.append(await follower())
    await trial.do.delete("s")
    while seen[-1] is not None:
        seen.append(await follower())
    seqs = [entry.seq for entry in seen if entry is not None]
    expect_equal(sorted(set(seqs) - {4}), [2, 3], "the commits that were followed")
    expect_equal(seqs, sorted(seqs), "their order")
    await expect_error(SessionNotFoundError, trial.follow("s")(), "follow without a session")


# ---------------------------------------------------------------- files


async def _write(trial: Trial, session_id: str, name: str, content: str) -> int:
    made = await trial.operate(lambda core: files.write(core, session_id, "ada", files.new_file(name, content)))
    return made.version


async def _contents(trial: Trial, session_id: str, name: str) -> list[bytes]:
    found = await trial.operate(lambda core: files.versions(core, session_id, "ada", name))
    return [
        (await trial.operate(lambda core, one=one: files.read(core, session_id, "ada", name, one.version)))[1]
        for one in found
    ]


@area.check()
async def files_have_versions(trial: Trial) -> None:
    """Each writing is a version, but of what is there already; any name is one; others' sessions have none."""
    await trial.do.create_session("s", user_id="ada")
    name = "../a/b ä'\"%\\.md"
    expect_equal([await _write(trial, "s", name, text) for text in ("1", "2", "2", "1")], [1, 2, 2, 3], "versions")
    await _write(trial, "s", "empty", "")
    expect_equal(await _contents(trial, "s", name), [b"1", b"2", b"1"], "contents")
    expect_equal(await _contents(trial, "s", "empty"), [b""], "an empty file")
    found = await trial.operate(lambda core: files.all_of(core, "s", "ada"))
    expect_equal([(one.name, one.version) for one in found], [(name, 3), ("empty", 1)], "files")
    await expect_error(
        SessionNotFoundError, trial.operate(lambda core: files.all_of(core, "s", "bob")), "files of another user's"
    )
    both = await trial.together(*(lambda text=text: _write(trial, "s", "both", text) for text in "ab"))
    expect_equal(sorted(both), [1, 2], "versions of two writers at once")
    await trial.do.verify("s", user_id="ada")


@area.check()
async def forks_have_files(trial: Trial) -> None:
    """A fork has the files of that moment, and its own from then on."""
    await trial.do.create_session("s", user_id="ada")
    await _write(trial, "s", "f", "first")
    await add_runs(trial, "s", 1, user_id="ada")
    await _write(trial, "s", "f", "second")
    await add_runs(trial, "s", 1, user_id="ada")
    await trial.do.fork("s", at=1, session_id="early", user_id="ada")
    await trial.do.fork("s", session_id="late", user_id="ada")
    expect_equal(await _write(trial, "early", "f", "other"), 2, "a version in the fork")
    expect_equal(await _contents(trial, "s", "f"), [b"first", b"second"], "the files of the source")
    expect_equal(await _contents(trial, "early", "f"), [b"first", b"other"], "the files of the early fork")
    expect_equal(await _contents(trial, "late", "f"), [b"first", b"second"], "the files of the late fork")
    for one in ("s", "early", "late"):
        await trial.do.verify(one, user_id="ada")


@area.check(needs="rewrites")
async def deleted_files_are_gone(trial: Trial) -> None:
    """What is deleted is out of the log, name and content; a fork has it as before."""
    await trial.do.create_session("s", user_id="ada")
    await _write(trial, "s", "f", "first")
    await _write(trial, "s", "f", "second")
    await trial.do.fork("s", session_id="fork", user_id="ada")
    expect_equal(await trial.operate(lambda core: erasing.delete_file(core, "s", "ada", "f")), 2, "deleted versions")
    expect_equal(await trial.operate(lambda core: files.all_of(core, "s", "ada")), [], "files after that")
    digest = hashlib.sha256(b"first").hexdigest()
    await expect_error(CorruptDataError, trial.do.media("s", digest, user_id="ada"), "the content of a deleted file")
    written = [one for one in await trial.do.entries("s", user_id="ada") if one.kind == FileWritten.KIND]
    expect_equal([one.data["name"] for one in written], [ERASED, ERASED], "their names in the log")
    expect_equal(await _contents(trial, "fork", "f"), [b"first", b"second"], "the files of the fork")
    for one in ("s", "fork"):
        await trial.do.verify(one, user_id="ada")


# ---------------------------------------------------------------- runs in parts, media, leases


async def start_turn(trial: Trial, session_id: str = "s", **fields: Any) -> Turn:
    """A run that has been started, as an agent would."""

    async def operation(core: Core) -> Turn:
        run_id = fields.pop("run_id", "r")
        turn = await turns.open_turn(core, TurnSpec(session_id, run_id, "input", **fields), 3)
        await turns.start_turn(core, turn)
        return turn

    return await trial.operate(operation)


def nothing_to_note(turn: Turn, run: Run) -> list[Entry]:
    """Nothing is committed with the taking of a run."""
    return []


async def end_turn(trial: Trial, turn: Turn, status: Status = "completed", **ended: Any) -> None:
    """The end of that run."""

    async def operation(core: Core) -> None:
        await turns.end_turn(core, turn, [], RunEnded(status=status, **ended), [])

    await trial.operate(operation)


@area.check()
async def runs_in_parts(trial: Trial) -> None:
    """A run is visible from its start; it keeps its number whatever others do, and its messages stay together."""
    first = await start_turn(trial, run_id="r1")
    expect_equal((await trial.do.get_session("s")).status, "running", "status of a session whose run works")
    second = await start_turn(trial, run_id="r2")
    for turn, text in ((first, "1a"), (second, "2a"), (first, "1b")):

        async def append(core: Core, turn: Turn = turn, text: str = text) -> None:
            await turns.append_to_turn(core, turn, [turn.entry(MessageAdded({"text": text}))])

        await trial.operate(append)
    await trial.do.add_run("s", input="between")
    await end_turn(trial, second)
    await end_turn(trial, first, output="done")
    runs = await trial.do.runs("s")
    found = [(run.number, run.status, texts(run.messages)) for run in runs]
    wanted: list[Any] = [(1, "completed", ["1a", "1b"]), (2, "completed", ["2a"]), (3, "completed", [])]
    expect_equal(found, wanted, "runs that worked at the same time")
    await trial.do.verify("s")


@area.check()
async def media_are_kept(trial: Trial) -> None:
    """Large binary parts are kept once per session, go into its forks, and go with it."""
    content = bytes(range(256)) * 64
    part = {"kind": "binary", "data": base64.b64encode(content).decode(), "media_type": "image/png"}
    digest = hashlib.sha256(content).hexdigest()
    turn = await start_turn(trial)

    async def keep(core: Core) -> None:
        kept = await turns.keep_media(core, turn, [{"text": "see", "part": part}, part])
        await turns.append_to_turn(core, turn, [turn.entry(MessageAdded(message)) for message in kept])

    await trial.operate(keep)
    await end_turn(trial, turn)
    message = (await trial.do.messages("s"))[0]
    expect_equal(message.data["part"]["data"], {"$blob": digest, "size": len(content)}, "the part in its message")
    expect_equal(await trial.do.media("s", digest), content, "media")
    await trial.do.fork("s", session_id="f")
    await trial.do.delete("s")
    expect_equal(await trial.do.media("f", digest), content, "media of a fork of a deleted session")
    await trial.do.add_run("s")
    await expect_error(CorruptDataError, trial.do.media("s", digest), "media of a deleted session")


@area.check()
async def leases_run_out(trial: Trial) -> None:
    """A run whose process does not renew its lease is interrupted for all readers, and can be taken over once."""
    await with_settings(trial, lease=0.02)
    turn = await start_turn(trial)

    async def interrupted() -> bool:
        return (await trial.do.get_session("s")).status == "interrupted"

    await trial.until(interrupted, "the lease ran out")
    expect_equal([run.status for run in await trial.do.runs("s")], ["interrupted"], "status of the run")
    expect_equal([head.status for head in await trial.do.sessions()], ["interrupted"], "status in a list")
    await with_settings(trial, lease=3600.0)

    async def take(core: Core) -> Turn:
        taken, _ = await taking.take_turn(core, TurnSpec("s", "r", None), None, 3, nothing_to_note)
        return taken

    taken = await trial.operate(take)
    expect_equal((taken.number, taken.epoch), (1, 2), "the run that was taken over")
    await expect_error(NotResumableError, trial.operate(take), "taking over a run that is running")
    await expect_error(LeaseLostError, end_turn(trial, turn), "ending a run that was taken over")
    await end_turn(trial, taken)
    expect_equal([run.status for run in await trial.do.runs("s")], ["completed"], "status of the run")
    await trial.do.verify("s")


@area.check()
async def runs_are_cancelled(trial: Trial) -> None:
    """A request to cancel reaches the run's process when it renews its lease; renewing is no commit."""
    turn = await start_turn(trial)

    async def renew(core: Core) -> bool:
        return await turns.renew_turn(core, turn)

    expect_equal(await trial.operate(renew), False, "renewing without a request")
    expect_equal(await trial.do.cancel_run("s"), True, "cancel_run")
    expect_equal(await trial.do.cancel_run("s", 2), False, "cancel_run of another run")
    expect_equal(await trial.operate(renew), True, "renewing with a request")
    expect_equal((await trial.do.get_session("s")).revision, 1, "the revision after renewing")
    await expect_error(SessionBusyError, start_turn(trial, run_id="r2", on_busy="reject"), "a second run")
    await end_turn(trial, turn, status="cancelled")
    expect_equal(await trial.do.cancel_run("s"), False, "cancel_run of a run that has ended")
    await end_turn(trial, await start_turn(trial, run_id="r2"), status="paused")
    expect_equal(await trial.do.cancel_run("s", 2), True, "cancel_run of a run that waits")
    expect_equal((await trial.do.get_session("s")).status, "cancelled", "status of the session after that")
    expect_equal(await trial.do.cancel_run("s", 2), False, "cancel_run of a run that was cancelled while it waited")


@area.check()
async def sweeping_notes_interrupted_runs(trial: Trial) -> None:
    """`sweep` writes down that a run was interrupted, once, and neither prolongs nor moves its session by that."""
    await with_settings(trial, lease=0.02, ttl=3600.0)
    await start_turn(trial)
    before = await trial.do.get_session("s")

    async def noted() -> bool:
        await trial.do.sweep()
        entries: list[Entry] = await trial.do.entries("s")
        return [entry.kind for entry in entries].count("run.ended") == 1

    await trial.until(noted, "sweep noted the interrupted run")
    await trial.do.sweep()
    after = await trial.do.get_session("s")
    expect_equal(after.revision, 2, "the revision after sweeping again")
    expect(before.expires_at is not None, "the session expires")
    expect_equal((after.expires_at, after.updated_at), (before.expires_at, before.updated_at), "its times after that")
    expect(await trial.do.verify("s") == 2, "the log has two commits")
