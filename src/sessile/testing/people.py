"""What people do with sessions: look for what waits for them, claim what began without them, have things erased."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import (
    ConflictError,
    CorruptDataError,
    HeldError,
    InvalidInputError,
    RunNotFoundError,
    SessionBusyError,
    SessionNotFoundError,
)
from ..records import ANY_USER, Page, Session
from ..storage import memories, scopes, turns
from ..storage.core import Core
from ..storage.driver import CommitRow
from ..storage.vocabulary import MessageAdded, RunEnded, ToolEnded, ToolStarted
from .branches import end_turn, start_turn, with_settings
from .checks import Area, Trial, expect_equal, expect_error

area = Area("people")

_STATUSES = ("running", "paused", "completed", "failed", "cancelled", "interrupted")


async def _expect_soon(trial: Trial, look: Callable[[], Awaitable[Any]], wanted: Any, what: str) -> None:
    """Fail unless a look brings this; a list that may lag is given time."""
    if not trial.capabilities.exact_order:

        async def there() -> bool:
            return await look() == wanted

        await trial.until(there, f"{what}: {wanted!r}")
    expect_equal(await look(), wanted, what)


async def _ids(trial: Trial, **filters: Any) -> list[str]:
    """The ids of a list, page by page."""
    found: list[str] = []
    cursor = None
    while True:
        page: Page[Session] = await trial.do.sessions(limit=1, cursor=cursor, **filters)
        found += [head.session_id for head in page]
        if "status" in filters:
            expect_equal({head.status for head in page} <= {filters["status"]}, True, f"what a list by {filters} shows")
        cursor = page.next_cursor
        if cursor is None:
            return sorted(found)


async def _agree(trial: Trial, wanted: dict[str, str]) -> None:
    """Sessions, lists and counts by each status say the same."""
    for session_id, status in wanted.items():
        expect_equal((await trial.do.get_session(session_id)).status, status, f"what session {session_id!r} says")
    for status in _STATUSES:
        ids = sorted(session_id for session_id, its in wanted.items() if its == status)
        await _expect_soon(
            trial, lambda status=status: _ids(trial, status=status), ids, f"sessions that are {status!r}"
        )
        expect_equal(await trial.do.count_sessions(status=status), len(ids), f"how many sessions are {status!r}")


@area.check()
async def lists_by_status_show_what_they_are_asked_for(trial: Trial) -> None:
    """What a list is asked by and what it shows agree at every moment, also where a process is gone."""
    await with_settings(trial, lease=0.02)
    for session_id in ("gone", "gone and waiting"):
        if "waiting" in session_id:
            await end_turn(
                trial, await start_turn(trial, session_id, run_id="asks"), "paused", pending={"waits": ["x"]}
            )
        await start_turn(trial, session_id)

    async def interrupted() -> bool:
        return (await trial.do.get_session("gone and waiting")).status != "running"

    await trial.until(interrupted, "the leases ran out")
    await with_settings(trial, lease=3600.0)
    await start_turn(trial, "runs")
    await end_turn(trial, await start_turn(trial, "waits"), "paused", pending={"waits": ["x"]})
    await trial.do.add_run("waits", output="another question meanwhile")
    await trial.do.add_run("done")
    await trial.do.add_run("failed", status="failed")
    wanted = {
        "gone": "interrupted",
        "gone and waiting": "paused",
        "runs": "running",
        "waits": "paused",
        "done": "completed",
        "failed": "failed",
    }
    await _agree(trial, wanted)
    updated = {head.session_id: head.updated_at for head in await trial.do.sessions()}
    await trial.do.sweep()  # notes what is interrupted, and moves nothing
    expect_equal({head.session_id: head.updated_at for head in await trial.do.sessions()}, updated, "times of changes")
    await _agree(trial, wanted)
    await trial.do.rewind("waits", at=0)
    await trial.do.delete("gone and waiting")
    await _agree(trial, {"gone": "interrupted", "runs": "running", "waits": "completed"} | _rest(wanted))
    for session_id in ("gone", "runs", "waits", "done"):
        await trial.do.verify(session_id)


def _rest(wanted: dict[str, str]) -> dict[str, str]:
    return {session_id: wanted[session_id] for session_id in ("done", "failed")}


@area.check()
async def what_waits_is_listed(trial: Trial) -> None:
    """`waiting` lists the runs that wait, of one user or of all: which, what is asked, since when."""
    call = {"tool_name": "pay", "tool_call_id": "c1", "args": {"amount": 3}, "part_kind": "tool-call"}
    pending: dict[str, Any] = {"requests": {"calls": [], "approvals": [call]}}
    await end_turn(trial, await start_turn(trial, "a", run_id="r1", user_id="ada"), "paused", pending=pending)
    await end_turn(trial, await start_turn(trial, "a", run_id="r2", user_id="ada"), "paused", pending={"waits": ["x"]})
    await start_turn(trial, "a", run_id="r3", user_id="ada")
    await end_turn(trial, await start_turn(trial, "e", run_id="r4", user_id="eve"), "paused", pending={"waits": ["y"]})
    await trial.do.add_run("other", user_id="ada")
    await _expect_soon(trial, lambda: _runs_that_wait(trial), [1, 2], "what waits for ada")
    found = (await trial.do.waiting(user_id="ada")).items
    expect_equal(
        [(one.session.session_id, one.run, one.run_id) for one in found], [("a", 1, "r1"), ("a", 2, "r2")], "ada"
    )
    asked = {"kind": "approval", "tool_name": "pay", "tool_call_id": "c1", "args": {"amount": 3}}
    expect_equal([one.asked for one in found], [[asked], [{"kind": "event", "name": "x"}]], "what is asked")
    entries = await trial.do.entries("a", user_id="ada")
    ends = [entry.time for entry in entries if entry.kind == "run.ended"]
    expect_equal([one.since for one in found], ends, "since when")
    page = await trial.do.waiting(user_id=ANY_USER, limit=1)
    more = await trial.do.waiting(user_id=ANY_USER, limit=1, cursor=page.next_cursor)
    expect_equal([one.run_id for one in (*page, *more)], ["r4", "r1", "r2"], "what waits, of all users")
    await trial.do.rewind("a", at=1, user_id="ada")
    await _expect_soon(trial, lambda: _runs_that_wait(trial), [1], "what waits on the current branch")


async def _runs_that_wait(trial: Trial) -> list[int]:
    return [one.run for one in await trial.do.waiting(user_id="ada")]


@area.check()
async def a_cursor_belongs_to_an_order(trial: Trial) -> None:
    """A cursor of one order is refused in another."""
    for number in range(3):
        await trial.do.create_session(f"s{number}")
    for order, other in (("updated", "created"), ("created", "updated")):
        page = await trial.do.sessions(limit=1, order=order)
        await expect_error(
            InvalidInputError, trial.do.sessions(limit=1, order=other, cursor=page.next_cursor), "the cursor"
        )
        expect_equal(len(await trial.do.sessions(limit=2, order=order, cursor=page.next_cursor)), 2, "the next page")


@area.check()
async def sessions_are_claimed_once(trial: Trial) -> None:
    """A session that began without a user is given to one, by whoever comes first; agent and kind likewise."""
    await trial.do.add_run("s", output="before the login")

    def claim(user_id: str) -> Any:
        async def action() -> str | None:
            try:
                return (await trial.do.claim("s", user_id)).user_id
            except SessionNotFoundError:
                return None

        return action

    users = [f"u{number}" for number in range(6)]
    found = await trial.together(*[claim(user_id) for user_id in users])
    (winner,) = [user_id for user_id in found if user_id is not None]
    expect_equal(found, [user_id if user_id == winner else None for user_id in users], "who has got the session")
    for user_id in users:
        there = await trial.do.get_session("s", user_id=user_id)
        expect_equal(there is not None, user_id == winner, f"whether {user_id} reaches it")
        wanted = ["s"] if user_id == winner else []
        await _expect_soon(
            trial, lambda user_id=user_id: _ids(trial, user_id=user_id), wanted, f"sessions of {user_id}"
        )
    expect_equal(await trial.do.get_session("s"), None, "the session without a user")
    await _expect_soon(trial, lambda: _ids(trial), [], "sessions that have no user")
    expect_equal(await trial.do.count_sessions(), 0, "how many sessions have no user")
    made = await trial.do.claim("s", winner, agent="helpers", kind="team")
    expect_equal((made.user_id, made.agent, made.kind), (winner, "helpers", "team"), "whose the session is")
    expect_equal(await trial.do.get_session("s", user_id=winner), made, "the session as it is read")
    expect_equal((await trial.do.claim("s", winner)).revision, made.revision, "claiming it again")
    for other in ({"agent": "others"}, {"kind": "agent"}):
        await expect_error(ConflictError, trial.do.claim("s", winner, **other), "giving it to another agent")
    await _expect_soon(trial, lambda: _ids(trial, user_id=winner, agent="helpers"), ["s"], "sessions of both")
    await trial.do.add_run("s", user_id=winner, output="after the login")
    expect_equal(await trial.do.verify("s", user_id=winner), 4, "commits")
    expect_equal(await trial.do.delete_user(winner), 1, "sessions that go with their user")


@area.check()
async def held_sessions_are_deleted_by_nobody(trial: Trial) -> None:
    """A session that is held stays, whoever asks for its deletion, until it is released."""
    await trial.do.add_run("s", user_id="ada", output="evidence")
    held = await trial.do.hold("s", "case 7", user_id="ada")
    for user_id in ("ada", ANY_USER):
        await expect_error(HeldError, trial.do.delete("s", user_id=user_id), f"deleting it as {user_id}")
    await expect_error(HeldError, trial.do.delete_user("ada"), "deleting its user")
    await trial.do.sweep()
    expect_equal(await trial.do.get_session("s", user_id="ada"), held, "the session that is held")
    expect_equal([run.output for run in await trial.do.runs("s", user_id="ada")], ["evidence"], "its runs")
    await trial.do.release("s", user_id="ada")
    expect_equal(await trial.do.delete("s", user_id=ANY_USER), True, "whether it is deleted after its release")


_CONTENT = bytes(range(256)) * 64
_PICTURE = {"kind": "binary", "data": base64.b64encode(_CONTENT).decode(), "media_type": "image/png"}


async def _run_with_secret(trial: Trial, secret: str, **fields: Any) -> None:
    """A run of an agent's: a question with a picture, a call with its steps, an answer."""
    turn = await start_turn(trial, "s", **fields)
    call = {"part_kind": "tool-call", "tool_name": "look", "tool_call_id": secret[:1], "args": {"for": secret}}
    asked: list[Any] = [{"part_kind": "user-prompt", "content": [f"see {secret}", _PICTURE]}]
    said: list[Any] = [
        {"kind": "request", "parts": asked},
        {"kind": "response", "parts": [call]},
        {"kind": "response", "parts": [{"part_kind": "text", "content": f"saw {secret}"}]},
    ]

    async def write(core: Core) -> None:
        kept = await turns.keep_media(core, turn, said)
        messages = [turn.entry(MessageAdded(one), "pydantic-ai/2") for one in kept]
        steps = [
            turn.entry(ToolStarted(tool_call_id=secret[:1], tool_name="look", args=secret)),
            turn.entry(ToolEnded(tool_call_id=secret[:1], tool_name="look", outcome="returned", value=secret)),
        ]
        await turns.append_to_turn(core, turn, [*messages[:2], *steps])
        await turns.summarize(core, turn, turn.number, f"They talked of {secret}.")
        await turns.end_turn(core, turn, messages[2:], RunEnded(status="completed", output=f"saw {secret}"), [])

    await trial.operate(write)


