"""Which runs are asked for: what a caller passes, checked once and made a condition in SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import combinations
from typing import Any, NamedTuple, TypedDict

from ..errors import InvalidInputError
from ..records import ANY_USER, NANO, Duration, Status, UserId
from ..storage.checks import STATUSES, check_choice, moment_micros, ttl_micros
from ..storage.filters import check_metadata
from ..storage.ids import check_id, check_optional_id
from ..storage.matching import filter_token
from ..storage.rows import Json
from .lots import one_of
from .postings import facet_of_token
from .spans import first_id, last_id


class RunFilters(TypedDict, total=False):
    """Which runs are asked for, beside whose; see `Index.runs`."""

    session_id: str | None
    kind: str | None
    agent: str | None
    session_agent: str | None
    model: str | None
    status: Status | Collection[Status] | None
    since: datetime | None
    until: datetime | None
    tool: str | None
    error: str | bool | None
    label: str | None
    source: str | None
    min_score: float | None
    max_score: float | None
    rated: bool | None
    min_duration: Duration | None
    max_duration: Duration | None
    min_cost: Decimal | float | None
    max_cost: Decimal | float | None
    on_branch: bool | None
    metadata: Mapping[str, Json] | None
    metadata_keys: Collection[str]
    members: bool


@dataclass(slots=True, frozen=True)
class Whose:
    """Whose runs are asked for.

    Attributes:
        user_id: one user's, those that have no user (None), or all (`ANY_USER`).
        space: only sessions whose stored ids begin with this: the own ones of `storage.for_user`.
    """

    user_id: UserId
    space: str = ""

    def stored(self, session_id: str) -> str:
        """The id that a session is stored under."""
        return f"{self.space}{session_id}"

    def said(self, stored: str) -> str:
        """The id that a session is called by."""
        return stored.removeprefix(self.space)


class Indexed(NamedTuple):
    """A condition that an index answers.

    Attributes:
        by: the name of the index; empty: the primary key.
        beside: the table beside `{runs}` that the index is on, or None.
        keys: the conditions on the first columns of the index, on `r`, or on the table beside it as `x`.
        more: what else it says of the table beside.
        stands: the conditions as they stand in `Where.conditions`.
        in_order: whether its rows come in the order of time.
    """

    by: str
    beside: str | None
    keys: tuple[str, ...]
    more: tuple[str, ...]
    stands: tuple[str, ...]
    in_order: bool = True


PAIRED = ("runs_user", "runs_agent", "runs_status", "runs_kind")
"""Indexes on `{runs}` of which each two have one together, in the order in which it names them."""


def paired(indexed: Sequence[Indexed]) -> list[Indexed]:
    """The conditions, those that have an index together as one; of three each two."""
    single = {one.by: one for one in indexed if one.by in PAIRED and one.in_order}
    if len(single) < 2:
        return list(indexed)
    made: list[Indexed] = []
    for first, second in combinations((single[name] for name in PAIRED if name in single), 2):
        name = f"{first.by}_{second.by.removeprefix('runs_')}"
        made.append(Indexed(name, None, first.keys + second.keys, (), first.stands + second.stands))
    return made + [one for one in indexed if one not in single.values()]


@dataclass(slots=True)
class Where:
    """A condition on `{runs} r`.

    Attributes:
        conditions: all must hold.
        values: their parameters.
        indexed: those that an index answers: the index on `{runs}`, or the table beside it, and the condition there.
    """

    conditions: list[str] = field(default_factory=list[str])
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    indexed: list[Indexed] = field(default_factory=list["Indexed"])

    def add(self, condition: str, **values: Any) -> None:
        """Add a condition with its parameters."""
        self.conditions.append(condition)
        self.values.update(values)

    def add_indexed(self, index: str, condition: str, *, in_order: bool = True, **values: Any) -> None:
        """Add a condition on runs that an index answers."""
        self.add(condition, **values)
        self.indexed.append(Indexed(index, None, (condition,), (), (condition,), in_order))

    @property
    def text(self) -> str:
        """The condition."""
        return " AND ".join(self.conditions) or "1 = 1"

    def without(self, stands: Collection[str] = ()) -> list[str]:
        """All conditions but these, and those on ids: twice the same would seem to leave less to PostgreSQL."""
        return [one for one in self.conditions if one not in stands and not one.startswith("r.id ")]


def where_of(whose: Whose, filters: RunFilters) -> Where:
    """The condition that these filters are. Raises `InvalidInputError`, which names the filters that there are."""
    unknown = filters.keys() - RunFilters.__annotations__.keys()
    if unknown:
        raise InvalidInputError(
            f"There is no filter {sorted(unknown)[0]!r}.", hint=f"There are: {', '.join(RunFilters.__annotations__)}."
        )
    where = Where()
    where.add("r.number > 0")
    if not filters.get("members", False):
        where.add("r.parent_run_id IS NULL")
    _whose(where, whose)
    _which(where, whose, filters)
    _metadata(where, filters)
    _when(where, filters)
    _measures(where, filters)
    _ratings(where, filters)
    return where


def _whose(where: Where, whose: Whose) -> None:
    user_id = whose.user_id
    if user_id is None:
        where.add_indexed("runs_user", "r.user_id IS NULL")
    elif user_id is not ANY_USER:
        where.add_indexed("runs_user", "r.user_id = :user_id", user_id=check_id(user_id, "user_id"))
    if whose.space:
        own = "SELECT 1 FROM {sessions} o WHERE o.id = r.session AND SUBSTR(o.session_id, 1, :space_length) = :space"
        where.add(f"EXISTS ({own})", space=whose.space, space_length=len(whose.space))


def _which(where: Where, whose: Whose, filters: RunFilters) -> None:
    for name in ("session_id", "kind", "agent", "session_agent", "model", "tool"):
        check_optional_id(filters.get(name), name)
    if (session_id := filters.get("session_id")) is not None:
        where.add(
            "r.session = (SELECT id FROM {sessions} WHERE session_id = :session_id)",
            session_id=whose.stored(session_id),
        )
    if (session_agent := filters.get("session_agent")) is not None:
        own = "SELECT 1 FROM {sessions} o WHERE o.id = r.session AND o.agent = :session_agent"
        where.add(f"EXISTS ({own})", session_agent=session_agent)
    if (kind := filters.get("kind")) is not None:
        where.add_indexed("runs_kind", "r.kind = :kind", kind=kind)
    for table, column, value in (("tools", "tool", filters.get("tool")), ("models", "model", filters.get("model"))):
        if value is not None:
            given: dict[str, Any] = {column: value}
            _beside(where, table, f"{table}_{column}", [f"x.{column} = :{column}"], **given)
    status = filters.get("status")
    if status is not None:
        chosen = [status] if isinstance(status, str) else list(status)
        for one in chosen:
            check_choice(one, "status", STATUSES)
        if len(chosen) == 1:
            where.add_indexed("runs_status", "r.status = :status", status=chosen[0])
        else:
            condition, values = one_of("r.status", chosen or [""], "status")
            where.add_indexed("runs_status", condition, in_order=False, **values)
    _error(where, filters.get("error"))
    if (on_branch := filters.get("on_branch")) is not None:
        where.add_indexed("runs_branch", "r.on_branch = :on_branch", on_branch=int(_flag(on_branch, "on_branch")))
    if (agent := filters.get("agent")) is not None:
        where.add_indexed("runs_agent", "r.agent = :agent", agent=agent)


def _metadata(where: Where, filters: RunFilters) -> None:
    """The session's metadata, by the facets that stand for them."""
    metadata, keys = filters.get("metadata"), filters.get("metadata_keys") or ()
    check_metadata(metadata, keys)
    tokens = [filter_token(key) for key in keys]
    tokens += [filter_token(key, value) for key, value in (metadata or {}).items()]
    for facet in dict.fromkeys(map(facet_of_token, tokens)):
        has = f"SELECT 1 FROM {{facets}} g WHERE g.facet = {facet} AND g.updated_at = o.updated_at AND g.session = o.id"
        where.add(f"EXISTS (SELECT 1 FROM {{sessions}} o WHERE o.id = r.session AND EXISTS ({has}))")


