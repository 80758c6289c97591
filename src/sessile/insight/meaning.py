"""Search by meaning: runs whose question and answer are near to a text, by vectors that are kept in the index.

Who embeds texts is the caller's affair. Vectors are made when a search by meaning reaches a run that has none, and go
when the run is written anew or goes; so they are never of words that are there no more.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from operator import mul
from typing import NamedTuple

from ..storage import Storage
from ..storage.driver import RunStatement
from ..storage.nearness import TOGETHER, Embed, Vectors, nearness
from ..storage.storage import operate
from .damage import callers_own
from .facts import storable
from .filters import Where, Whose, cursor_of, place_of_cursor
from .found import FoundPage, Hit, Snippet
from .lots import batches, one_of
from .place import Place
from .reading import pieces_at
from .runs import SELECTED, alive, found_run
from .texts import Piece

COMPARED = 20_000
"""Among how many of the newest runs those that are near are looked for."""

LONGEST = 2_000
"""How many characters of a run are embedded."""

SHOWN = 200
"""How many characters of a hit are shown."""

LOOKED_AT = 500
"""How many rows are read in the log for one page."""

SAMPLES = (
    "Where is my parcel?",
    "I want my money back.",
    "How do I change the password of my account?",
    "def double(x): return 2 * x",
    "Die Rechnung ist falsch.",
)
"""Texts by whose vectors two who make vectors are told apart, though they have one name."""

SAME = 0.9999
"""How near two vectors of it are at least that one and the same has made: some models' vectors differ a little."""


class Meaning(Vectors):
    """Vectors of texts, and the name of who made them."""

    def __init__(self, embed: Embed) -> None:
        super().__init__(embed, callers_own)
        self.name = storable(self.name)[:200]
        self._kept_as: tuple[Place, str, int] | None = None

    def kept_as(self, place: Place) -> tuple[str, int]:
        """By which name its vectors are kept, and how many bytes each has.

        Names of functions say little: two of one name are told apart by their vectors of the same texts.
        """
        if self._kept_as is not None:
            sql = "SELECT 1 FROM {vectors} WHERE run < 0 AND model = :model"
            if self._kept_as[0] is not place or not place.read(sql, {"model": self._kept_as[1]}):
                self._kept_as = None  # the index was rebuilt
        if self._kept_as is None:
            samples = self.of_texts(SAMPLES)
            together = array("f", [number for one in samples for number in one])
            self._kept_as = (place, _named(place, self.name, together), len(samples[0].tobytes()))
        return self._kept_as[1:]

    def forget(self) -> None:
        """Look again who it is: its vectors have another length now."""
        self._kept_as = None


def _named(place: Place, name: str, sample: array[float]) -> str:
    """The name of who has made these vectors of the samples, which are kept if they are not there."""
    sql = "SELECT run, model, packed FROM {vectors} WHERE run < 0 ORDER BY run DESC"
    known = [(row, model, array("f", bytes(packed))) for row, model, packed in place.read(sql)]
    names = [f"{name}#{number}" for number in range(len(known) + 1)]
    for _, model, vector in known:
        near = vector == sample or (len(vector) == len(sample) and sum(map(mul, vector, sample)) >= SAME * len(SAMPLES))
        if model in names and near:
            return model
    free = next(one for one in names if one not in {model for _, model, _ in known})

    async def work(run: RunStatement) -> None:
        row = min([0, *(row for row, _, _ in known)]) - 1
        kept = [(row, free, sample.tobytes())]
        await place.engine.insert(run, place.tables["vectors"], ("run", "model", "packed"), kept)

    place.change(work)
    return free


class _Row(NamedTuple):
    """A run that may be near, and its vector, if it has one."""

    id: int
    vector: bytes | None
    session_id: str
    incarnation: str
    number: int
    run_id: str
    revision: int


