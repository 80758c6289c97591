"""What users of a storage can do, through both of its faces: making, reading and changing sessions."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

from ..errors import (
    AlreadyExistsError,
    ClosedError,
    ConflictError,
    InvalidIdError,
    InvalidInputError,
    InvalidStateError,
    RunNotFoundError,
    SessionNotFoundError,
    TooLargeError,
    UserRequiredError,
)
from ..records import ANY_USER, Message, Page, Run, Usage
from ..storage.core import Core
from ..storage.settings import Settings
from .checks import Area, Trial, expect, expect_equal, expect_error
from .model import merged
from .samples import HOSTILE_IDS, HOSTILE_VALUES

area = Area("sessions")


async def with_settings(trial: Trial, **changes: Any) -> None:
    """Change what the storage was made with."""

    async def change(core: Core) -> None:
        core.settings = dataclasses.replace(core.settings, **changes)

    await trial.operate(change)


def texts(messages: list[Message]) -> list[Any]:
    """What the messages say."""
    return [message.data.get("text") for message in messages]


async def add_runs(trial: Trial, session_id: str, count: int, **fields: Any) -> None:
    """Runs with two messages each, whose texts tell their run."""
    for _ in range(count):
        head = await trial.do.get_session(session_id, user_id=ANY_USER)
        number = 1 if head is None else head.run_count + 1
        messages = [{"text": f"{number}?"}, {"text": f"{number}!"}]
        await trial.do.add_run(
            session_id, input=number, output=str(number), format="test/1", messages=messages, **fields
        )


# ---------------------------------------------------------------- making


@area.check()
async def a_session_is_made(trial: Trial) -> None:
    """What is given to `create_session` is there afterwards; the revision is 1, and there are no runs."""
    made = await trial.do.create_session(
        "s",
        user_id="ada",
        agent="support",
        kind="team",
        name="Capitals",
        state={"step": 1},
        metadata={"plan": "pro"},
        ttl=3600,
    )
    head = await trial.do.get_session("s", user_id="ada")
    expect_equal(head, made, "the session that was made")
    expect_equal((head.kind, head.agent, head.user_id, head.name), ("team", "support", "ada", "Capitals"), "columns")
    expect_equal((head.state, head.metadata), ({"step": 1}, {"plan": "pro"}), "state and metadata")
    expect_equal((head.revision, head.run_count, head.status), (1, 0, None), "counters")
    expect_equal(head.expires_at, head.updated_at + timedelta(hours=1), "expires_at")
    expect_equal(await trial.do.verify("s", user_id="ada"), 1, "commits")


@area.check()
async def a_session_is_made_once(trial: Trial) -> None:
    """A second session of the same id is refused, whoever asks."""
    first = await trial.do.create_session("s", user_id="ada")
    await expect_error(AlreadyExistsError, trial.do.create_session("s"), "create_session again")
    await expect_error(AlreadyExistsError, trial.do.create_session("s", user_id="bob"), "create_session by another")
    expect_equal(await trial.do.get_session("s", user_id="ada"), first, "the session after it was refused to others")


@area.check()
async def ids_of_our_own(trial: Trial) -> None:
    """Without an id each session gets a fresh one."""
    heads = [await trial.do.create_session() for _ in range(3)]
    expect_equal(len({head.session_id for head in heads}), 3, "ids")
    for head in heads:
        expect_equal(await trial.do.get_session(head.session_id), head, "a session found by its own id")


@area.check()
async def nothing_is_absent(trial: Trial) -> None:
    """Reads of a session that is not there: None or empty; changes: an error."""
    do = trial.do
    expect_equal(await do.get_session("s"), None, "get_session")
    expect_equal(await do.runs("s"), [], "runs")
    expect_equal(await do.messages("s"), [], "messages")
    expect_equal(await do.delete("s"), False, "delete")
    for name, arguments in _CHANGES:
        await expect_error(SessionNotFoundError, getattr(do, name)("s", **arguments), name)
    expect_equal(await do.get_session("s"), None, "a session that only changes were tried on")


_CHANGES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("rename", {"name": "x"}),
    ("set_metadata", {"metadata": {"k": 1}}),
    ("update_state", {"patch": {"k": 1}}),
    ("set_ttl", {"ttl": 1}),
    ("rewind", {"at": 0}),
    ("fork", {}),
    ("cancel_run", {}),
    ("branches", {}),
    ("entries", {}),
    ("get_run", {"run_number": 1}),
)


@area.check()
async def other_users_see_nothing(trial: Trial) -> None:
    """A session of another user is answered as one that does not exist; nothing of it changes."""
    do = trial.do
    await do.add_run("s", input="secret", format="test/1", messages=[{"text": "secret"}], user_id="ada")
    before = await do.get_session("s", user_id="ada")
    for other in ("bob", None):
        whose: dict[str, Any] = {} if other is None else {"user_id": other}
        expect_equal(await do.get_session("s", **whose), None, "get_session")
        expect_equal(await do.runs("s", **whose), [], "runs")
        expect_equal(await do.messages("s", **whose), [], "messages")
        expect_equal(len(await do.sessions(**whose)), 0, "sessions")
        expect_equal(await do.count_sessions(**whose), 0, "count_sessions")
        expect_equal(await do.delete("s", **whose), False, "delete")
        for name, arguments in (*_CHANGES, ("add_run", {}), ("verify", {}), ("media", {"digest": "0" * 64})):
            await expect_error(SessionNotFoundError, getattr(do, name)("s", **arguments, **whose), name)
    expect_equal(await do.delete_user("bob"), 0, "delete_user")
    expect_equal(await do.get_session("s", user_id="ada"), before, "the session after another user's attempts")


@area.check()
async def any_user_reaches_all(trial: Trial) -> None:
    """`ANY_USER` reaches the sessions of all users and of none, and makes none."""
    do = trial.do
    for session_id, user_id in (("a", "ada"), ("b", "bob"), ("n", None)):
        await do.create_session(session_id, user_id=user_id)
        await do.add_run(session_id, input=1, user_id=ANY_USER)
        head = await do.get_session(session_id, last_runs=1, user_id=ANY_USER)
        expect_equal((head.user_id, len(head.runs)), (user_id, 1), "the session, as any user")
    expect_equal(await do.count_sessions(user_id=ANY_USER), 3, "count_sessions of any user")
    for user_id, wanted in ((ANY_USER, ["a", "b", "n"]), ("ada", ["a"]), (None, ["n"])):
        listed = [head.session_id for head in await do.sessions(user_id=user_id)]
        expect_equal(sorted(listed), wanted, f"sessions of {user_id!r}")
    await expect_error(SessionNotFoundError, do.add_run("new", user_id=ANY_USER), "add_run as any user")
    await expect_error(InvalidInputError, do.create_session("new", user_id=ANY_USER), "create_session as any user")
    for session_id in ("a", "b", "n"):
        expect_equal(await do.delete(session_id, user_id=ANY_USER), True, "delete as any user")


@area.check()
async def a_user_may_be_required(trial: Trial) -> None:
    """With `require_user` every operation on a session without `user_id` is refused."""
    await with_settings(trial, require_user=True)
    for name, arguments in (*_CHANGES, ("add_run", {}), ("get_session", {}), ("runs", {}), ("delete", {})):
        await expect_error(UserRequiredError, getattr(trial.do, name)("s", **arguments), name)
    await expect_error(UserRequiredError, trial.do.sessions(), "sessions")
    await trial.do.create_session("s", user_id="ada")
    expect((await trial.do.get_session("s", user_id="ada")) is not None, "the user's own session is there")
    expect((await trial.do.get_session("s", user_id=ANY_USER)) is not None, "any user's session is there")


@area.check()
async def bad_ids_are_refused(trial: Trial) -> None:
    """Empty, too long, with NUL or a lone surrogate: refused before anything is written."""
    for bad in ("", "a\0b", "\ud800", "x" * 256, "é" * 128, 7, None):
        if bad is not None:
            await expect_error(InvalidIdError, trial.do.create_session(bad), f"create_session({bad!r})")
        await expect_error(InvalidIdError, trial.do.get_session(bad), f"session({bad!r})")
        await expect_error(InvalidIdError, trial.do.add_run(bad), f"add_run({bad!r})")
    expect_equal(len(await trial.do.sessions()), 0, "sessions after bad ids")


@area.check()
async def any_id_works(trial: Trial) -> None:
    """Ids with any other characters are sessions of their own, from the first run to the deletion."""
    for number, session_id in enumerate(HOSTILE_IDS):
        await trial.do.add_run(session_id, input=number, user_id=session_id)
    for number, session_id in enumerate(HOSTILE_IDS):
        found = await trial.do.runs(session_id, user_id=session_id)
        expect_equal([run.input for run in found], [number], f"the run of session {session_id!r}")
    for session_id in HOSTILE_IDS[::2]:
        expect(await trial.do.delete(session_id, user_id=session_id), f"session {session_id!r} is deleted")
    expect_equal(await trial.do.count_sessions(user_id=ANY_USER), len(HOSTILE_IDS) // 2, "sessions that are left")


# ---------------------------------------------------------------- runs


@area.check()
async def a_run_is_added(trial: Trial) -> None:
    """Everything that is given to `add_run` comes back; the session is made with it, in one commit."""
    usage = Usage(requests=2, input_tokens=10, output_tokens=5, cost=123)
    added = await trial.do.add_run(
        "s",
        input={"question": "?"},
        output=["Paris"],
        messages=[{"text": "1?", "n": None}, {"text": "1!"}],
        usage=usage,
        state={"city": "Paris"},
        user_id="ada",
        agent="support",
        kind="team",
        format="openai",
        run_id="r1",
        metadata={"trace": "t1"},
    )
    run = await trial.do.get_run("s", 1, user_id="ada")
    expect_equal(run, added, "the run that was added")
    expect_equal((run.number, run.run_id, run.status, run.agent), (1, "r1", "completed", "support"), "columns")
    expect_equal((run.input, run.output, run.usage), ({"question": "?"}, ["Paris"], usage), "input, output, usage")
    expect_equal(run.metadata, {"trace": "t1"}, "metadata")
    expect_equal([message.data for message in run.messages], [{"text": "1?", "n": None}, {"text": "1!"}], "messages")
    message = run.messages[0]
    expect_equal((message.format, message.run, message.run_id, message.seq), ("openai", 1, "r1", 1), "a message")
    head = await trial.do.get_session("s", user_id="ada")
    expect_equal((head.revision, head.run_count, head.status, head.kind), (1, 1, "completed", "team"), "head")
    expect_equal((head.state, head.usage, head.user_id), ({"city": "Paris"}, usage, "ada"), "state, usage, user")


@area.check()
async def runs_are_numbered(trial: Trial) -> None:
    """Runs are 1, 2, 3 …, times never go back, usage adds up, each run is one commit."""
    for number in range(1, 8):
        run = await trial.do.add_run("s", input=number, usage=Usage(input_tokens=number, cost=1))
        expect_equal(run.number, number, "the number of a run")
    runs: list[Run] = await trial.do.runs("s")
    expect_equal([(run.number, run.input) for run in runs], [(n, n) for n in range(1, 8)], "runs")
    starts = [run.started_at for run in runs]
    expect_equal(starts, sorted(starts), "times of runs")
    head = await trial.do.get_session("s")
    expect_equal((head.run_count, head.revision, head.usage), (7, 7, Usage(input_tokens=28, cost=7)), "head")
    expect_equal(await trial.do.verify("s"), 7, "commits")


@area.check()
async def runs_are_selected(trial: Trial) -> None:
    """`last`, `from_run`, `to_run` and `status` select runs; they come oldest first."""
    statuses = ["completed", "failed", "completed", "cancelled", "completed", "failed"]
    for status in statuses:
        error = {"type": "ValueError", "message": "no"} if status == "failed" else None
        await trial.do.add_run("s", status=status, error=error)
    expected: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"last": 2}, [5, 6]),
        ({"last": 99}, [1, 2, 3, 4, 5, 6]),
        ({"last": 0}, []),
        ({"from_run": 3}, [3, 4, 5, 6]),
        ({"to_run": 2}, [1, 2]),
        ({"from_run": 2, "to_run": 4}, [2, 3, 4]),
        ({"from_run": 2, "to_run": 4, "last": 2}, [3, 4]),
        ({"status": "failed"}, [2, 6]),
        ({"status": "completed", "last": 2}, [3, 5]),
        ({"status": ["failed", "cancelled"], "to_run": 5}, [2, 4]),
        ({"from_run": 9}, []),
    ]
    for query, numbers in expected:
        found = await trial.do.runs("s", **query)
        expect_equal([run.number for run in found], numbers, f"runs({query})")
    failed = await trial.do.get_run("s", 2)
    expect_equal((failed.status, failed.error), ("failed", {"type": "ValueError", "message": "no"}), "a failed run")
    await expect_error(RunNotFoundError, trial.do.get_run("s", 7), "a run that is not there")
    await expect_error(InvalidInputError, trial.do.add_run("s", status="running"), "add_run that still runs")


@area.check()
async def messages_are_in_order(trial: Trial) -> None:
    """Messages come by run, and in a run as they were given; a window has whole runs."""
    await add_runs(trial, "s", 5)
    everything = [text for number in range(1, 6) for text in (f"{number}?", f"{number}!")]
    expect_equal(texts(await trial.do.messages("s")), everything, "messages")
    expect_equal(texts(await trial.do.messages("s", last_runs=2)), everything[6:], "messages of the last 2 runs")
    expect_equal(texts(await trial.do.messages("s", from_run=2, to_run=3)), everything[2:6], "messages of runs 2, 3")
    view = await trial.do.get_session("s", last_runs=3)
    expect_equal([run.number for run in view.runs], [3, 4, 5], "runs of get_session")
    expect_equal(texts(view.messages), everything[4:], "messages of get_session")
    expect_equal(view, await trial.do.get_session("s"), "head of get_session")


@area.check()
async def windows_reach_behind_other_commits(trial: Trial) -> None:
    """The last runs are found also when many commits that are no runs came after them."""
    await add_runs(trial, "s", 3)
    for number in range(30):
        await trial.do.rename("s", f"n{number}")
    expect_equal(texts(await trial.do.messages("s", last_runs=2)), ["2?", "2!", "3?", "3!"], "the last 2 runs")
    view = await trial.do.get_session("s", last_runs=1)
    expect_equal([run.number for run in view.runs], [3], "the last run")


@area.check()
async def many_runs(trial: Trial) -> None:
    """A long session is read in pages without a gap."""
    for number in range(1, 251):
        await trial.do.add_run("s", input=number)
    expect_equal([run.number for run in await trial.do.runs("s")], list(range(151, 251)), "100 runs by default")
    found = await trial.do.runs("s", from_run=1)
    expect_equal([run.input for run in found], list(range(1, 251)), "all runs")
    expect_equal(await trial.do.verify("s"), 250, "commits")


@area.check()
async def any_value_is_kept(trial: Trial) -> None:
    """NUL, lone surrogates, large numbers and empty keys come back from every place that takes JSON."""
    values = [value for value in HOSTILE_VALUES if value is not None]
    small = {f"k{index}": value for index, value in enumerate(values) if len(repr(value)) < 1000}
    for number, value in enumerate(values, 1):
        await trial.do.add_run(
            "s", input=value, output=[value], format="test/1", messages=[{"text": value, "\0": "\ud800"}]
        )
        run = await trial.do.get_run("s", number)
        expect_equal(repr((run.input, run.output)), repr((value, [value])), "input and output of a run")
        expect_equal(repr(run.messages[0].data), repr({"text": value, "\0": "\ud800"}), "a message")
    await trial.do.update_state("s", small)
    await trial.do.set_metadata("s", small)
    head = await trial.do.get_session("s")
    wanted = {key: merged({}, value) if isinstance(value, dict) else value for key, value in small.items()}
    expect_equal(repr(head.state), repr(wanted), "state")
    expect_equal(repr(head.metadata), repr(wanted), "metadata")
    page: Page[Any] = await trial.do.sessions(with_state=True)
    expect_equal([repr(item.state) for item in page], [repr(wanted)], "state in a list")
    await trial.do.verify("s")


@area.check()
async def what_is_no_json_is_refused(trial: Trial) -> None:
    """NaN, sets, bytes, cycles and depth are refused before anything is written."""
    cycle: list[Any] = []
    cycle.append(cycle)
    for bad in (float("nan"), float("inf"), {1}, b"x", cycle, {1: 2}, object()):
        await expect_error(InvalidStateError, trial.do.add_run("s", input=bad), "add_run")
        await expect_error(
            InvalidStateError, trial.do.add_run("s", format="test/1", messages=[{"text": bad}]), "add_run"
        )
        await expect_error(InvalidStateError, trial.do.create_session("s", state={"k": bad}), "create_session")
    expect_equal(await trial.do.get_session("s"), None, "a session after it was refused")


@area.check()
async def limits_are_kept(trial: Trial) -> None:
    """State, metadata and commits over their limits are refused, and nothing changes."""
    await with_settings(trial, **_small_limits(Settings()))
    await trial.do.create_session("s", state={"k": 1})
    before = await trial.do.get_session("s")
    large = "x" * 3000
    await expect_error(TooLargeError, trial.do.update_state("s", {"k": large}), "update_state")
    await expect_error(TooLargeError, trial.do.set_metadata("s", {"k": large}), "set_metadata")
    await expect_error(TooLargeError, trial.do.add_run("s", input="x" * 9000), "add_run")
    expect_equal(await trial.do.get_session("s"), before, "the session after values were refused")


def _small_limits(settings: Settings) -> dict[str, int]:
    return {
        "max_state_bytes": min(2000, settings.max_state_bytes),
        "max_metadata_bytes": min(2000, settings.max_metadata_bytes),
        "max_commit_bytes": min(8000, settings.max_commit_bytes),
    }


# ---------------------------------------------------------------- changes


@area.check()
async def state_is_merged(trial: Trial) -> None:
    """A merge patch (RFC 7396): objects merge, None removes, everything else replaces."""
    await trial.do.create_session("s", state={"a": 1, "b": {"c": 2, "d": 3}, "list": [1, 2]})
    steps: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"a": 2}, {"a": 2, "b": {"c": 2, "d": 3}, "list": [1, 2]}),
        ({"b": {"c": None, "e": {}}}, {"a": 2, "b": {"d": 3, "e": {}}, "list": [1, 2]}),
        ({"list": [3]}, {"a": 2, "b": {"d": 3, "e": {}}, "list": [3]}),
        ({"a": None, "gone": None}, {"b": {"d": 3, "e": {}}, "list": [3]}),
        ({"b": 1, "list": None}, {"b": 1}),
        ({"b": {"x": True}}, {"b": {"x": True}}),
    ]
    for patch, wanted in steps:
        returned = await trial.do.update_state("s", patch)
        expect_equal(returned.state, wanted, f"what update_state({patch}) returns")
        expect_equal((await trial.do.get_session("s")).state, wanted, f"state after {patch}")
    revision = (await trial.do.get_session("s")).revision
    await trial.do.update_state("s", {"b": {"x": True}})
    expect_equal(
        (await trial.do.get_session("s")).revision, revision, "the revision after a change that changes nothing"
    )
    await trial.do.verify("s")


@area.check()
async def conflicts_are_told(trial: Trial) -> None:
    """`if_revision` refuses a change after somebody else's commit."""
    first = await trial.do.create_session("s")
    await trial.do.update_state("s", {"k": 1}, if_revision=first.revision)
    await expect_error(ConflictError, trial.do.update_state("s", {"k": 2}, if_revision=first.revision), "update_state")
    expect_equal((await trial.do.get_session("s")).state, {"k": 1}, "state after a conflict")


