"""Who reaches what: every public operation, called by everybody. `python -m tests.access_page` writes docs/access.md.

Each operation is called twice: where the session in question stands, and in an empty storage. If nothing that comes of
it differs, the caller has been told nothing: for that caller the session is not there. The operations are found by
looking at the classes, so that one that is not described here is an error.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import io
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic_ai import DeferredToolRequests, ModelMessage, ModelResponse, TextPart, Tool, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from sessile import ANY_USER, Agent, Context, MemoryStorage, Storage, Team, Workflow
from sessile.agents.handle import AgentSession
from sessile.agents.started import StartedRun
from sessile.live.streams import RunStream
from sessile.records import Entry, UserId
from sessile.storage import extending, turns
from sessile.storage.driver import ListQuery, Span
from sessile.storage.extending import Changes, Core, Draft, Snapshot, operate
from sessile.storage.rewriting import all_of_it
from sessile.storage.turns import TurnSpec
from sessile.storage.vocabulary import SessionSummarized
from sessile.workflows.streaming import WorkflowStream

PAGE = Path(__file__).resolve().parent.parent / "docs" / "access.md"

S = "s"
"""The session in question."""

OWNER, OTHER = "ada", "bob"

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments, without whose session it is."""


def given(*args: Any, **kwargs: Any) -> Call:
    return args, kwargs


# ---------------------------------------------------------------- what is called

IMAGE = {"kind": "binary", "media_type": "image/png", "data": base64.urlsafe_b64encode(b"picture").decode()}

STORAGE: dict[str, Call] = {
    "get_session": given(S, last_runs=3),
    "runs": given(S),
    "get_run": given(S, 3),
    "messages": given(S),
    "branches": given(S),
    "entries": given(S),
    "tail": given(S),
    "follow": given(S),
    "media": given(S),
    "sessions": given(),
    "count_sessions": given(),
    "changed_sessions": given(),
    "create_session": given(S),
    "add_run": given(S, input="hello"),
    "amend_run": given(S, drop=1),
    "update_state": given(S, {"x": 2}),
    "rename": given(S, "other"),
    "set_metadata": given(S, {"x": 2}),
    "set_ttl": given(S, 100),
    "cancel_run": given(S, 1),
    "delete": given(S),
    "rate": given(S, 3, score=1),
    "decide": given(S, 2, approvals={"c1": True}),
    "grant": given("send", "porter", S),
    "grants": given(S),
    "revoke": given("a-grant", S),
    "verify": given(S),
    "fork": given(S),
    "fork, as its target": given("own", session_id=S),
    "rewind": given(S, at=0),
    "delete_user": given(),
    "erase_run": given(S, 3),
    "hold": given(S, "a case"),
    "release": given(S),
    "waiting": given(),
    "claim": given(S, agent="porter"),
}
AGENT: dict[str, Call] = {
    "run": given("hello", session_id=S),
    "stream": given("hello", session_id=S),
    "print_response": given("hello", session_id=S),
    "start": given("hello", session_id=S),
    "resume": given(S, run_number=2, approvals={"c1": True}),
    "stream_resume": given(S, run_number=2, approvals={"c1": True}),
}
WORKFLOW: dict[str, Call] = {
    "run": given(session_id=S),
    "stream": given(session_id=S),
    "print_run": given(session_id=S),
    "resume": given(S),
    "send_event": given(S, "go", "there"),
    "journal": given(S),
}
HANDLE: dict[str, Call] = {
    "run": given("hello"),
    "stream": given("hello"),
    "resume": given(run_number=2, approvals={"c1": True}),
    "get_session": given(),
    "state": given(),
    "summary": given(),
    "runs": given(),
    "messages": given(),
    "pending": given(),
    "branches": given(),
    "update_state": given({"x": 2}),
    "rename": given("other"),
    "fork": given(),
    "rewind": given(at=0),
    "cancel": given(run_number=1),
    "delete": given(),
}


async def starred(snapshot: Snapshot) -> Draft:
    return Draft([Entry("mylib.starred", None)])


EXTENDING: dict[str, Call] = {
    "look": given(S),
    "commit": given(S, starred),
    "find": given(S, "mylib:key"),
    "tail": given(S),
    "amend": given(S, drop=1),
    "erase": given(S, Span(), all_of_it),
    "rewrite": given(S, lambda entry: None if entry.kind == "mylib.note" else entry),
    "changed": given(),
}