async def _stored(trial: Trial) -> str:
    """All that the log and the head say."""
    loaded = await trial.driver.load("s", 0)
    assert loaded is not None
    rows = await trial.driver.entries("s", loaded.head.incarnation)
    return "".join([loaded.head.body, *(row.body for row in rows)])


@area.check(needs="rewrites")
async def a_run_is_erased(trial: Trial) -> None:
    """Nothing of a run that is erased is left: no text, no media, no summary; and the session is written on."""
    digest = hashlib.sha256(_CONTENT).hexdigest()
    await _run_with_secret(trial, "1-secret", run_id="a")
    await _run_with_secret(trial, "2-public", run_id="b")
    await trial.do.erase_run("s", 1)
    expect_equal("1-secret" in await _stored(trial), False, "whether the secret is stored")
    expect_equal(await trial.do.media("s", digest), _CONTENT, "media that another run names")
    expect_equal((await trial.do.get_session("s")).summary, None, "the summary")
    expect_equal((await trial.do.entries("s"))[-1].kind, "session.erased", "the mark")
    await trial.do.erase_run("s", 2)
    expect_equal("2-public" in await _stored(trial), False, "whether the other one is stored")
    await expect_error(CorruptDataError, trial.do.media("s", digest), "media that nothing names")
    runs = await trial.do.runs("s")
    expect_equal([(run.status, len(run.messages)) for run in runs], [("completed", 3)] * 2, "the runs")
    await expect_error(RunNotFoundError, trial.do.erase_run("s", 3), "erasing a run that is not there")
    await trial.do.add_run("s", output="after")
    await trial.do.verify("s")