@area.check()
async def sessions_are_renamed(trial: Trial) -> None:
    """A name can be given, changed and taken away; lists know it."""
    await trial.do.create_session("s")
    for name in ("Capitals", "🦪 é", None):
        await trial.do.rename("s", name)
        expect_equal((await trial.do.get_session("s")).name, name, "name")
    await trial.do.rename("s", "Rivers")
    expect_equal([head.session_id for head in await trial.do.sessions(name_prefix="Riv")], ["s"], "by name")


@area.check()
async def metadata_is_merged(trial: Trial) -> None:
    """Metadata merges like state, and lists filter by it."""
    await trial.do.create_session("s", metadata={"plan": "pro", "tags": {"a": 1}})
    await trial.do.set_metadata("s", {"plan": None, "beta": True, "tags": {"b": 2}})
    expect_equal((await trial.do.get_session("s")).metadata, {"beta": True, "tags": {"a": 1, "b": 2}}, "metadata")
    for query, wanted in (({"beta": True}, 1), ({"beta": 1}, 0), ({"plan": "pro"}, 0)):
        expect_equal(await trial.do.count_sessions(metadata=query), wanted, f"sessions with metadata {query}")
    expect_equal(await trial.do.count_sessions(metadata_keys=["tags"]), 1, "sessions with the key tags")