NOT_OF_ONE_SESSION: dict[str, set[str]] = {
    "Storage": {
        "close",
        "setup",
        "migrate",
        "sweep",
        "warnings",
        "stats",
        "capabilities",
        "settings",
        "for_user",
        "index",
        "removals",
        "scope",
        "scopes",
        "files",  # of one session, but without I/O: tests/storage/test_files.py
        "memories",
        "all_memories",
    },
    "Agent": {"for_user", "session", "attach", "description", "shown"},
    "Team": set(),
    "Workflow": {"for_user", "mermaid"},
    "AgentSession": {"user_id"},
    # These are given a session that was found before.
    "extending": {
        "operate",
        "entries_between",
        "all_entries",
        "find_in",
        "newest_messages",
        "run_of",
        "with_media",
        "keep_media",
        "read_record",
        "read_records",
        "write_record",
        "record_names",
    },
}
"""What is public and names no session: it belongs to the whole database, does no I/O, or is given a session."""

MAKERS = {
    ("Storage", "create_session"),
    ("Storage", "add_run"),
    ("Storage", "fork, as its target"),
    *((kind, name) for kind in ("Agent", "Team") for name in ("run", "stream", "print_response", "start")),
    *(("Workflow", name) for name in ("run", "stream", "print_run")),
    *(("AgentSession", name) for name in ("run", "stream")),
    ("extending", "commit"),
}
"""What makes the session if it is not there, and so cannot help telling whose id is taken in the space of all users."""

ONLY_MAKE = {("Storage", "create_session"), ("Storage", "fork, as its target")}
"""What makes a session, and reaches none that is there."""


def public_names(described: type) -> set[str]:
    """The public names of a class, those of asynchronous twins left out."""
    names = {name for name in dir(described) if not name.startswith("_")}
    return {name for name in names if not (name.startswith("a") and name[1:] in names)}


def operations_of_extending() -> set[str]:
    return {name for name in extending.__all__ if inspect.iscoroutinefunction(getattr(extending, name))} - {"aoperate"}


# ---------------------------------------------------------------- a world with one session in it


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if "approve" in str(messages[0].parts[-1]) and len(messages) == 1:
        return ModelResponse(parts=[ToolCallPart("send", {}, tool_call_id="c1")])
    return ModelResponse(parts=[TextPart("hi")])


async def streamed(messages: list[ModelMessage], info: AgentInfo) -> Any:
    yield "hi" if info else {0: DeltaToolCall()}


def send() -> str:
    return "sent"


async def ask_nobody(request: Any, members: Any) -> str:
    return "hi"


async def waits(ctx: Context) -> str:
    return await ctx.wait_for_event("go")


def agent_over(storage: Storage) -> Agent[Any]:
    model = FunctionModel(answer, stream_function=streamed)
    return Agent(model, name="porter", storage=storage, tools=[Tool(send, requires_approval=True)], history=None)


def team_over(storage: Storage) -> Team[Any]:
    return Team([Agent(FunctionModel(answer), name="one")], mode=ask_nobody, name="crew", storage=storage, history=None)


def workflow_over(storage: Storage) -> Workflow[Any]:
    return Workflow(waits, name="waits", storage=storage)


async def _running(core: Core, user_id: str | None) -> str:
    """A run that is at work, with an image; returns the hash of the image."""
    turn = await turns.begin_turn(core, TurnSpec(S, "at-work", "hello", user_id, agent="porter"), 0)
    kept: Any = await turns.keep_media(core, turn, IMAGE)
    return str(kept["data"]["$blob"])


def conversation(storage: Storage, user_id: str | None) -> None:
    """A session with a run at work, a paused one, and a finished one."""
    digest = operate(storage, _running, user_id)
    STORAGE["media"] = given(S, digest)
    paused = agent_over(storage).run("approve", session_id=S, user_id=user_id)
    assert isinstance(paused.output, DeferredToolRequests)
    storage.add_run(
        S,
        input="q",
        output="a",
        format="test/1",
        messages=[{"text": "q"}, {"text": "a"}],
        state={"x": 1},
        user_id=user_id,
    )
    commit_to(storage, user_id, Draft([SessionSummarized(upto=3, text="They have talked.").entry()]))


def commit_to(storage: Storage, user_id: str | None, draft: Draft) -> None:
    async def change(snapshot: Snapshot) -> Draft:
        return draft

    operate(storage, extending.commit, S, change, user_id=user_id)


def crew(storage: Storage, user_id: str | None) -> None:
    conversation(storage, user_id)
    team_over(storage).run("hello", session_id=S, user_id=user_id)


def waiting(storage: Storage, user_id: str | None) -> None:
    assert workflow_over(storage).run(session_id=S, user_id=user_id).status == "paused"