@area.check(needs="rewrites")
async def a_message_is_erased(trial: Trial) -> None:
    """Of a run one message is erased, with what says the same beside it, and the others stay."""
    for message, words in enumerate((["see 1-secret"], ['"1-secret"'], ["saw 1-secret"])):
        await _run_with_secret(trial, "1-secret", run_id=f"r{message}")
        run = await trial.do.erase_run("s", message + 1, message=message)
        kept = [word for word in ("see 1-secret", '"1-secret"', "saw 1-secret") if word not in words]
        texts = "".join(row.body for row in await _rows_of(trial, message + 1))
        expect_equal([word for word in kept if word not in texts], [], f"what is left of run {message + 1}")
        expect_equal([word for word in words if word in texts], [], f"what is erased of run {message + 1}")
        expect_equal(len(run.messages), 3, "messages")
    await trial.do.verify("s")
    waiting = await start_turn(trial, "s", run_id="asks")
    await expect_error(SessionBusyError, trial.do.erase_run("s", 4), "erasing a run in progress")
    await end_turn(trial, waiting, "paused", pending={"waits": ["x"]})
    expect_equal((await trial.do.erase_run("s", 4)).status, "cancelled", "the status of a paused run that is erased")
    expect_equal([one.run for one in await trial.do.waiting()], [], "what waits")