@area.check()
async def sessions_expire(trial: Trial) -> None:
    """What is expired is absent on every read, and its id is free again; `sweep` removes it."""
    await add_runs(trial, "s", 2)
    await trial.do.set_ttl("s", 3600)
    expect((await trial.do.get_session("s")) is not None, "a session before it expires is there")
    await trial.let_expire("s")
    expect_equal(await trial.do.runs("s"), [], "runs of an expired session")
    expect_equal(len(await trial.do.sessions()), 0, "a list without expired sessions")
    expect_equal(await trial.do.count_sessions(), 0, "a count without expired sessions")
    expect_equal(await trial.do.delete("s"), False, "delete of an expired session")
    run = await trial.do.add_run("s", input="new")
    expect_equal((run.number, len(await trial.do.runs("s"))), (1, 1), "a session of the id of an expired one")
    expect_equal((await trial.do.get_session("s")).expires_at, None, "expires_at of the new session")
    await trial.do.create_session("t")
    await trial.let_expire("t")
    expect_equal(await trial.do.sweep(), 1, "sessions that sweep removes")
    expect_equal((await trial.do.sweep(), await trial.do.count_sessions()), (0, 1), "after sweep")


@area.check()
async def sessions_are_deleted(trial: Trial) -> None:
    """A deleted session is gone at once; a new one of the same id has nothing of it."""
    await add_runs(trial, "s", 3, state={"k": 1}, user_id="ada")
    old = await trial.do.get_session("s", user_id="ada")
    expect_equal(await trial.do.delete("s", user_id="ada"), True, "delete")
    expect_equal(await trial.do.delete("s", user_id="ada"), False, "delete again")
    found = (await trial.do.get_session("s", user_id="ada"), await trial.do.runs("s", user_id="ada"))
    expect_equal(found, (None, []), "after delete")
    expect_equal(len(await trial.do.sessions(user_id=ANY_USER)), 0, "a list after delete")
    await trial.do.add_run("s", input="new")
    head = await trial.do.get_session("s")
    expect_equal((head.run_count, head.revision, head.state, head.user_id), (1, 1, {}, None), "the new session")
    expect(head.incarnation != old.incarnation, "the new session is another incarnation")
    expect_equal(await trial.do.verify("s"), 1, "commits of the new session")