def noted(storage: Storage, user_id: str | None) -> None:
    """A conversation in which an integration has written something, too."""
    conversation(storage, user_id)
    commit_to(storage, user_id, Draft([Entry("mylib.note", None)], key="mylib:key"))


# ---------------------------------------------------------------- who calls


@dataclass(frozen=True)
class Caller:
    """Whose call it is: `user` in the call, or over a view of one user's."""

    title: str
    user: UserId = None
    view: str | None = None

    def seen(self, storage: Storage) -> Storage:
        return storage if self.view is None else storage.for_user(self.view)


NOBODY = Caller("no user")
ANYBODY = Caller("`ANY_USER`", ANY_USER)


@dataclass(frozen=True)
class Place:
    """A session in question: whose it is, in whose view it was made, and who calls where it stands."""

    letter: str
    title: str
    user: str | None
    view: str | None
    callers: tuple[tuple[Caller, bool], ...]
    """With each caller whether it reaches the session."""


PLACES = (
    Place(
        "A",
        "a session of Ada's",
        OWNER,
        None,
        (
            (NOBODY, False),
            (Caller("Bob", OTHER), False),
            (Caller("Bob, by a view", view=OTHER), False),
            (Caller("Ada", OWNER), True),
            (ANYBODY, True),
        ),
    ),
    Place(
        "N", "a session that has no user", None, None, ((NOBODY, True), (Caller("Bob", OTHER), False), (ANYBODY, True))
    ),
    Place(
        "V",
        "a session that was made in Ada's view",
        OWNER,
        OWNER,
        (
            (NOBODY, False),
            (Caller("Bob", OTHER), False),
            (Caller("Bob, by a view", view=OTHER), False),
            (Caller("Ada, by a view", view=OWNER), True),
        ),
    ),
)


@dataclass(frozen=True, eq=False)
class Subject:
    """A class (or module) of operations, how they are found, and what must stand where they are called."""

    name: str
    calls: dict[str, Call]
    found: set[str]
    prepare: Callable[[Storage, str | None], None]
    over: Callable[[Storage, Caller], Any]

    @property
    def described(self) -> set[str]:
        """All names that are spoken of here."""
        return {name.split(",")[0] for name in self.calls} | NOT_OF_ONE_SESSION[self.name]


SUBJECTS = (
    Subject("Storage", STORAGE, public_names(Storage), conversation, lambda storage, caller: storage),
    Subject("Agent", AGENT, public_names(Agent), conversation, lambda storage, caller: agent_over(storage)),
    Subject(
        "Team",
        {name: call for name, call in AGENT.items() if name != "resume"},
        public_names(Team) - (public_names(Agent) - AGENT.keys()) - {"resume"},
        crew,
        lambda storage, caller: team_over(storage),
    ),
    Subject("Workflow", WORKFLOW, public_names(Workflow), waiting, lambda storage, caller: workflow_over(storage)),
    Subject(
        "AgentSession",
        HANDLE,
        public_names(AgentSession),
        conversation,
        lambda storage, caller: agent_over(storage).session(S, user_id=caller.user),
    ),
    Subject("extending", EXTENDING, operations_of_extending(), noted, lambda storage, caller: storage),
)


# ---------------------------------------------------------------- calling


def outcome(subject: Subject, name: str, storage: Storage, caller: Caller, *, twin: bool) -> Any:
    """What a caller is told: an error, or as much of a value as tells one session from none."""
    args, kwargs = subject.calls[name]
    called = name.split(",")[0]
    seen = caller.seen(storage)
    target = subject.over(seen, caller)
    if name == "delete_user":
        args = (caller.user if caller.view is None else caller.view,)
    elif subject.name != "AgentSession":
        kwargs = {**kwargs, "user_id": caller.user}
    if name == "fork, as its target":
        whose = OTHER if caller.user is ANY_USER else caller.user
        seen.add_run("own", input="mine", user_id=whose)
    try:
        with redirect_stdout(io.StringIO()):
            if subject.name == "extending":
                operation = getattr(extending, called)
                return told(operate(seen, operation, *args, **kwargs))
            if not twin:
                return told(settled(getattr(target, called)(*args, **kwargs)))
            return told(asyncio.run(asettled(getattr(target, f"a{called}"), args, kwargs)))
    except Exception as error:  # noqa: BLE001 (whatever it is, it tells the caller something)
        return type(error).__name__, str(error)


def settled(value: Any) -> Any:
    if inspect.isgenerator(value):
        return next(value)
    if isinstance(value, (RunStream, WorkflowStream)):
        for _ in value:
            pass
        return value.result
    if isinstance(value, StartedRun):
        value.collect()
    return value