async def _rows_of(trial: Trial, number: int) -> list[CommitRow]:
    loaded = await trial.driver.load("s", 0)
    assert loaded is not None
    return await trial.driver.entries("s", loaded.head.incarnation, runs=(number, number))


# ---------------------------------------------------------------- what writes, forks and rewinds bring


@area.check()
async def writes_return_what_reads_return(trial: Trial) -> None:
    """What a write returns is what the next read returns, and stays so whatever its caller does with the arguments."""
    state: dict[str, Any] = {"pair": (1, (2,)), "deep": {"list": [1]}}
    message: dict[str, Any] = {"text": ("a", "b")}
    made = await trial.do.create_session("s", state=state, metadata={"t": (1,)}, user_id=None)
    expect_equal(made, await trial.do.get_session("s"), "a session that was made")
    run = await trial.do.add_run("s", input=("x",), output=(1, 2), messages=[message], format="test/1", metadata=state)
    message["text"] = state["deep"]["list"] = "changed later"
    expect_equal(run, await trial.do.get_run("s", 1), "a run that was added")
    changed = await trial.do.update_state("s", {"pair": (3,)})
    expect_equal((changed.state["pair"], changed), ([3], await trial.do.get_session("s")), "a state that was changed")
    for write in (trial.do.rename("s", "n"), trial.do.set_ttl("s", 3600), trial.do.rewind("s", at=0)):
        written = await write
        expect_equal(written, await trial.do.get_session("s"), "a session that was changed")
    copy = await trial.do.fork("s", session_id="f")
    expect_equal(copy, await trial.do.get_session("f"), "a session that was forked")


@area.check()
async def forks_keep_how_long_they_live(trial: Trial) -> None:
    """The fork of a session that never expires never expires, whatever the storage's own time to live is."""
    await trial.do.create_session("s")
    await with_settings(trial, ttl=3600)
    await trial.do.create_session("t")
    expect_equal((await trial.do.fork("s")).ttl_us, None, "the fork of one that never expires")
    expect_equal((await trial.do.fork("t")).ttl_us, 3600 * 10**6, "the fork of one that does")


@area.check()
async def rewinding_leaves_out_what_parallel_runs_did(trial: Trial) -> None:
    """After a rewind the state has nothing of later runs, also of those that had ended before the one rewound to."""
    await trial.do.add_run("s", state={"first": 1, "shared": 1})
    one, two = await start_turn(trial, "s", run_id="one"), await start_turn(trial, "s", run_id="two")
    await _end_with_state(trial, two, [["set", ["two"], 1], ["set", ["shared"], 2], ["del", ["first"]]])
    await trial.do.update_state("s", {"outside": 1})
    await _end_with_state(trial, one, [["set", ["one"], 1]])
    await trial.do.add_run("s", state={"last": 1})
    rewound = await trial.do.rewind("s", at=2)
    wanted = {"first": 1, "shared": 1, "outside": 1, "one": 1}
    expect_equal(rewound.state, wanted, "the state of the branch that ends at run 2")
    await trial.do.rewind("s", at=3)
    await trial.do.verify("s")