@area.check()
async def users_are_deleted(trial: Trial) -> None:
    """`delete_user` removes all sessions of one user, and only those."""
    for number in range(5):
        await trial.do.create_session(f"a{number}", user_id="ada")
        await trial.do.create_session(f"b{number}", user_id="bob")
    expect_equal(await trial.do.delete_user("ada"), 5, "deleted sessions")
    expect_equal(await trial.do.count_sessions(user_id="ada"), 0, "sessions of the deleted user")
    expect_equal(await trial.do.count_sessions(user_id="bob"), 5, "sessions of the other user")


# ---------------------------------------------------------------- lists


@area.check()
async def sessions_are_listed(trial: Trial) -> None:
    """Pages follow each other by their cursor, the last changed session first."""
    for number in range(7):
        await trial.do.create_session(f"s{number}", user_id="ada" if number % 2 else "bob", metadata={"n": number})
    await trial.do.rename("s2", "front", user_id=ANY_USER)
    heads = {f"s{number}": await trial.do.get_session(f"s{number}", user_id=ANY_USER) for number in range(7)}
    wanted = sorted(heads, key=lambda key: (heads[key].updated_at, key), reverse=True)
    expect_equal(wanted[0], "s2", "the session that was changed last")
    await expect_pages(trial, wanted, heads, user_id=ANY_USER)
    await expect_pages(trial, [key for key in wanted if heads[key].user_id == "ada"], heads, user_id="ada")
    created = sorted(heads, key=lambda key: (heads[key].created_at, key), reverse=True)
    await expect_pages(trial, created, heads, user_id=ANY_USER, order="created")
    for bad in ("x", "e30=", ""):
        await expect_error(InvalidInputError, trial.do.sessions(cursor=bad), f"cursor {bad!r}")
    for limit in (0, 1001, -1, True):
        await expect_error(InvalidInputError, trial.do.sessions(limit=limit), f"limit {limit!r}")