def search(
    storage: Storage,
    place: Place,
    meaning: Meaning,
    text: str,
    where: Where,
    whose: Whose,
    now: int,
    limit: int,
    cursor: str | None,
) -> FoundPage[Hit]:
    """The runs that are nearest to a text, the nearest first."""
    page = FoundPage[Hit]([], complete_until_us=now)
    wanted = meaning.of_question(text)
    if len(wanted.tobytes()) != meaning.kept_as(place)[1]:
        meaning.forget()
    name, size = meaning.kept_as(place)
    vectors = _vectors(storage, place, meaning, name, _rows(place, name, size, where, now))
    if not vectors:
        return page
    near = nearness(wanted, vectors)
    ranked = sorted(near, key=lambda one: (-near[one], -one))
    start = 0 if cursor is None else place_of_cursor(cursor)
    for number, one in enumerate(ranked[start : start + LOOKED_AT], start):
        hit = _hit(storage, place, one, whose, now)
        if hit is not None:
            hit.score = near[one]
            page.items.append(hit)
        if len(page) == limit or number == start + LOOKED_AT - 1:
            page.next_cursor = cursor_of(number + 1) if number + 1 < len(ranked) else None
            break
    return page


def _rows(place: Place, name: str, size: int, where: Where, now: int) -> list[_Row]:
    """The runs, with their vectors; one of another length than all others is none, and is made again."""
    join = place.engine.join
    sql = (
        f"SELECT r.id, v.packed, s.session_id, s.incarnation, r.number, r.run_id, s.revision FROM {{runs}} r"
        f" {join} {{sessions}} s ON s.id = r.session{alive(place)}"
        " LEFT JOIN {vectors} v ON v.run = r.id AND v.model = :embedder"
        f" WHERE {where.text} ORDER BY r.id DESC LIMIT {COMPARED}"
    )
    rows = [_Row(*row) for row in place.read(sql, {**where.values, "embedder": name, "now": now})]
    return [row if row.vector is None or len(row.vector) in (0, size) else row._replace(vector=None) for row in rows]


def _vectors(
    storage: Storage, place: Place, meaning: Meaning, name: str, rows: Sequence[_Row]
) -> dict[int, array[float]]:
    """The vectors of runs by their ids; those that have none are embedded, and their vectors are kept."""
    found = {row.id: array("f", bytes(row.vector)) for row in rows if row.vector}
    for some in batches([row for row in rows if row.vector is None], TOGETHER):
        pieces = {
            row: operate(storage, pieces_at, row.session_id, row.incarnation, row.number, row.run_id) for row in some
        }
        texts = {row: text for row, told in pieces.items() if (text := _text(told))}
        made = dict(zip(texts, meaning.of_texts(list(texts.values())), strict=True)) if texts else {}
        _keep(place, name, {row: made.get(row, array("f")) for row in some})
        found |= {row.id: vector for row, vector in made.items()}
    return found


def _text(pieces: Sequence[Piece]) -> str:
    """What of a run is embedded: what was asked and answered."""
    return "\n".join(dict.fromkeys(one.text for one in pieces if one.where in ("input", "output")))[:LONGEST]


def _keep(place: Place, name: str, made: Mapping[_Row, array[float]]) -> None:
    """Keep vectors of runs whose sessions are still indexed as they were; others may have been erased meanwhile."""
    by_id = {row.id: row for row in made}

    async def work(run: RunStatement) -> None:
        condition, values = one_of("r.id", list(by_id))
        sql = f"SELECT r.id, s.revision FROM {{runs}} r JOIN {{sessions}} s ON s.id = r.session WHERE {condition}"
        same = [one for one, revision in await run(place.sql(sql), values) if by_id[one].revision == revision]
        if same:
            condition, values = one_of("run", same)
            which = f"DELETE FROM {{vectors}} WHERE {condition} AND model = :embedder"
            await run(place.sql(which), {**values, "embedder": name})
            kept = [(one, name, made[by_id[one]].tobytes()) for one in same]
            await place.engine.insert(run, place.tables["vectors"], ("run", "model", "packed"), kept)

    place.change(work)


def _hit(storage: Storage, place: Place, one: int, whose: Whose, now: int) -> Hit | None:
    """The run as a hit, if it is still there."""
    sql = f"SELECT {SELECTED} FROM {{runs}} r JOIN {{sessions}} s ON s.id = r.session{alive(place)} WHERE r.id = :one"
    for row in place.read(sql, {"one": one, "now": now}):
        pieces = operate(storage, pieces_at, row[0], row[2], row[4], row[5])
        text = _text(pieces)
        if text:
            run = found_run(row, whose)
            shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
            return Hit(run.session_id, row[1], run.user_id, run, [Snippet(pieces[0].where, shown)])
    return None
