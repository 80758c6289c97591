"""The stateful test: random sequences of public operations, compared with the plain model after every one."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

from ..errors import AlreadyExistsError, SessionNotFoundError, missing_dependency
from ..records import ANY_USER, Session, Usage, UserId
from ..storage.core import Core
from . import faults
from .checks import Face, Subject, Trial, expect, expect_equal, expect_error, open_location
from .model import ModelSession, text_of

try:
    from hypothesis import HealthCheck, Phase, seed, settings
    from hypothesis import strategies as st
    from hypothesis.stateful import (
        RuleBasedStateMachine,
        initialize,
        invariant,
        rule,
        run_state_machine_as_test,
    )
except ImportError as error:
    raise missing_dependency("hypothesis", "testing", "The model test of sessile.testing") from error

IDS = ("a", "b", "A", "a/é 🦪\n")
USERS = (None, "ada", "bob")
STATUSES = ("completed", "failed", "cancelled")

_TEXTS = st.text(st.characters(exclude_categories=()), max_size=8)
_SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: number + 0.0),  # -0.0 equals 0.0
    _TEXTS,
)
_KEYS = st.sampled_from(("k", "l", "", "a.b", "$x", "é\0"))
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), _SCALARS),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(_KEYS, below, max_size=3)),
    max_leaves=6,
)
_OBJECTS = st.dictionaries(_KEYS, _VALUES, max_size=4)
_CHOICES = st.integers(0, 19)
_USERS = st.sampled_from((ANY_USER, ANY_USER, ANY_USER, ANY_USER, *USERS))
_MAKERS = st.sampled_from((None, None, None, None, *USERS))
_NAMES = st.sampled_from((None, "Capitals", "Cap", "cap%", "🦪"))


class StorageMachine(RuleBasedStateMachine):
    """One storage, used through one face, and the model of it. Made for a driver by `machine_for`."""

    subject: Subject
    face: Face

    def __init__(self) -> None:
        super().__init__()
        self.trial = Trial(self.subject, self.face)
        self.sessions: dict[str, ModelSession] = {}
        self.heads: dict[str, Session] = {}
        self.lossy = False

    def teardown(self) -> None:
        self.trial.__exit__()

    # ------------------------------------------------------------ helpers

    def call(self, operation: str, /, *args: Any, **kwargs: Any) -> Any:
        """A public operation, through the face."""
        return self.trial.run(getattr(self.trial.do, operation)(*args, **kwargs))

    def steadily(self, operation: str, /, *args: Any, **kwargs: Any) -> Any:
        """A public operation of many commits, without faults: it may fail half-way, and is then called again."""
        self.injected(lossy=False)
        result = self.call(operation, *args, **kwargs)
        self.injected(lossy=self.lossy)
        return result

    def refused(self, kind: type[Any], operation: str, /, *args: Any, **kwargs: Any) -> None:
        """A public operation that must raise this error."""
        self.trial.run(expect_error(kind, getattr(self.trial.do, operation)(*args, **kwargs), operation))

    def found(self, session_id: str, user_id: UserId) -> ModelSession | None:
        """The session as this user sees it."""
        session = self.sessions.get(session_id)
        return session if session is not None and user_id in (ANY_USER, session.user_id) else None

    def pick(self, choice: int) -> str:
        """An id: mostly of a session that is there, now and then any."""
        there = sorted(self.sessions)
        ids = there if there and choice < 18 else IDS
        return ids[choice % len(ids)]

    def free(self, choice: int) -> str:
        """An id: mostly one that no session has."""
        free = [session_id for session_id in IDS if session_id not in self.sessions]
        ids = free if free and choice < 18 else IDS
        return ids[choice % len(ids)]

    def change(
        self,
        session_id: str,
        user_id: UserId,
        name: str,
        arguments: dict[str, Any],
        model: Callable[[ModelSession], object],
    ) -> None:
        """A change of a session that is there, or the error if it is not."""
        session = self.found(session_id, user_id)
        if session is None:
            self.refused(SessionNotFoundError, name, session_id, user_id=user_id, **arguments)
            return
        self.call(name, session_id, user_id=user_id, **arguments)
        model(session)

    # ------------------------------------------------------------ rules: changes

    @initialize(lossy=st.booleans(), runs=st.integers(0, 4))
    def begin(self, lossy: bool, runs: int) -> None:
        """Half of the sequences run over a connection that loses answers and refuses writes now and then."""
        self.lossy = lossy
        self.injected(lossy=lossy)
        self.add_runs(0, runs)

    @rule(session=_CHOICES, count=st.integers(1, 3))
    def add_runs(self, session: int, count: int) -> None:
        """Several runs that each change the state."""
        for _ in range(count):
            there = self.sessions.get(self.pick(session))
            number = 1 if there is None else len(there.runs) + 1
            whose = None if there is None else ANY_USER
            self.add_run(session, whose, number, "completed", [f"{number}?", "!"], {"k": number, f"n{number}": 1}, 1)

    def injected(self, *, lossy: bool) -> None:
        """Faults on, or off."""
        pattern = [faults.LOSE_ANSWER, None, faults.FAIL, faults.LOSE_ANSWER, None, None]
        plan = faults.Script("append", list(itertools.islice(itertools.cycle(pattern), 1000)))

        async def operation(core: Core) -> None:
            await (faults.wrap(core, plan) if lossy else faults.unwrap(core))

        self.trial.run(self.trial.operate(operation))

    @rule(session_id=st.sampled_from(IDS), user_id=_MAKERS, name=_NAMES, state=_OBJECTS, metadata=_OBJECTS)
    def create(
        self,
        session_id: str,
        user_id: str | None,
        name: str | None,
        state: dict[str, Any],
        metadata: dict[str, Any],
    ) -> None:
        """Make a session."""
        given: dict[str, Any] = {"user_id": user_id, "name": name, "state": state, "metadata": metadata}
        if session_id in self.sessions:
            self.refused(AlreadyExistsError, "create_session", session_id, **given)
            return
        self.call("create_session", session_id, **given)
        made = ModelSession(session_id, user_id, name, copy.deepcopy(state), copy.deepcopy(metadata), revision=1)
        self.sessions[session_id] = made

    @rule(
        session=_CHOICES,
        user_id=_USERS,
        value=_VALUES,
        status=st.sampled_from(STATUSES),
        texts=st.lists(_TEXTS, max_size=3),
        state=st.one_of(st.just({}), _OBJECTS),
        tokens=st.integers(0, 100),
    )
    def add_run(
        self,
        session: int,
        user_id: UserId,
        value: Any,
        status: str,
        texts: list[str],
        state: dict[str, Any],
        tokens: int,
    ) -> None:
        """Add a run, to a new session if there is none."""
        session_id = self.pick(session)
        said = {"messages": [{"text": text} for text in texts], "format": "test/1"}
        given: dict[str, Any] = {"input": value, "status": status, **said, "state": state}
        given["usage"] = Usage(input_tokens=tokens)
        absent = session_id not in self.sessions
        if (user_id is ANY_USER) if absent else self.found(session_id, user_id) is None:
            self.refused(SessionNotFoundError, "add_run", session_id, user_id=user_id, **given)
            return
        run = self.call("add_run", session_id, user_id=user_id, **given)
        if absent and user_id is not ANY_USER:
            self.sessions[session_id] = ModelSession(session_id, user_id)
        there = self.sessions[session_id]
        there.add_run(value, status, texts, state, tokens)
        expect_equal(run.number, len(there.runs), "the number of the run that was added")

    @rule(session=_CHOICES, user_id=_USERS, state=_OBJECTS)
    def update_state(self, session: int, user_id: UserId, state: dict[str, Any]) -> None:
        """Merge into the state."""
        session_id = self.pick(session)
        self.change(session_id, user_id, "update_state", {"patch": state}, lambda model: model.update_state(state))

    @rule(session=_CHOICES, user_id=_USERS, metadata=_OBJECTS)
    def set_metadata(self, session: int, user_id: UserId, metadata: dict[str, Any]) -> None:
        """Merge into the metadata."""
        session_id = self.pick(session)
        given = {"metadata": metadata}
        self.change(session_id, user_id, "set_metadata", given, lambda model: model.set_metadata(metadata))

    @rule(session=_CHOICES, user_id=_USERS, name=_NAMES)
    def rename(self, session: int, user_id: UserId, name: str | None) -> None:
        """Give a name, or take it away."""
        session_id = self.pick(session)

        def model(there: ModelSession) -> None:
            there.name = name
            there.revision += 1

        self.change(session_id, user_id, "rename", {"name": name}, model)

    @rule(session=_CHOICES, user_id=_USERS, choice=_CHOICES, restore=st.booleans())
    def rewind(self, session: int, user_id: UserId, choice: int, restore: bool) -> None:
        """Go back to some run, or to the beginning, or to another branch."""
        session_id = self.pick(session)
        there = self.sessions.get(session_id)
        at = 0 if there is None else choice % (len(there.runs) + 1)
        given = {"at": at, "restore_state": restore}
        self.change(session_id, user_id, "rewind", given, lambda model: model.rewind(at, restore=restore))

    @rule(session=_CHOICES, copied=_CHOICES, user_id=_USERS, choice=_CHOICES)
    def fork(self, session: int, copied: int, user_id: UserId, choice: int) -> None:
        """Make a session of its own out of some point of another one."""
        session_id, copy_id = self.pick(session), self.free(copied)
        given = {"session_id": copy_id}
        there = self.found(session_id, user_id)
        if there is None:
            self.refused(SessionNotFoundError, "fork", session_id, user_id=user_id, **given)
            return
        at = choice % (len(there.runs) + 1)
        if copy_id in self.sessions:
            self.refused(AlreadyExistsError, "fork", session_id, user_id=user_id, at=at, **given)
            return
        head = self.steadily("fork", session_id, user_id=user_id, at=at, **given)
        made = there.fork(at, copy_id)
        made.revision = head.revision
        self.sessions[copy_id] = made

    @rule(session=_CHOICES, user_id=_USERS, ttl=st.sampled_from((None, 3600, 86_400.5)))
    def expire_later(self, session: int, user_id: UserId, ttl: float | None) -> None:
        """Let a session expire in the future, or never."""
        session_id = self.pick(session)

        def model(there: ModelSession) -> None:
            there.revision += 1
            there.expires = ttl is not None

        self.change(session_id, user_id, "set_ttl", {"ttl": ttl}, model)

    @rule(
        session=_CHOICES,
        user_id=_USERS,
        how=st.sampled_from(("reopen", "sweep", "delete", "expire", "delete_user", "reopen", "sweep")),
    )
    def remove_or_maintain(self, session: int, user_id: UserId, how: str) -> None:
        """Sessions end in three ways; sweeping, and closing and opening anew, change nothing that can be seen."""
        session_id = self.pick(session)
        there = self.found(session_id, user_id) is not None
        gone: list[str] = []
        if how == "delete_user" and isinstance(user_id, str):
            gone = [key for key, kept in self.sessions.items() if kept.user_id == user_id]
            expect_equal(self.steadily("delete_user", user_id), len(gone), "sessions of a user that were deleted")
        elif how == "expire" and there:
            self.trial.run(self.trial.let_expire(session_id))
            gone = [session_id]
        elif how == "delete":
            expect_equal(self.call("delete", session_id, user_id=user_id), there, "what delete says")
            gone = [session_id] if there else []
        elif how == "sweep":
            self.steadily("sweep")
        elif how == "reopen" and self.trial.capabilities.durable and self.trial.location is not None:
            self.trial.replace_storage(open_location(self.trial.location))
            self.injected(lossy=self.lossy)
        for key in gone:
            del self.sessions[key]

    # ------------------------------------------------------------ rules: reads

    @rule(session=_CHOICES, last=st.integers(0, 6), start=st.integers(1, 6), end=st.integers(0, 6))
    def read_runs(self, session: int, last: int, start: int, end: int) -> None:
        """Windows of runs and messages."""
        session_id = self.pick(session)
        there = self.sessions.get(session_id)
        path = [] if there is None else there.path()
        between = [run for run in path if start <= run.number <= end]
        windows: tuple[tuple[dict[str, Any], list[Any]], ...] = (
            ({"last": last}, path[len(path) - min(last, len(path)) :]),
            ({"from_run": start, "to_run": end}, between),
            ({"status": "failed"}, [run for run in path if run.status == "failed"]),
        )
        for query, wanted in windows:
            found = self.call("runs", session_id, **query, user_id=ANY_USER)
            numbers = [(run.number, run.status, text_of(run.input)) for run in found]
            expect_equal(numbers, [(run.number, run.status, text_of(run.input)) for run in wanted], f"runs({query})")
        texts = [
            message.data["text"] for message in self.call("messages", session_id, last_runs=last, user_id=ANY_USER)
        ]
        expect_equal(texts, [text for run in windows[0][1] for text in run.texts], "messages")
        view = self.call("get_session", session_id, last_runs=last, user_id=ANY_USER)
        if there is None:
            expect_equal(view, None, "get_session")
        else:
            found = self.call("runs", session_id, last=last, user_id=ANY_USER)
            expect_equal(view.runs, found, "runs of get_session")
            expect_equal(text_of(view.state), text_of(there.state), "state of get_session")

    @rule(
        user_id=_USERS,
        prefix=st.sampled_from((None, None, None, "Cap", "cap%", "C_")),
        status=st.sampled_from((None, None, None, *STATUSES)),
        order=st.sampled_from(("updated", "created")),
        limit=st.integers(1, 4),
    )
    def list_sessions(self, user_id: UserId, prefix: str | None, status: str | None, order: str, limit: int) -> None:
        """Pages of lists with filters."""
        if not self.trial.capabilities.finds_names:
            prefix = None
        query: dict[str, Any] = {"user_id": user_id, "name_prefix": prefix, "status": status, "order": order}
        wanted = [
            self.heads[key]
            for key, session in self.sessions.items()
            if user_id in (ANY_USER, session.user_id)
            and (prefix is None or (session.name or "").startswith(prefix))
            and (status is None or session.status == status)
        ]
        self.expect_list(query, wanted, limit)
        del query["order"]
        expect_equal(self.call("count_sessions", **query), len(wanted), f"count_sessions({query})")

    def expect_list(self, query: dict[str, Any], wanted: list[Session], limit: int) -> None:
        """Pages of a list have these heads in the order that is asked for; lists that may lag are given time."""
        moment = "created_at" if query.get("order") == "created" else "updated_at"
        wanted.sort(key=lambda head: (getattr(head, moment), head.session_id), reverse=True)
        if not self.trial.capabilities.exact_order:

            async def caught_up() -> bool:
                page = await self.trial.do.sessions(**query, limit=1000, with_state=True)
                return list(page) == wanted

            self.trial.run(self.trial.until(caught_up, f"sessions({query})"))
        found: list[Session] = []
        cursor: str | None = None
        for _ in range(len(wanted) + 1):
            page = self.call("sessions", **query, limit=limit, cursor=cursor, with_state=True)
            found.extend(page)
            cursor = page.next_cursor
            if cursor is None:
                break
        expect_equal(found, wanted, f"sessions({query})")

    # ------------------------------------------------------------ invariants

    @invariant()
    def sessions_agree(self) -> None:
        """Every session is as the model has it, its head is what its log folds to, and the list has them all."""
        self.heads = {}
        for session_id in IDS:
            head = self.call("get_session", session_id, user_id=ANY_USER)
            session = self.sessions.get(session_id)
            if session is None:
                expect_equal(head, None, f"session {session_id!r}, which is absent")
                continue
            expect(head is not None, f"session {session_id!r} is not there")
            self.heads[session_id] = head
            expect_equal(_summary(head), _model_summary(session), f"session {session_id!r}")
            expect_equal(self.call("verify", session_id, user_id=ANY_USER), session.revision, "commits")
            branches = [(item.tip, item.runs, item.current) for item in head.branches()]
            expect_equal(branches, session.branches(), f"branches of session {session_id!r}")
        self.expect_list({"user_id": ANY_USER}, list(self.heads.values()), limit=1000)


def _summary(head: Session) -> dict[str, Any]:
    return {
        "user_id": head.user_id,
        "name": head.name,
        "status": head.status,
        "revision": head.revision,
        "runs": head.run_count,
        "tip": head.tip,
        "tokens": head.usage.input_tokens,
        "state": text_of(head.state),
        "metadata": text_of(head.metadata),
        "forked_from": head.forked_from,
        "expires": head.expires_at is not None,
    }


def _model_summary(session: ModelSession) -> dict[str, Any]:
    return {
        "user_id": session.user_id,
        "name": session.name,
        "status": session.status,
        "revision": session.revision,
        "runs": len(session.runs),
        "tip": session.tip,
        "tokens": session.tokens,
        "state": text_of(session.state),
        "metadata": text_of(session.metadata),
        "forked_from": session.forked_from,
        "expires": session.expires,
    }


def machine_for(subject: Subject, face: Face = "sync") -> type[StorageMachine]:
    """The state machine of a driver; its `TestCase` is a `unittest` test, as with any of Hypothesis."""
    machine = type("StorageMachine", (StorageMachine,), {"subject": subject, "face": face})
    machine.TestCase.settings = settings(
        max_examples=subject.scale.examples,
        stateful_step_count=subject.scale.steps,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=(  # a slow machine or database is no failure
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.large_base_example,
        ),
        phases=(Phase.generate, Phase.shrink),
    )
    return seed(subject.scale.seed)(machine)


def run_model(subject: Subject, face: Face) -> None:
    """Compare a driver with the model, as often and as long as the subject's scale says."""
    machine = machine_for(subject, face)
    run_state_machine_as_test(machine, settings=machine.TestCase.settings)