def _error(where: Where, error: str | bool | None) -> None:
    if isinstance(error, bool):
        where.add(f"r.error IS {'NOT ' if error else ''}NULL")
    elif error is not None:
        where.add_indexed("runs_error", "r.error = :error", error=check_id(error, "error"))


def _when(where: Where, filters: RunFilters) -> None:
    since, until = moment_micros(filters.get("since"), "since"), moment_micros(filters.get("until"), "until")
    if since is not None:
        where.add("r.id >= :since_id", since_id=first_id(since))
        where.add("r.started_at >= :since", since=since)
    if until is not None:
        where.add("r.id < :until_id", until_id=last_id(until))
        where.add("r.started_at < :until", until=until)


def _measures(where: Where, filters: RunFilters) -> None:
    for name, sign in (("min", ">="), ("max", "<=")):
        duration = ttl_micros(filters.get(f"{name}_duration"), f"{name}_duration")
        if duration is not None:
            given = {f"{name}_duration": duration}
            where.add_indexed("runs_duration", f"r.duration {sign} :{name}_duration", in_order=False, **given)
        cost = filters.get(f"{name}_cost")
        if cost is not None:
            where.add("r.total_unpriced = 0")
            given = {f"{name}_cost": _nano(cost, name)}
            where.add_indexed("runs_cost", f"r.total_cost {sign} :{name}_cost", in_order=False, **given)