async def asettled(method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    value = method(*args, **kwargs)
    if isinstance(value, Awaitable):
        given = await value
        if isinstance(given, StartedRun):
            await given.acollect()
        return given
    if inspect.isasyncgen(value):
        first = await anext(value)
        await value.aclose()
        return first
    async for _ in value:
        pass
    return value.result


def told(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str, bytes)):
        return value
    if isinstance(value, (list, dict)):
        return len(value)
    if isinstance(value, Snapshot):
        return told(value.head)
    if isinstance(value, StartedRun):
        return value.run_number
    if isinstance(value, Changes):
        return len(value.sessions)
    if hasattr(value, "items") and hasattr(value, "unreadable"):
        return len(value.items)
    return type(value).__name__, getattr(value, "number", None), getattr(value, "revision", None)


def everything(storage: Storage) -> dict[str, Any]:
    """All that is stored, by the ids under which it is."""
    return operate(storage, _everything)


async def _everything(core: Core) -> dict[str, Any]:
    deadline = core.deadline()
    await core.prepare(deadline)
    found: dict[str, Any] = {}
    for head in (await core.driver.list(ListQuery(hidden=None, limit=1000), deadline)).rows:
        keys = await core.driver.record_keys(head.session_id, head.incarnation, "", deadline)
        records = [await core.driver.get_record(head.session_id, head.incarnation, key, deadline) for key in keys]
        found[head.session_id] = (await core.driver.load(head.session_id, 10_000, deadline), keys, records)
    return {name: (loaded._replace(now=0), *rest) for name, (loaded, *rest) in found.items()}


@dataclass(frozen=True)
class Verdict:
    """What came of one call: the word for the page, and whether anything that was there before has changed."""

    word: str
    changed: bool


@cache
def verdict(subject: Subject, name: str, place: Place, caller: Caller, *, twin: bool = False) -> Verdict:
    with MemoryStorage(inline_media_bytes=0) as storage, MemoryStorage(inline_media_bytes=0) as empty:
        whose = storage if place.view is None else storage.for_user(place.view)
        subject.prepare(whose, place.user)
        before = everything(storage)
        there = outcome(subject, name, storage, caller, twin=twin)
        after = everything(storage)
        nowhere = outcome(subject, name, empty, caller, twin=twin)
    changed = any(after.get(one) != before[one] for one in before)
    if there == nowhere:
        return Verdict("no", changed)
    if isinstance(there, tuple) and there[0] in ("SessionNotFoundError", "AlreadyExistsError"):
        return Verdict("taken", changed)
    return Verdict("yes", changed)


# ---------------------------------------------------------------- the page

HEAD = """\
# Who reaches what

What each public operation shows or changes of a session, by who calls it: **yes**: it reaches the session; **–**: for
this caller the session is not there, and nothing that comes back differs from what would if it were not; **taken**: the
caller learns that the id is taken, and nothing else. Bob's view is `storage.for_user("bob")`: its ids are Bob's own, so
that not even that is learnt. All who call without a view share one space of ids.

This page is made by calling all of them (`python -m tests.access_page`); a test makes it again and compares. Who calls
stands over the columns, and which session is at the id that is named:
"""

TAIL = """
Not in the tables, because they name no session: what belongs to the whole database (`setup`, `migrate`, `sweep`,
`stats`, `warnings`, `close`; a view refuses `migrate` and `sweep`), and what does no I/O. Where the storage was made
with `require_user=True`, a call that names no user is refused before anything else.

Ids that begin with `sessile:` are made by Sessile itself: kept results of steps, and sessions of views. Whoever names
one is refused, except with `ANY_USER`, which reaches what is there and makes nothing.
"""


COLUMNS = [(place, caller) for place in PLACES for caller, _ in place.callers]


def table(subject: Subject) -> list[str]:
    title = "`sessile.storage.extending`" if subject.name == "extending" else f"`{subject.name}`"
    heads = [f"{place.letter}: {caller.title}" for place, caller in COLUMNS]
    lines = ["", f"## {title}", "", f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for name in subject.calls:
        called, *rest = name.split(",")
        cells = [verdict(subject, name, *column).word.replace("no", "–") for column in COLUMNS]
        lines.append(f"| `{called}`{','.join(['', *rest])} | {' | '.join(cells)} |")
    return lines


def page() -> str:
    legend = [f"* **{place.letter}**: {place.title}." for place in PLACES]
    return "\n".join([HEAD, *legend, *(line for subject in SUBJECTS for line in table(subject)), TAIL])


if __name__ == "__main__":
    PAGE.write_text(page())
