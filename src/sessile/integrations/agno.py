"""Sessions and runs of Agno (3) in any storage of Sessile's.

    from sessile import SqliteStorage
    from sessile.integrations.agno import SessileDb

    agent = Agent(model=…, db=SessileDb(SqliteStorage("sessions.db")), add_history_to_context=True)

A session is stored as `agno:SESSION` (`sessile.integrations.ids`), of the kind `agno`; each run of Agno's is one of it.
Everything else that Agno keeps in a database (memories, metrics, evaluations, knowledge, traces, …) is in `rest`.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others.)

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import SessionNotFoundError, UnsupportedError, missing_dependency
from ..storage.extending import ANY_USER, Session, Storage, operate
from .agno_runs import all_runs, plain
from .agno_sessions import (
    KIND,
    OWNERS,
    UnclaimedError,
    cancel,
    filled,
    hide_run,
    name_of,
    put_row,
    read,
    rename,
    row_of,
    run_at,
    write_run,
)
from .ids import short, stored_id
from .lines import ThreadLines
from .stored import passing_over, reading

try:
    from agno.db.base import BaseDb, SessionType
    from agno.db.in_memory import InMemoryDb
    from agno.db.in_memory.utils import apply_sorting
    from agno.db.utils import (
        deserialize_run,
        deserialize_session,
        deserialize_sessions,
        filter_context_runs,
        get_run_type,
    )
    from agno.session import AgentSession, TeamSession, WorkflowSession
except ImportError as error:
    raise missing_dependency("agno", "agno", "A database of Agno's", error) from error

TYPES = {AgentSession: SessionType.AGENT, TeamSession: SessionType.TEAM, WorkflowSession: SessionType.WORKFLOW}


def _forwarding(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.rest, name)(*args, **kwargs)

    method.__name__ = name
    method.__doc__ = f"`{name}` of `rest`."
    return method


_Rest: Any = type(
    "_Rest",
    (BaseDb,),
    {
        name: _forwarding(name)
        for name, value in vars(BaseDb).items()
        if callable(value) and not name.startswith("_") and name not in ("to_dict", "from_dict")
    },
)
"""A database all of whose methods are those of `rest`."""


class SessileDb(_Rest):
    """Sessions and runs in a storage of Sessile's, everything else in another database of Agno's.

    An owned session is written by its owner alone: `upsert_session` by another user returns None, as Agno has it, and
    `upsert_run` by another user raises `SessionNotFoundError`, and so does one for a session that is not there.

    Args:
        storage: where sessions are kept. The caller closes it.
        rest: a database of Agno's for everything else; in memory if it is None.
        session_table: part of the ids of sessions, as in Agno the name of a table is: two tables have no session in
            common. None: `agno:SESSION`.
    """

    def __init__(self, storage: Storage, *, rest: BaseDb | None = None, session_table: str | None = None) -> None:
        super().__init__(session_table=session_table)
        self.storage = storage
        self.rest = InMemoryDb() if rest is None else rest
        self._table = session_table
        self._lines = ThreadLines()

    def close(self) -> None:
        """Close `rest`; the storage is the caller's."""
        self.rest.close()

    # ------------------------------------------------------------ sessions

    def upsert_session(self, session: Any, deserialize: bool | None = True) -> Any:
        """Write a session's row; its runs too if the session is new. None if it is another user's."""
        row = plain(session.to_dict(include_runs=False))
        row["session_type"] = next(kind.value for known, kind in TYPES.items() if isinstance(session, known))
        written = self._upsert(row, with_runs=bool(session.runs))
        if written is None:
            return None
        row, new = written
        if new and session.runs:
            for run in session.runs:
                self.upsert_run(run, row["session_id"], row.get("user_id"))
            operate(self.storage, filled, self._id(row["session_id"]))
        if not deserialize:
            return {**row, "runs": [run if isinstance(run, dict) else run.to_dict() for run in session.runs or []]}
        made = deserialize_session(None, dict(row))
        made.runs = session.runs
        return made

    def upsert_sessions(
        self, sessions: list[Any], deserialize: bool | None = True, preserve_updated_at: bool = False
    ) -> list[Any]:
        """As `upsert_session`, one after the other."""
        made = [self.upsert_session(one, deserialize=deserialize) for one in sessions if one is not None]
        return [one for one in made if one is not None]

    def get_session(
        self,
        session_id: str,
        session_type: Any = None,
        user_id: str | None = None,
        deserialize: bool | None = True,
        runs_limit: int | None = None,
    ) -> Any:
        """The session with its runs, or the newest that count for a context; None if it is not there, or another's."""
        found = operate(self.storage, read, self._id(session_id), user_id, runs_limit, filter_context_runs)
        if found is None or not deserialize:
            return found
        with reading():
            return deserialize_session(session_type, found)

    def get_sessions(
        self,
        session_type: Any = None,
        user_id: str | None = None,
        component_id: str | None = None,
        session_name: str | None = None,
        start_timestamp: int | None = None,
        end_timestamp: int | None = None,
        limit: int | None = None,
        page: int | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
        deserialize: bool | None = True,
        include_runs: bool = True,
    ) -> Any:
        """Sessions by filters, sorted, a page of them, with their number if not `deserialize`. Reads all heads."""
        heads = {one.session_id: one for one in self._heads(user_id)}
        rows = {name: row_of(one) for name, one in heads.items()}
        wanted = getattr(session_type, "value", session_type)
        chosen = [
            {**row, "at": name}
            for name, row in rows.items()
            if wanted in (None, row["session_type"])
            and (component_id is None or component_id in _components(row, wanted))
            and (start_timestamp is None or (row.get("created_at") or 0) >= start_timestamp)
            and (end_timestamp is None or (row.get("created_at") or 0) <= end_timestamp)
            and (session_name is None or session_name.lower() in name_of(row).lower())
        ]
        total = len(chosen)
        with reading():
            chosen = _paged(apply_sorting(chosen, sort_by, sort_order), limit, page)
        made: list[Any] = []
        for row in chosen:
            head = heads[row.pop("at")]
            with passing_over(head.session_id):
                row["runs"] = (operate(self.storage, all_runs, head) or None) if include_runs else None
                made += deserialize_sessions(session_type, [row]) if deserialize else [row]
        return made if deserialize else (made, total)

    def rename_session(
        self,
        session_id: str,
        session_type: Any,
        session_name: str,
        user_id: str | None = None,
        deserialize: bool | None = True,
    ) -> Any:
        """Give a session another name; None if it is not there, of another type, or another user's."""
        wanted = getattr(session_type, "value", session_type)
        if not operate(self.storage, rename, self._id(session_id), wanted, session_name, user_id):
            return None
        return self.get_session(session_id, session_type, user_id, deserialize)

    def delete_session(self, session_id: str, user_id: str | None = None) -> bool:
        """Delete a session with its runs; whether it was there, and the user's if one is named."""
        return self.storage.delete(self._id(session_id), user_id=ANY_USER if user_id is None else short(user_id))

    def delete_sessions(self, session_ids: list[str], user_id: str | None = None) -> None:
        """As `delete_session`, one after the other."""
        for session_id in session_ids:
            self.delete_session(session_id, user_id)

    def reassign_session_owner(self, session_id: str, *, previous_user_id: str, user_id: str | None) -> bool:
        """Not there: a session of Sessile's that has a user keeps it."""
        raise NotImplementedError("A session of Sessile's that has a user keeps it.")

    # ------------------------------------------------------------ runs

    def upsert_run(self, run: Any, session_id: str, user_id: str | None = None, run_index: int | None = None) -> None:
        """Write a run: in one commit a new one, or the whole of it again, at its place.

        Raises `SessionNotFoundError` if the session is not there, or another user's.
        """
        said = plain(run if isinstance(run, dict) else run.to_dict())
        if said.get("run_id") is None:
            raise ValueError("Run must have a run_id")
        if run_index is not None:
            said.setdefault("run_index", run_index)
        with self._lines.at(session_id):
            operate(self.storage, write_run, self._id(session_id), said, user_id)

    def get_run(self, run_id: str, deserialize: bool | None = True) -> Any:
        """A run by its id. Looks into all sessions."""
        for head in self._heads(None):
            with passing_over(head.session_id):
                found = operate(self.storage, run_at, head.session_id, run_id)
                if found is not None:
                    whole: Any = found.whole()
                    return deserialize_run(get_run_type(whole), whole) if deserialize else whole
        return None

    def get_runs(
        self,
        session_id: str | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        team_id: str | None = None,
        workflow_id: str | None = None,
        status: Any = None,
        limit: int | None = None,
        page: int | None = None,
        sort_by: str | None = None,
        sort_order: str | None = None,
        deserialize: bool | None = True,
    ) -> Any:
        """Runs by filters, sorted, a page of them, with their number if not `deserialize`. Reads whole sessions."""
        heads = [one for one in self._heads(user_id) if session_id in (None, row_of(one)["session_id"])]
        wanted = {"agent_id": agent_id, "team_id": team_id, "workflow_id": workflow_id}
        wanted["status"] = getattr(status, "value", status)
        rows: list[dict[str, Any]] = []
        for head in heads:
            with passing_over(head.session_id):
                runs = operate(self.storage, all_runs, head)
                rows += [run for run in runs if all(value in (None, run.get(name)) for name, value in wanted.items())]
        total = len(rows)
        if sort_by is None:
            rows.sort(key=lambda run: (run.get("run_index") or 0, run.get("created_at") or 0))
        else:
            with reading():
                rows = apply_sorting(rows, sort_by, sort_order)
        rows = _paged(rows, limit, page)
        if not deserialize:
            return rows, total
        made: list[Any] = []
        for run in rows:
            with passing_over(str(run.get("session_id"))):
                made.append(deserialize_run(get_run_type(run), run))
        return made

    def delete_run(self, run_id: str) -> bool:
        """Delete a run by its id; what it has said is erased from the log. Looks into all sessions."""
        for head in self._heads(None):
            there = None
            with passing_over(head.session_id):
                there = operate(self.storage, run_at, head.session_id, run_id)
            if there is not None:
                number = operate(self.storage, hide_run, head.session_id, run_id)
                with suppress(UnsupportedError, SessionNotFoundError):  # then it is hidden
                    self.storage.erase_run(head.session_id, number, user_id=ANY_USER)
                return True
        return False

    def delete_runs(self, run_ids: list[str]) -> None:
        """As `delete_run`, one after the other."""
        for run_id in run_ids:
            self.delete_run(run_id)

    def cancel_pending_run(
        self, run_id: str, *, session_id: str, reason: str, user_id: str | None = None, expected_status: str = "PENDING"
    ) -> bool:
        """Cancel a run that still has this status; whether it had."""
        return operate(
            self.storage, cancel, self._id(session_id), run_id, reason, user_id, str(expected_status).upper()
        )

    # ------------------------------------------------------------ operations

    def _id(self, session_id: str) -> str:
        return (
            stored_id(KIND, session_id) if self._table is None else stored_id(f"{KIND}-table", self._table, session_id)
        )

    def _heads(self, user_id: str | None) -> list[Session]:
        found: list[Session] = []
        cursor: str | None = None
        beginning = f"{KIND}:" if self._table is None else stored_id(f"{KIND}-table", self._table, "")
        whose = ANY_USER if user_id is None else short(user_id)
        while True:
            page = self.storage.sessions(kind=KIND, user_id=whose, cursor=cursor, limit=100, with_state=True)
            for one in page:
                if one.session_id.startswith(beginning) and "row" in one.state:
                    with passing_over(one.session_id):
                        if self._id(row_of(one)["session_id"]) != one.session_id:
                            raise ValueError("it is another session's row")
                        found.append(one)
            cursor = page.next_cursor
            if cursor is None:
                return found

    def _upsert(self, row: dict[str, Any], *, with_runs: bool) -> tuple[dict[str, Any], bool] | None:
        stored, user = self._id(row["session_id"]), row.get("user_id")
        for _ in range(2):
            try:
                with self._lines.at(row["session_id"]):
                    return operate(self.storage, put_row, stored, row, user, with_runs=with_runs)
            except UnclaimedError:
                with suppress(SessionNotFoundError):  # then it is another's by now, which is seen the next time
                    self.storage.claim(stored, short(user or ""))
            except SessionNotFoundError:
                return None
        return None


def _components(row: dict[str, Any], session_type: str | None) -> set[Any]:
    return {row.get(name) for kind, name in OWNERS.items() if session_type in (None, kind)}


def _paged(rows: list[dict[str, Any]], limit: int | None, page: int | None) -> list[dict[str, Any]]:
    if limit is None:
        return rows
    start = ((page or 1) - 1) * limit
    return rows[start : start + limit]