@area.check()
async def scopes_outlive_sessions(trial: Trial) -> None:
    """A user's state is the same in all of the user's sessions, in no list, and deleted with the user."""
    spec = {"user_id": "ada", "scopes": ("user", "app")}
    one = await start_turn(trial, "s", run_id="one", **spec)
    two = await start_turn(trial, "t", run_id="two", **spec)
    await _end_with_state(trial, one, [["set", ["user:plan"], "pro"], ["set", ["app:n"], 1], ["set", ["own"], 1]])
    await _end_with_state(trial, two, [["set", ["user:seen"], True], ["set", ["app:n"], 2]])

    async def state(user_id: str | None = None) -> Any:
        return await trial.operate(lambda core: scopes.state(core, user_id, None))

    expect_equal(await state("ada"), {"plan": "pro", "seen": True}, "what two sessions have put into a user's state")
    expect_equal(await state(), {"n": 2}, "what they have put into the application's")
    expect_equal((await trial.do.get_session("s", user_id="ada")).state, {"own": 1}, "the session's own state")
    three = await start_turn(trial, "s", run_id="three", **spec)
    wanted = {"own": 1, "user:plan": "pro", "user:seen": True, "app:n": 2}
    expect_equal(three.state, wanted, "what the next run of the session begins with")
    await _end_with_state(trial, three, [["del", ["user:plan"]]])
    await trial.operate(lambda core: scopes.update(core, "ada", None, {"more": {"x": 1}}, None, ()))
    expect_equal(await state("ada"), {"seen": True, "more": {"x": 1}}, "the user's state")

    async def listed() -> list[str]:
        return sorted(str(one.user_id) for one in await trial.do.scopes())

    await _expect_soon(trial, listed, ["None", "ada"], "the list of scopes")
    await _expect_soon(trial, lambda: _ids(trial, user_id=ANY_USER), ["s", "t"], "the list of sessions")
    await trial.do.sweep()
    await trial.do.delete_user("ada")
    expect_equal((await state("ada"), await state()), ({}, {"n": 2}), "the states after the user was deleted")


@area.check()
async def memories_are_their_users_own(trial: Trial) -> None:
    """Memories are there for their user alone, merge, expire, and leave the log when they are forgotten."""

    async def written(user_id: str, *given: memories.MemoryChange, once: str | None = None) -> list[Any]:
        source = memories.Source("s", "one", "helper")
        return await trial.operate(lambda core: memories.change(core, user_id, given, source, once=once))

    async def texts(user_id: str) -> list[str]:
        found = await trial.operate(lambda core: memories.all_of(core, user_id))
        expect_equal({one.user_id for one in found} <= {user_id}, True, "whose memories are found")
        return sorted(one.memory for one in found)

    change_of, forgotten = memories.change_of, "lives in Oslo \N{WAVING WHITE FLAG}"
    one, two = await written("ada", change_of(None, forgotten, ["city"]), change_of(None, "likes tea"))
    await written("ada", change_of(None, "  LIKES tea. "))
    await written("bob", change_of(None, "lives in Rome", None, 3600))
    await written("bob", change_of(None, "is here for a moment", None, 0))
    expect_equal(await texts("ada"), ["LIKES tea.", forgotten], "the memories of ada")
    expect_equal(await texts("bob"), ["lives in Rome"], "the memories of bob")
    expect_equal(await written("bob", change_of(two.memory_id, "x")), [None], "what changing another user's gives")
    for _ in range(2):
        await written("ada", change_of(two.memory_id, "likes coffee"), change_of(None, "has a cat"), once="r")
    await written("ada", memories.MemoryChange(one.memory_id, forget=True))
    expect_equal(await texts("ada"), ["has a cat", "likes coffee"], "the memories of ada")
    place = scopes.ScopeName(scopes.MEMORY, "ada").stored_id
    await trial.do.verify(place, user_id=ANY_USER)
    log = str([entry.data for entry in await trial.do.entries(place, user_id=ANY_USER)])
    expect_equal(forgotten in log, not trial.capabilities.rewrites, "whether the log has what was forgotten")
    await _expect_soon(trial, lambda: _ids(trial, user_id=ANY_USER), [], "the list of sessions")
    await trial.do.sweep()
    await trial.do.delete_user("ada")
    expect_equal((await texts("ada"), await texts("bob")), ([], ["lives in Rome"]), "after ada was deleted")


async def _end_with_state(trial: Trial, turn: Any, changes: list[list[Any]]) -> None:
    async def end(core: Core) -> None:
        await turns.end_turn(core, turn, [], RunEnded(status="completed"), changes)

    await trial.operate(end)
