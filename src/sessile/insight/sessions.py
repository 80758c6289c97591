"""Lists of sessions by any filters, as the storage's own are, but read by the tables of the index.

Which sessions match is looked up in the index; what is shown of them are their heads in the log.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..errors import CorruptDataError, NewerVersionError, StorageError
from ..records import ANY_USER, Page, Session
from ..storage import lists
from ..storage.core import Core
from ..storage.driver import Deadline, Driver, HeadRow, Listing, ListQuery
from ..storage.matching import as_asked, filter_token, matches
from ..storage.states import columns_without_state
from ..storage.users import UsersDriver
from ..storage.wrapping import WrappedDriver
from .lots import batches, one_of
from .narrowing import answers, few, remembered
from .place import Place
from .postings import LeadingFacet, facet, facet_of_token, is_whole, leads_of, numbers_of

_HEAD = ", ".join(HeadRow._fields)

FEW = 500
"""How many rows of each facet are looked at, where several lead the way."""

SOME = 2_000
"""How many sessions are sorted at most, of those whose names begin with something."""

MANY = 20_000
"""How many sessions of a facet are sorted at most, in lists that are in no order of facets."""


async def sessions(core: Core, query: ListQuery, place: Place) -> Page[Session]:
    """See `Index.sessions`."""
    return await lists.sessions(replace(core, driver=_by_index(core.driver, place)), query)


async def count(core: Core, query: ListQuery, place: Place) -> int:
    """See `Index.count_sessions`."""
    return await lists.count_sessions(replace(core, driver=_by_index(core.driver, place)), query)


def _by_index(driver: Driver, place: Place) -> Driver:
    if isinstance(driver, UsersDriver):
        return UsersDriver(IndexedDriver(driver.inner, place), driver.user_id)
    return IndexedDriver(driver, place)


class IndexedDriver(WrappedDriver):
    """A driver that looks up in an index which heads a list has."""

    def __init__(self, inner: Driver, place: Place) -> None:
        super().__init__(inner)
        self._place = place

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        """See `Driver`. Heads that have changed since they were looked up are shown as they are."""
        found = _places(self._place, query)
        rows, unreadable = await self._heads([session_id for _, session_id in found], query, deadline)
        after = found[-1] if 0 < len(found) >= query.limit else None
        return Listing([row for row in rows if _still(row, query)], unreadable, after)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        """See `Driver`."""
        return _count(self._place, query) if self._place.shared else await Driver.count(self, query, deadline)

    async def _heads(
        self, session_ids: Sequence[str], query: ListQuery, deadline: Deadline
    ) -> tuple[list[HeadRow], dict[str, StorageError]]:
        """These heads, in this order; those that are gone are left out."""
        unreadable: dict[str, StorageError] = {}
        found: dict[str, HeadRow] = {}
        if self._place.shared:
            columns = _HEAD if query.with_state else columns_without_state(_HEAD, self._place.engine.dialect)
            columns = columns.replace("}", "}}")  # the names of tables are still to be put in
            for some in batches(session_ids):
                condition, values = one_of("session_id", some)
                for row in self._place.read(f"SELECT {columns} FROM {{heads}} WHERE {condition}", values):
                    head = HeadRow._make(row)
                    found[head.session_id] = head._replace(hidden=bool(head.hidden))
            return [found[one] for one in session_ids if one in found], unreadable
        for session_id in session_ids:
            try:
                loaded = await self.inner.load(session_id, 0, deadline)
            except (CorruptDataError, NewerVersionError) as error:
                unreadable[session_id] = error
            else:
                if loaded is not None:
                    found[session_id] = as_asked(loaded.head, query)
        return [found[one] for one in session_ids if one in found], unreadable


def _still(head: HeadRow, query: ListQuery) -> bool:
    """Whether a head that was looked up is what is asked for; one that changed a moment ago keeps its place."""
    if query.order == "updated":
        query = replace(query, since=None, until=None)
    try:
        return matches(head, query)
    except (TypeError, ValueError):
        return True  # it is damaged, and whoever decodes it says so


# ---------------------------------------------------------------- what is looked up


class _Asked(NamedTuple):
    """What a list is asked by.

    Attributes:
        fields, tokens: facets that all must be there.
        names: how names begin, or None.
        moment, direction, before: the column of its order, that order, and what is further on in it.
        values: the parameters of `times`, the conditions on the moment, in which `{x}` stands for a table; and others'.
    """

    fields: dict[str, int]
    tokens: list[int]
    names: str | None
    moment: str
    direction: str
    before: str
    times: list[str]
    values: dict[str, Any]
    after: tuple[int, str] | None
    limit: int


def _asked(query: ListQuery) -> _Asked:
    given = {"agent": query.agent, "status": query.status, "kind": query.kind}
    fields = {name: facet(name, value) for name, value in given.items() if value is not None}
    if query.user_id is not ANY_USER:
        fields["user"] = facet("user", query.user_id)
    tokens = [filter_token(key) for key in query.metadata_keys]
    tokens += [filter_token(key, value) for key, value in query.metadata.items()]
    moment = "created_at" if query.order == "created" else "updated_at"
    values: dict[str, Any] = {f"{name}_facet": one for name, one in fields.items()}
    times: list[str] = []
    for name, sign, bound in (("since", ">=", query.since), ("until", "<", query.until)):
        if bound is not None:
            times.append(f"{{x}}.{moment} {sign} :{name}")
            values[name] = bound
    names = query.name_prefix or None
    if names is not None:
        end = _behind(names)
        low, high = numbers_of(names)
        values |= {"name_from": names, "number_from": low, "number_to": high} | (
            {} if end is None else {"name_to": end}
        )
    direction, before = ("ASC", ">") if query.ascending else ("DESC", "<")
    facets = list(dict.fromkeys(map(facet_of_token, tokens)))
    return _Asked(fields, facets, names, moment, direction, before, times, values, query.after, query.limit)


def _places(place: Place, query: ListQuery) -> list[tuple[int, str]]:
    """The places of a page's sessions in its order.

    The heads are not looked at: what was deleted or has expired was taken out when the index was brought up to date,
    and what is deleted since then is missed when its head is read.
    """
    asked = _asked(query)
    leads = leads_of(asked.fields, asked.tokens)
    in_order = asked.moment == "updated_at"
    if asked.names is not None and _leads_by_name(place, asked, leads[0] if leads and in_order else None):
        return _sorted(place, asked, f"{{sessions}} x{place.engine.led_by(place.prefix, 'sessions_name')}", [], set())
    if not in_order:
        short = next((one for one in leads if _is_few(place, one)), None)
        if short is None:
            index = place.engine.led_by(place.prefix, "sessions_created")
            return _sorted(place, asked, f"{{sessions}} x{index}", [], set(), numbered=True)
        source = f"{{facets}} f {place.engine.join} {{sessions}} x ON x.id = f.session"
        return _sorted(place, asked, source, [f"f.facet = {short[0]}"], short[1] | short[2])
    if not leads:
        index = place.engine.led_by(place.prefix, "sessions_updated")
        return _sorted(place, asked, f"{{sessions}} x{index}", [], set(), numbered=True)
    lead = leads[0] if len(leads) == 1 else _rarest(place, asked, leads)
    return [] if lead is None else _walked(place, asked, lead)


def _leads_by_name(place: Place, asked: _Asked, lead: LeadingFacet | None) -> bool:
    """Whether so few names begin like this that they are sorted; not if the facet has few, too, which are in order."""
    rows = [f"{{sessions}} x WHERE {_by_name(asked)} ORDER BY x.name"]
    rows += [] if lead is None else [f"{{facets}} f WHERE f.facet = {lead.facet}"]
    probes = [f"(SELECT 1 FROM {one} LIMIT 1 OFFSET :few)" for one in rows]

    def ask() -> bool:
        ends = answers(place, probes, {**asked.values, "few": few(place, asked.limit, SOME)})
        return ends[0] is None and None not in ends[1:]

    return remembered(place, (*probes, asked.names, asked.limit), ask)


def _is_few(place: Place, lead: LeadingFacet) -> bool:
    """Whether there are few rows at most; looks at no more of them than that."""
    sql = f"SELECT 1 FROM {{facets}} f WHERE f.facet = {lead.facet} LIMIT 1 OFFSET {MANY}"
    return not place.read(sql)


def _rarest(place: Place, asked: _Asked, leads: Sequence[LeadingFacet]) -> LeadingFacet | None:
    """The facet whose rows reach back furthest, for it has the fewest; None if one has none.

    All are asked for with one question: where the last of some hundred rows lies, or whether there is one at all.
    """
    times = "".join(f" AND {one.format(x='f')}" for one in asked.times)
    parts: list[str] = []
    for lead in leads:
        rows = f"SELECT f.updated_at FROM {{facets}} f WHERE f.facet = {lead[0]}{times}"
        order = f"ORDER BY f.updated_at {asked.direction} LIMIT 1"
        parts += [f"({rows} {order} OFFSET {FEW})", f"({rows} {order})"]
    row = place.read(f"SELECT {', '.join(parts)}", asked.values)[0]
    if None in row[1::2]:
        return None
    rarest: tuple[int, LeadingFacet] | None = None
    for lead, last in zip(leads, row[::2], strict=True):
        if last is None:
            return lead
        back = last if asked.direction == "DESC" else -last
        if rarest is None or back < rarest[0]:
            rarest = back, lead
    return None if rarest is None else rarest[1]


def _by_name(asked: _Asked) -> str:
    return "x.name >= :name_from" + (" AND x.name < :name_to" if "name_to" in asked.values else "")


def _rest(asked: _Asked, known: Collection[object]) -> list[str]:
    """The conditions that nothing which leads the way stands for."""
    rest = [f"x.{name}_facet = :{name}_facet" for name in asked.fields if name not in known]
    have = "SELECT 1 FROM {facets} g WHERE g.facet = {} AND g.updated_at = x.updated_at AND g.session = x.id"
    return rest + [f"EXISTS ({have.replace('{}', str(one))})" for one in asked.tokens if one not in known]


def _sorted(
    place: Place,
    asked: _Asked,
    source: str,
    leading: Sequence[str],
    known: Collection[object],
    *,
    numbered: bool = False,
) -> list[tuple[int, str]]:
    """A page of sessions of a source that is in this order, or is so small that it is sorted.

    `numbered`: whether the numbers of names stand in the index that is read.
    """
    moment, direction, before = asked.moment, asked.direction, asked.before
    conditions = [*leading, *_rest(asked, known), *(one.format(x="x") for one in asked.times)]
    values = {**asked.values, "limit": asked.limit}
    if asked.names is not None:
        if numbered:
            conditions.append("x.name_number >= :number_from AND x.name_number <= :number_to")
        conditions.append(_by_name(asked))
    if asked.after is not None:
        conditions.append(f"x.{moment} {before}= :after_time")
        conditions.append(f"(x.{moment} {before} :after_time OR x.session_id {before} :after_id)")
        values |= {"after_time": asked.after[0], "after_id": asked.after[1]}
    where = " AND ".join(conditions) or "1 = 1"
    order = f"ORDER BY x.{moment} {direction}, x.session_id {direction} LIMIT :limit"
    return [
        (row[0], row[1])
        for row in place.read(f"SELECT x.{moment}, x.session_id FROM {source} WHERE {where} {order}", values)
    ]


def _walked(place: Place, asked: _Asked, lead: LeadingFacet) -> list[tuple[int, str]]:
    """A page of the sessions of a facet, in whose rows sessions of one moment are in no order of their ids."""
    number, fields, tokens = lead
    rest = _rest(asked, fields | tokens)
    conditions = [f"f.facet = {number}", *(one.format(x="f") for one in asked.times)]
    if asked.names is not None:
        conditions.append("f.name_number >= :number_from AND f.name_number <= :number_to")
        rest += [] if is_whole(asked.names) else [_by_name(asked)]
    join = f" {place.engine.join} {{sessions}} x ON x.id = f.session"
    direction = asked.direction

    def tied(moment: int, after_id: str | None, limit: int) -> list[tuple[int, str]]:
        where = [*conditions, *rest, "f.updated_at = :moment"]
        where += [] if after_id is None else [f"x.session_id {asked.before} :after_id"]
        values = {**asked.values, "moment": moment, "limit": limit, "after_id": after_id}
        order = f"ORDER BY x.session_id {direction} LIMIT :limit"
        sql = f"SELECT x.session_id FROM {{facets}} f{join} WHERE {' AND '.join(where)} {order}"
        return [(moment, row[0]) for row in place.read(sql, values)]

    found = [] if asked.after is None else tied(*asked.after, asked.limit)
    left = asked.limit - len(found)
    if left > 0:
        where = [*conditions, *rest, *([] if asked.after is None else [f"f.updated_at {asked.before} :after_time"])]
        inner = (
            f"SELECT f.updated_at, f.session FROM {{facets}} f{join if rest else ''} WHERE {' AND '.join(where)}"
            f" ORDER BY f.updated_at {direction}, f.session {direction} LIMIT :limit"
        )
        values = {**asked.values, "limit": left + 1} | ({} if asked.after is None else {"after_time": asked.after[0]})
        sql = f"SELECT f.updated_at, x.session_id FROM ({inner}) f{join}"
        rows = sorted(((row[0], row[1]) for row in place.read(sql, values)), reverse=direction == "DESC")
        if len(rows) > left and rows[left][0] == (moment := rows[left - 1][0]):
            rows = [one for one in rows if one[0] != moment]
            rows += tied(moment, None, left - len(rows))
        found += rows[:left]
    return found


def _count(place: Place, query: ListQuery) -> int:
    """How many there are of what a list is asked by."""
    asked = _asked(query)
    leads = leads_of(asked.fields, asked.tokens)
    if len(leads) == 1 and asked.names is None and asked.moment == "updated_at":
        where = " AND ".join([f"f.facet = {leads[0][0]}", *(one.format(x="f") for one in asked.times)])
        return int(place.read(f"SELECT COUNT(*) FROM {{facets}} f WHERE {where}", asked.values)[0][0])
    conditions = [*_rest(asked, set()), *(one.format(x="x") for one in asked.times)]
    conditions += [] if asked.names is None else [_by_name(asked)]
    where = " AND ".join(conditions) or "1 = 1"
    return int(place.read(f"SELECT COUNT(*) FROM {{sessions}} x WHERE {where}", asked.values)[0][0])


def _behind(prefix: str) -> str | None:
    """The first text behind all that begin like this, by their characters; None: there is none."""
    for end in range(len(prefix) - 1, -1, -1):
        following = ord(prefix[end]) + 1
        if following == 0xD800:
            following = 0xE000
        if following <= 0x10FFFF:
            return prefix[:end] + chr(following)
    return None