def _nano(cost: Any, name: str) -> int:
    try:
        return round(Decimal(str(cost)) * NANO)
    except (ArithmeticError, ValueError):
        raise InvalidInputError(f"{name}_cost must be a number of dollars; it is {cost!r}.") from None


def _ratings(where: Where, filters: RunFilters) -> None:
    said: list[str] = []
    values: dict[str, Any] = {}
    source, label = filters.get("source"), filters.get("label")
    for name, value in (("label", label), ("source", source)):
        check_optional_id(value, name)
        if value is not None:
            said.append(f"x.{name} = :{name}")
            values[name] = value
    for name, sign in (("min_score", ">="), ("max_score", "<=")):
        score = filters.get(name)
        if score is not None:
            if isinstance(score, str) or not isinstance(score, (int, float)):
                raise InvalidInputError(f"{name} must be a number; it is {score!r}.")
            said.append(f"x.score {sign} :{name}")
            values[name] = float(score)
    rated = filters.get("rated")
    if rated is not None and not _flag(rated, "rated"):
        only = f" AND {said[0]}" if source is not None else ""
        if len(said) > (source is not None):
            raise InvalidInputError("Runs that are not rated have neither scores nor labels.")
        where.add(f"NOT EXISTS (SELECT 1 FROM {{ratings}} x WHERE x.run = r.id{only})", **values)
    elif said or rated:
        by = "label" if label is not None else "source" if source is not None else "score"
        in_order = label is not None or not said  # all ratings are, by their primary key
        _beside(where, "ratings", f"ratings_{by}" if said else "", said, in_order=in_order, **values)


def _beside(where: Where, table: str, by: str, said: Sequence[str], *, in_order: bool = True, **values: Any) -> None:
    """A condition on a table beside the runs, whose indexes have them in their order."""
    which = " AND ".join(["x.run = r.id", *said])
    stands = f"EXISTS (SELECT 1 FROM {{{table}}} x WHERE {which})"
    where.add(stands, **values)
    where.indexed.append(Indexed(by, table, tuple(said[:1]), tuple(said[1:]), (stands,), in_order))


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInputError(f"{name} must be True or False; it is {value!r}.")
    return value


def place_of_cursor(cursor: Any) -> int:
    """The id that a cursor of a list of runs names."""
    if (
        not isinstance(cursor, str)
        or not cursor.startswith("r")
        or not cursor[1:].isascii()
        or not cursor[1:].isdigit()
    ):
        raise InvalidInputError("This is not a cursor of the index.", hint="Pass next_cursor as it came.")
    return int(cursor[1:][:18])


def cursor_of(row: int) -> str:
    """The cursor of the page that begins behind this run."""
    return f"r{row}"


__all__ = ["RunFilters", "Where", "Whose", "cursor_of", "paired", "place_of_cursor", "where_of"]
