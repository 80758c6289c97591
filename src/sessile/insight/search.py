"""Search: which runs, and sessions by name and metadata, have some words; where; and how well they fit.

An engine only tells which rows have all the tokens of a question. What is shown comes from the log: each hit is read
there, its phrases are checked, and its snippets are made of what is stored. So what was erased a moment ago is found no
more, though the index may not have heard of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any, Literal

from ..errors import InvalidInputError
from ..records import ANY_USER
from ..storage import Storage
from ..storage.checks import check_choice, check_count
from ..storage.core import Core
from ..storage.storage import operate
from ..tokens import (
    Question,
    agent_term,
    count_tokens,
    folded,
    marks,
    question,
    session_term,
    term,
    units,
    user_term,
)
from . import meaning
from .filters import RunFilters, Where, Whose, cursor_of, place_of_cursor, where_of
from .found import FoundPage, Hit, Snippet
from .lots import batches, one_of
from .meaning import Meaning
from .place import Place
from .reading import Which, pieces_of_some
from .runs import SELECTED, alive, fill, found_run
from .texts import Piece

Order = Literal["newest", "best", "meaning"]

MOST = 100
"""The largest page."""

LOOKED_AT = 500
"""How many rows are read in the log for one page, where phrases do not hold in them."""

TOGETHER = 20
"""The stored texts of how many rows are in memory at once."""

RANKED = 1000
"""Among how many of the newest hits the best ones are looked for."""

LONGEST = 10_000
"""How many characters may be searched for: all of their words would be looked up."""

AROUND = 60
"""How many characters of a snippet stand before and after what was found."""


def search(
    storage: Storage,
    place: Place,
    complete_until: int,
    text: str,
    *,
    whose: Whose,
    limit: int,
    cursor: str | None,
    order: Order,
    filters: RunFilters,
    by_meaning: Meaning | None = None,
) -> FoundPage[Hit]:
    """See `Index.search`."""
    check_count(limit, "limit", least=1, most=MOST)
    check_choice(order, "order", ("newest", "best", "meaning"))
    given: Any = text
    if not isinstance(given, str):
        raise InvalidInputError(f"What is searched for must be text; it is {given!r:.200}.")
    if len(text) > LONGEST:
        raise InvalidInputError(
            f"What is searched for has {len(text):,} characters; {LONGEST:,} are looked for.",
            hint="Give its rarest words.",
        )
    if order == "meaning":
        if by_meaning is None:
            raise InvalidInputError("To search by meaning the index needs embed=….", hint="Index(storage, embed=…).")
        where = where_of(whose, {**filters, "members": filters.get("members", True)})
        page = meaning.search(storage, place, by_meaning, text, where, whose, complete_until, limit, cursor)
        found = [hit.run for hit in page if hit.run is not None]
        page.unreadable.update(fill(place, found, whose, filters.get("session_id")))
        return page
    if not place.words:
        raise InvalidInputError(
            "This index has no words to search for.", hint="Build it with them: `sessile index --rebuild --text`."
        )
    asked = question(text)
    if not asked.tokens:
        raise InvalidInputError(f"There are no words in {text!r:.200} to search for.")
    looking = _Looking(storage, place, asked, complete_until, whose, filters)
    page = FoundPage[Hit]([], complete_until_us=complete_until)
    if order == "best":
        start = 0 if cursor is None else place_of_cursor(cursor)
        _best(looking, page, limit, start)
    else:
        _newest(looking, page, limit, None if cursor is None else place_of_cursor(cursor))
    found = [hit.run for hit in page if hit.run is not None]
    page.unreadable.update(fill(place, found, whose, filters.get("session_id")))
    return page


class _Looking:
    """One search."""

    def __init__(
        self, storage: Storage, place: Place, asked: Question, now: int, whose: Whose, filters: RunFilters
    ) -> None:
        self.storage, self.place, self.asked = storage, place, asked
        self._now = now
        words = [term(token) for token in asked.tokens]
        self._whose = whose
        if whose.user_id is not ANY_USER:
            words.append(user_term(whose.user_id))
        if (session_id := filters.get("session_id")) is not None:
            words.append(session_term(whose.stored(session_id)))
        if (agent := filters.get("agent")) is not None:
            words.append(agent_term(agent))
        self.terms = words[: len(asked.tokens)]
        self._source, self._key, match, values = place.engine.matching(list(dict.fromkeys(words)))
        self._where = _searched(whose, filters)
        self._conditions = [match, self._where.text]
        self._values = {**self._where.values, **values, "now": now}

    def rows(self, after: int | None, limit: int) -> list[tuple[Any, ...]]:
        """Rows that have all the tokens, newest first; where the log lies elsewhere, those of deleted sessions, too."""
        key, join = self._key, self.place.engine.join
        conditions, values = list(self._conditions), {**self._values, "limit": limit}
        if after is not None:
            conditions.append(f"{key} < :after")
            values["after"] = after
        sql = (
            f"SELECT {SELECTED} FROM {self._source} {join} {{runs}} r ON r.id = {key}"
            f" {join} {{sessions}} s ON s.id = r.session{alive(self.place)}"
            f" WHERE {' AND '.join(conditions)} ORDER BY {key} DESC LIMIT :limit"
        )
        return self.place.read(sql, values)

    def hits(self, rows: Sequence[tuple[Any, ...]]) -> list[Hit | None]:
        """The rows as hits; None for one in whose stored text there is not what is searched for."""
        found: list[Hit | None] = []
        for some in batches(rows, TOGETHER):
            found += operate(self.storage, self._hits, some)
        return found

    async def _hits(self, core: Core, rows: Sequence[tuple[Any, ...]]) -> list[Hit | None]:
        pieces = await pieces_of_some(core, self.place, [Which(row[0], row[2], row[4], row[5]) for row in rows])
        return [self._hit(row, its) for row, its in zip(rows, pieces, strict=True)]

    def _hit(self, row: tuple[Any, ...], pieces: Sequence[Piece]) -> Hit | None:
        """One row, with what is stored of it: nothing, if it is gone."""
        found = snippets(pieces, self.asked)
        if not found or self.asked.phrases:
            texts = [piece.text for piece in pieces]
            if not found and count_tokens(texts).keys() >= set(self.asked.tokens):
                found = [Snippet(pieces[0].where, pieces[0].text[: 2 * AROUND])]  # there, but hard to point at
            if not found or not self.asked.holds(texts):
                return None
        run = found_run(row, self._whose)
        return Hit(run.session_id, row[1], run.user_id, run if run.number else None, found)


def _searched(whose: Whose, filters: RunFilters) -> Where:
    """The filters as a condition; sessions are found, too, where nothing is asked for that only runs have."""
    named = {**filters, "members": filters.get("members", True)}
    where = where_of(whose, named)  # pyright: ignore[reportArgumentType] (the same filters)
    if not filters.keys() - {"session_id", "kind", "agent", "since", "until", "members"}:
        where.conditions.remove("r.number > 0")
    return where  # words lead the way


def _newest(looking: _Looking, page: FoundPage[Hit], limit: int, after: int | None) -> None:
    looked = 0
    while len(page) < limit and looked < LOOKED_AT:
        rows = looking.rows(after, limit + 1)
        shown = rows[:limit]
        for row, found in zip(shown, looking.hits(shown), strict=True):
            if len(page) == limit:
                break
            after = row[3]
            if found is not None:
                page.items.append(found)
        looked += len(shown)
        if len(rows) <= limit and (not rows or after == rows[-1][3]):
            return
    page.next_cursor = None if after is None else cursor_of(after)


def _best(looking: _Looking, page: FoundPage[Hit], limit: int, start: int) -> None:
    rows = looking.rows(None, RANKED)
    scores = _scores(looking, [row[3] for row in rows])
    ranked = sorted(rows, key=lambda row: (-scores[row[3]], -row[3]))
    place, end = start, min(len(ranked), start + LOOKED_AT)
    while len(page) < limit and place < end:
        some = ranked[place : min(end, place + limit - len(page))]
        for row, found in zip(some, looking.hits(some), strict=True):
            if found is not None:
                found.score = scores[row[3]]
                page.items.append(found)
        place += len(some)
    page.next_cursor = cursor_of(place) if place < len(ranked) else None


_USUAL = 300
"""Of how many words a run is taken to have usually."""


def _scores(looking: _Looking, ids: Sequence[int]) -> dict[int, float]:
    """How well each row fits: how often it has the words, and more so if it has few others."""
    scores: dict[int, float] = {}
    engine = looking.place.engine
    for some in batches(ids):
        condition, values = one_of("run", some)
        sql = f"SELECT run, {engine.kept(looking.terms)} FROM {{words}} WHERE {condition}"
        for row, *kept in looking.place.read(sql, values):
            counts, all_words = engine.occurrences(looking.terms, kept)
            length = 0.25 + 0.75 * all_words / _USUAL
            scores[row] = round(math.fsum(count * 2.2 / (count + 1.2 * length) for count in counts), 9)
    return {row: scores.get(row, 0.0) for row in ids}


# ---------------------------------------------------------------- snippets


def snippets(pieces: Sequence[Piece], asked: Question, most: int = 3) -> list[Snippet]:
    """The first places in which what was searched for stands, at most one for each word."""
    wanted = asked.words()
    missing = set(wanted)
    found: list[Snippet] = []
    for piece in pieces:
        first = _first(piece.text, missing)
        if first is None:
            continue
        snippet, shown = _snippet(piece, first, wanted)
        found.append(snippet)
        missing -= shown
        if len(found) == most or not missing:
            break
    return found


def _first(text: str, wanted: Collection[str]) -> int | None:
    """Where the first of the wanted units stands in a text."""
    return next((start for start, _, _ in _spans(text, wanted)), None)


def _spans(text: str, wanted: Collection[str]) -> Iterator[tuple[int, int, str]]:
    """Where the wanted units stand in a text: start, end, and which one it is."""
    for begin, word in _ascii_words(text, wanted) if text.isascii() else _all_words(text):
        if word.isascii() and "_" not in word and word.lower() in wanted:
            yield begin, begin + len(word), word.lower()
        elif not (word.isascii() and word.isalnum() and _parts(word).isdisjoint(wanted)):
            yield from _inside(word, begin, wanted)


def _all_words(text: str) -> Iterator[tuple[int, str]]:
    return ((match.start(), match[0]) for match in _words().finditer(text))


def _ascii_words(text: str, wanted: Collection[str]) -> Iterator[tuple[int, str]]:
    """The words of a text of ASCII that may have wanted units: those that have the letters of one, so only few."""
    form = text.lower()
    there = [unit for unit in wanted if unit in form]
    end = 0
    for match in re.finditer("|".join(map(re.escape, there)), form) if there else ():
        begin = match.start()
        if begin < end:
            continue  # within the word before
        while begin > end and _is_of_word(text[begin - 1]):
            begin -= 1
        end = match.end()
        while end < len(text) and _is_of_word(text[end]):
            end += 1
        yield begin, text[begin:end]


def _is_of_word(char: str) -> bool:
    return char.isalnum() or char == "_"


@cache
def _words() -> re.Pattern[str]:
    """Words with their accents and vowel marks."""
    return re.compile(rf"(?:\w|{'|'.join(marks())})+")


def _parts(word: str) -> set[str]:
    return set(units(word)) | {folded(part[0]) for part in _PARTS.finditer(word)}


_PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])[a-z0-9]*|[A-Z]+|[^\x00-\x7f]")
"""What identifiers are made of, and single characters of other scripts."""


def _inside(word: str, start: int, wanted: Collection[str]) -> Iterator[tuple[int, int, str]]:
    """The wanted units within what looks like one word: parts of identifiers, characters, words with accents."""
    if folded(word) in wanted:
        yield start, start + len(word), folded(word)
        return
    for part in _PARTS.finditer(word):
        unit = folded(part[0])
        if unit in wanted:
            yield start + part.start(), start + part.end(), unit


def _snippet(piece: Piece, first: int, wanted: Collection[str]) -> tuple[Snippet, set[str]]:
    """Some words around a place, and which of the wanted units they show."""
    text = piece.text
    begin, end = max(0, first - AROUND), min(len(text), first + 2 * AROUND)
    while begin > 0 and not text[begin - 1].isspace() and first - begin > AROUND // 2:
        begin += 1
    while end < len(text) and text[end].isalnum() and end - first < 3 * AROUND:
        end += 1
    head, tail = "…" if begin else "", "…" if end < len(text) else ""
    window = text[begin:end]
    spans = list(_spans(window, wanted))
    marks = tuple((start + len(head), stop + len(head)) for start, stop, _ in spans)
    return Snippet(piece.where, f"{head}{window}{tail}", marks), {unit for _, _, unit in spans}