async def expect_pages(trial: Trial, wanted: list[str], heads: dict[str, Any], **query: Any) -> None:
    """Pages of every small size have these sessions in this order, each with its head."""

    async def pages(limit: int) -> list[Any]:
        found: list[Any] = []
        cursor = None
        for _ in range(len(wanted) + 1):
            page = await trial.do.sessions(limit=limit, cursor=cursor, with_state=True, **query)
            found.extend(page)
            cursor = page.next_cursor
            if cursor is None:
                break
        return found

    for limit in (1, 2, 1000):

        async def listed(limit: int = limit) -> bool:
            return [head.session_id for head in await pages(limit)] == wanted

        if not trial.capabilities.exact_order:
            await trial.until(listed, f"pages show {wanted}")
        found = await pages(limit)
        expect_equal([head.session_id for head in found], wanted, f"pages of {limit} sessions, {query}")
        expect_equal(found, [heads[key] for key in wanted], f"heads on pages of {limit}")
    expect_equal(await trial.do.count_sessions(**query), len(wanted), f"count_sessions({query})")


@area.check()
async def a_closed_storage_says_so(trial: Trial) -> None:
    """After close every operation is an error that says so; closing again is none."""
    await trial.do.create_session("s")
    await trial.do.close()
    await trial.do.close()
    await expect_error(ClosedError, trial.do.get_session("s"), "session after close")
    await expect_error(ClosedError, trial.do.add_run("s"), "add_run after close")
