"""What differs between the SQL databases that an index can lie in: their types, and how each looks up words.

Everything else is written once, in SQL that all of them speak. In statements `{runs}` and the like stand for tables.
"""

from __future__ import annotations

import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import chain
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from ..storage import quick_json
from ..storage.driver import Dialect, RunStatement, Values
from .facts import COUNTED
from .lots import ROWS, batches, places_of, weighed
from .numbers import columns_of_words, number_of, rows_of_words

TABLES = (
    "state",
    "gone",
    "sessions",
    "facets",
    "runs",
    "models",
    "tools",
    "ratings",
    "vectors",
    "spans",
    "sums",
    "words",
    "problems",
)

TOGETHER = 1000
"""How many rows are one parameter, where they can be."""


PACKET = 256 * 1024
"""How many characters of words are entered with one statement, where they stand in it. Servers take 16 MB at least."""


class Words(NamedTuple):
    """The terms of a run: each once, with a blank in between, and how often each occurs."""

    terms: str
    counts: bytes


MOST_OF_A_WORD = 255
"""Up to how often the occurrences of a word are counted: one byte each is kept."""


def counted(found: Mapping[str, int]) -> bytes:
    """How often each term occurs, a byte for each."""
    try:
        return bytes(found.values())
    except ValueError:
        return bytes([min(count, MOST_OF_A_WORD) for count in found.values()])


def words_of(found: Mapping[str, int]) -> Words:
    """Terms and how often each occurs."""
    return Words(" ".join(found), counted(found))


def pack(words: Words) -> bytes:
    """Words as one value."""
    packing = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)  # no term stands twice
    packed = packing.compress(b"%d %b%b" % (len(words.counts), words.counts, words.terms.encode("ascii")))
    return packed + packing.flush()


def unpack(packed: bytes) -> Words:
    """The inverse of `pack`."""
    number, _, rest = zlib.decompress(packed).partition(b" ")
    return Words(rest[int(number) :].decode("ascii"), rest[: int(number)])


W = TypeVar("W")
"""The words of a run, in the form in which an engine enters them."""


class Engine(ABC, Generic[W]):
    """One dialect."""

    dialect: ClassVar[Dialect]
    id_type: ClassVar[str] = "BIGINT"
    text: ClassVar[str] = "TEXT"
    """The type of ids and names, whose order is that of their characters."""
    long_text: ClassVar[str] = "TEXT"
    more_tables: ClassVar[tuple[str, ...]] = ()
    """Tables that only this dialect has."""
    real: ClassVar[str] = "DOUBLE PRECISION"
    blob: ClassVar[str] = "BLOB"
    ending: ClassVar[str] = ""
    """What follows the columns of a table."""
    clustered: ClassVar[str] = ""
    """What follows the columns of one that is nothing but its primary key."""
    lock: ClassVar[str | None] = "SELECT version FROM {state} FOR UPDATE"
    """Keeps other writers of the index out until the end of the transaction; None: the transaction does that."""
    join: ClassVar[str] = "JOIN"
    """Joins in the order in which it is written, where the engine can be told that."""
    by_id: ClassVar[str] = ""
    """What stands behind a table that is to be read by its ids, where the engine can be told that."""
    apart: ClassVar[str | None] = None
    """From where the parameter `:ids` is read as rows `p`, where it is better read first which ids are on a page and
    then what is shown of them; None: both with one statement."""
    served: ClassVar[bool] = True
    """Whether a server does all of the work, so that this process can do other work meanwhile."""
    listed: ClassVar[int] = ROWS
    """How many ids one list in a condition has where there are very many."""
    settling: ClassVar[str | None] = None
    """What makes words that were just entered quick to find, where very many were."""
    lags: ClassVar[bool] = False
    """Whether words may be found a moment only after they were committed."""
    moment: ClassVar[str] = "NULL"
    """What is the same as before only if nothing was committed in the whole database since; else NULL."""
    ask: ClassVar[str | None] = None
    """A question to the database before tables are made; `words` says what comes of it."""

    compacting: ClassVar[str | None] = None
    """Takes words out of the full-text index that deleted rows have left in it; None: a VACUUM of the database does."""

    def words(self, answer: str) -> Mapping[str, str]:
        """What further `{words}` stand for in the statements that make tables."""
        return {}

    def if_new(self, insert: str) -> str:
        """An INSERT that leaves a row alone that is there."""
        return f"{insert} ON CONFLICT DO NOTHING"

    def tables(self) -> list[str]:
        """The statements that make the tables, that of the state last; each may be run again."""
        types = {"id": self.id_type, "text": self.text, "long": self.long_text, "real": self.real, "blob": self.blob}
        words = {**types, "ending": self.ending, "clustered": self.clustered or self.ending}
        words |= self.inner_indexes()
        words["counted"] = ", ".join(f"{name} {self.id_type} NOT NULL" for name in COUNTED)
        script = files("sessile.insight").joinpath("tables.sql").read_text(encoding="utf-8")
        code = "\n".join(line.partition("--")[0].rstrip() for line in script.splitlines())
        for word, meant in words.items():
            code = code.replace(f"{{{word}}}", meant)
        made = [statement.strip() for statement in code.split(";") if statement.strip()]
        return [*made[:-1], *self.word_tables(), made[-1]]

    def inner_indexes(self) -> dict[str, str]:
        """The indexes that are made with their table, as they follow its columns."""
        return {f"indexes_of_{table}": "" for table, _ in self.INDEXES.values()}

    INDEXES: ClassVar[Mapping[str, tuple[str, str]]] = {
        "sessions_expires": ("sessions", "expires_at"),
        "sessions_updated": ("sessions", "updated_at, session_id"),
        "sessions_created": ("sessions", "created_at, session_id"),
        "sessions_name": ("sessions", "name, updated_at, session_id"),
        "runs_session": ("runs", "session, number"),
        "runs_user": ("runs", "user_id, id"),
        "runs_agent": ("runs", "agent, id"),
        "runs_status": ("runs", "status, id"),
        "runs_error": ("runs", "error, id"),
        "runs_kind": ("runs", "kind, id"),
        "runs_user_agent": ("runs", "user_id, agent, id"),
        "runs_user_status": ("runs", "user_id, status, id"),
        "runs_user_kind": ("runs", "user_id, kind, id"),
        "runs_agent_status": ("runs", "agent, status, id"),
        "runs_agent_kind": ("runs", "agent, kind, id"),
        "runs_status_kind": ("runs", "status, kind, id"),
        "runs_branch": ("runs", "on_branch, id"),
        "runs_duration": ("runs", "duration, id"),
        "runs_cost": ("runs", "total_cost, id"),
        "models_model": ("models", "model, run"),
        "tools_tool": ("tools", "tool, run"),
        "ratings_label": ("ratings", "label, run"),
        "ratings_score": ("ratings", "score, run"),
        "ratings_source": ("ratings", "source, score, run"),
    }
    """The indexes, by name: of which table, and its columns."""

    COVERED: ClassVar[Mapping[str, str]] = {
        "sessions_updated": "name_number",
        "sessions_created": "name_number, user_facet, agent_facet, status_facet, kind_facet",
        "sessions_name": "user_facet, agent_facet, status_facet, kind_facet",
        "runs_user": "error, total_cost, total_unpriced, duration, first_token, parent_run_id, number",
        "runs_agent": "error, total_cost, total_unpriced, duration, first_token, parent_run_id, number",
        "runs_status": "error, total_cost, total_unpriced, duration, first_token, parent_run_id, number",
        "runs_kind": "error, total_cost, total_unpriced, duration, first_token, parent_run_id, number",
        "runs_error": "status, kind, agent, user_id, total_cost, total_unpriced, duration, first_token, parent_run_id, "
        "number",
        "runs_duration": "parent_run_id, number, started_at, status, kind, agent, user_id, error",
        "runs_cost": "parent_run_id, number, started_at, total_unpriced, status, kind, agent, user_id, error",
    }
    """Columns that stand at the end of an index, so that what they rule out need not be looked up."""

    def indexes(self, prefix: str) -> list[str]:
        """The statements that make the indexes; each may be run again."""
        return [
            f"CREATE INDEX IF NOT EXISTS {prefix}index_{name} ON {{{table}}} ({columns}{more})"
            for name, (table, columns) in self.INDEXES.items()
            for more in [f", {self.COVERED[name]}" if name in self.COVERED else ""]
        ]

    def led_by(self, prefix: str, index: str) -> str:
        """What stands behind a table that is to be read by one of its indexes, where the engine can be told that."""
        return ""

    def by_primary(self, prefix: str, table: str) -> str:
        """What stands behind a table that is to be read by its primary key, where the engine can be told that."""
        return self.by_id

    def log_by_run(self, prefix: str) -> str:
        """What stands behind the table of commits that is to be read by runs, where the engine can be told that."""
        return ""

    def steps(self, column: str, size: int) -> str:
        """How many whole steps of a size a column has."""
        return f"{column} / {size}"

    @abstractmethod
    def word_tables(self) -> list[str]:
        """The tables of words."""

    def kept(self, terms: Sequence[str]) -> str:
        """The columns of a run's words that `occurrences` needs."""
        return "words"

    def occurrences(self, terms: Sequence[str], kept: Sequence[Any]) -> tuple[list[int], int]:
        """How often a run has each of some terms, and how many words it has, out of what `kept` names."""
        words = unpack(*kept)
        counted = dict(zip(words.terms.split(), words.counts, strict=True))
        return [counted.get(one, 0) for one in terms], sum(words.counts)

    async def insert(
        self, run: RunStatement, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Insert rows, many with each statement."""
        names = ", ".join(columns)
        for some in batches(rows):
            keys, places = places_of(len(some), len(columns))
            sql = f"INSERT INTO {table} ({names}) VALUES {places}"
            await run(sql, dict(zip(keys, chain(*some), strict=True)))

    @abstractmethod
    def taken(self, found: Mapping[str, int]) -> W:
        """Terms, and how often each occurs, as `put_words` takes them. Whoever reads does that work: writers wait."""

    @abstractmethod
    async def put_words(self, run: RunStatement, words: Sequence[tuple[int, W]], tables: Mapping[str, str]) -> None:
        """Enter the words of runs that have none."""

    async def put_text(self, run: RunStatement, words: Sequence[tuple[int, W]], tables: Mapping[str, str]) -> None:
        """Enter the same words in a full-text index that is a table of its own, with one long statement."""

    @abstractmethod
    async def remove_words(self, run: RunStatement, ids: Sequence[int], tables: Mapping[str, str]) -> None:
        """Take out the words of some runs."""

    @abstractmethod
    def matching(self, words: Sequence[str]) -> tuple[str, str, str, Values]:
        """How runs that have all of these words are found: a table, its column of ids, a condition, its parameters."""


class SqliteEngine(Engine[Words]):
    """SQLite: FTS5 without contents and positions, about 0.3 bytes per byte of text. Any version since 3.35."""

    dialect = "sqlite"
    id_type = "INTEGER"
    real = "REAL"
    more_tables = ("text",)
    clustered = " WITHOUT ROWID"
    served = False
    lock = None
    join = "CROSS JOIN"
    by_id = " NOT INDEXED"
    compacting = "INSERT INTO {text} ({text}) VALUES ('optimize')"

    def word_tables(self) -> list[str]:
        """See `Engine`."""
        return [
            "CREATE TABLE IF NOT EXISTS {words} (run INTEGER PRIMARY KEY, words BLOB NOT NULL)",
            "CREATE VIRTUAL TABLE IF NOT EXISTS {text} USING"
            " fts5(body, content = '', detail = none, columnsize = 0, tokenize = \"ascii tokenchars '_'\")",
            *(f"INSERT INTO {{text}} ({{text}}, rank) VALUES ('{name}', {value})" for name, value in self.TEXT.items()),
        ]

    TEXT: ClassVar[Mapping[str, int]] = {"hashsize": 16 * 1024 * 1024, "automerge": 8}
    """Options of FTS5: bytes of words that a transaction gathers before they are written, and how many parts of the
    index become one. By default it writes and merges twice as much."""

    async def insert(
        self, run: RunStatement, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """See `Engine`."""
        places = ", ".join("?" * len(columns))
        if rows:
            await run(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", rows)

    def taken(self, found: Mapping[str, int]) -> Words:
        """See `Engine`."""
        return words_of(found)

    async def put_words(self, run: RunStatement, words: Sequence[tuple[int, Words]], tables: Mapping[str, str]) -> None:
        """See `Engine`."""
        await self.insert(run, tables["words"], ("run", "words"), [(number, pack(one)) for number, one in words])

    async def put_text(self, run: RunStatement, words: Sequence[tuple[int, Words]], tables: Mapping[str, str]) -> None:
        """See `Engine`. Other threads run as long as it takes."""
        sql = f"INSERT INTO {tables['text']} (rowid, body) SELECT CAST(key AS INTEGER), value FROM json_each(:words)"
        await run(sql, {"words": json.dumps({number: one.terms for number, one in words})})

    async def remove_words(self, run: RunStatement, ids: Sequence[int], tables: Mapping[str, str]) -> None:
        """See `Engine`. FTS5 is told which words a row had: it has not kept them by row."""
        for number in ids:
            for (packed,) in await run(f"SELECT words FROM {tables['words']} WHERE run = :run", {"run": number}):
                sql = f"INSERT INTO {tables['text']} ({tables['text']}, rowid, body) VALUES ('delete', :run, :body)"
                await run(sql, {"run": number, "body": unpack(packed).terms})
            await run(f"DELETE FROM {tables['words']} WHERE run = :run", {"run": number})

    def led_by(self, prefix: str, index: str) -> str:
        """See `Engine`."""
        return f" INDEXED BY {prefix}index_{index}"

    def by_primary(self, prefix: str, table: str) -> str:
        """See `Engine`. Rows lie in no order of it: it is an index of its own."""
        return f" INDEXED BY sqlite_autoindex_{prefix}index_{table}_1"

    def log_by_run(self, prefix: str) -> str:
        """See `Engine`."""
        return f" INDEXED BY {prefix}commits_run"

    def matching(self, words: Sequence[str]) -> tuple[str, str, str, Values]:
        """See `Engine`."""
        return "{text}", "{text}.rowid", "{text} MATCH :words", {"words": " AND ".join(words)}


LARGE_LOTS = "SELECT set_config('gin_pending_list_limit', '32MB', true), set_config('work_mem', '64MB', true)"
"""Until the end of the transaction."""

COPIED = 8 * 1024 * 1024
"""How many bytes of words go with one COPY."""


class PostgresEngine(Engine[bytes]):
    """PostgreSQL: arrays of words under a GIN index, which knows no parser, no stop words, and no end of a text.

    Words stand there as numbers of 64 bits: to enter them takes half of the time of texts, most of which goes into
    comparisons. Two words of the same number are as unlikely as two tokens of the same hash (`sessile.tokens.term`).
    """

    dialect = "postgres"
    text = 'TEXT COLLATE "C"'
    blob = "BYTEA"
    # Rows are looked up there even if an index has all columns, until a VACUUM: those of runs only make it larger.
    COVERED: ClassVar[Mapping[str, str]] = {
        name: more for name, more in Engine.COVERED.items() if not name.startswith("runs_")
    }

    # To plan a join of many tables anew, as conditions want it, takes longer than another round trip.
    apart = "unnest(CAST(:ids AS BIGINT[])) p(id)"
    # What is lost with the server's power is read again: how far the index is goes with it.
    lock = "SELECT version, set_config('synchronous_commit', 'off', true) FROM {state} FOR UPDATE"
    moment = "CAST(txid_current_snapshot() AS TEXT)"
    listed = TOGETHER
    settling = "SELECT gin_clean_pending_list('{words_terms}')"

    def word_tables(self) -> list[str]:
        """See `Engine`. Nothing of it is compressed: hashes cannot be, and the attempt takes as long as the rest."""
        return [
            "CREATE TABLE IF NOT EXISTS {words}"
            " (run BIGINT PRIMARY KEY, words BYTEA NOT NULL, terms BIGINT[] NOT NULL)",
            "ALTER TABLE {words} ALTER words SET STORAGE EXTERNAL, ALTER terms SET STORAGE EXTERNAL",
        ]

    def indexes(self, prefix: str) -> list[str]:
        """See `Engine`."""
        gin = f"CREATE INDEX IF NOT EXISTS {prefix}index_words_terms ON {{words}} USING GIN (terms)"
        return [*super().indexes(prefix), gin]

    def kept(self, terms: Sequence[str]) -> str:
        """See `Engine`."""
        return ", ".join(["words", *(f"array_position(terms, {number_of(one)})" for one in terms)])

    def occurrences(self, terms: Sequence[str], kept: Sequence[Any]) -> tuple[list[int], int]:
        """See `Engine`."""
        counts, *places = kept
        return [0 if place is None else counts[place - 1] for place in places], sum(counts)

    def taken(self, found: Mapping[str, int]) -> bytes:
        """See `Engine`."""
        return columns_of_words(counted(found), found)

    async def put_words(self, run: RunStatement, words: Sequence[tuple[int, bytes]], tables: Mapping[str, str]) -> None:
        """See `Engine`. What is entered together is also put into the index together, in larger lots than otherwise.

        The server sorts such a lot in `work_mem`, and puts it into the index whenever that is full.
        """
        if len(words) > TOGETHER // 10:
            await run(LARGE_LOTS, None)
        sql = f"COPY {tables['words']} (run, words, terms) FROM STDIN (FORMAT BINARY)"
        for some in weighed(words, lambda one: len(one[1]), COPIED):
            await run(sql, rows_of_words(some))

    async def insert(
        self, run: RunStatement, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """See `Engine`. As JSON all rows are one parameter, which the client has not to look at value by value."""
        names = ", ".join(columns)
        sql = f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{table}, :rows)"
        for some in batches(rows, TOGETHER):
            await run(sql, {"rows": _json([dict(zip(columns, row, strict=True)) for row in some])})

    async def remove_words(self, run: RunStatement, ids: Sequence[int], tables: Mapping[str, str]) -> None:
        """See `Engine`."""
        await run(f"DELETE FROM {tables['words']} WHERE run = ANY (:ids)", {"ids": list(ids)})

    def matching(self, words: Sequence[str]) -> tuple[str, str, str, Values]:
        """See `Engine`."""
        numbers = ", ".join(str(number_of(one)) for one in words)
        return "{words} w", "w.run", "w.terms @> CAST(:words AS BIGINT[])", {"words": f"{{{numbers}}}"}


def _json(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as PostgreSQL reads them: bytes in hexadecimal digits, numbers that JSON has not as text."""
    has_bytes = any(type(value) is bytes for value in rows[0].values())  # a column has one type
    if not has_bytes and (text := quick_json.dumps(rows)) is not None:
        return text
    try:
        return json.dumps(rows, allow_nan=False, default=lambda value: f"\\x{value.hex()}")
    except ValueError:
        return _json([{name: str(one) if type(one) is float else one for name, one in row.items()} for row in rows])


class MySQLEngine(Engine[Words]):
    """MySQL and MariaDB: words under a FULLTEXT index, with a beginning that makes each long enough to be indexed."""

    dialect = "mysql"
    text = "VARCHAR(255)"
    long_text = "LONGTEXT"
    real = "DOUBLE"
    ending = " ENGINE = InnoDB ROW_FORMAT = DYNAMIC CHARACTER SET utf8mb4 COLLATE {collation}"
    listed = TOGETHER
    join = "STRAIGHT_JOIN"
    by_id = " FORCE INDEX (PRIMARY)"
    ask = "SELECT VERSION()"
    lags = True

    def words(self, answer: str) -> Mapping[str, str]:
        """See `Engine`."""
        return {"collation": "utf8mb4_nopad_bin" if "MariaDB" in answer else "utf8mb4_0900_bin"}

    def if_new(self, insert: str) -> str:
        """See `Engine`."""
        return insert.replace("INSERT", "INSERT IGNORE", 1)

    def inner_indexes(self) -> dict[str, str]:
        """See `Engine`. MySQL cannot be told to make an index only if it is not there."""
        made = super().inner_indexes()
        for name, (table, columns) in self.INDEXES.items():
            made[f"indexes_of_{table}"] += f", INDEX index_{name} ({columns})"
        return made

    def indexes(self, prefix: str) -> list[str]:
        """See `Engine`."""
        return []

    def word_tables(self) -> list[str]:
        """See `Engine`."""
        return [
            "CREATE TABLE IF NOT EXISTS {words} (run BIGINT PRIMARY KEY, words LONGBLOB NOT NULL,"
            " tokens LONGTEXT CHARACTER SET ascii COLLATE ascii_general_ci NOT NULL, FULLTEXT INDEX tokens (tokens))"
            f"{self.ending}"
        ]

    def led_by(self, prefix: str, index: str) -> str:
        """See `Engine`."""
        return f" FORCE INDEX (index_{index})"

    def log_by_run(self, prefix: str) -> str:
        """See `Engine`."""
        return f" FORCE INDEX ({prefix}commits_run)"

    def steps(self, column: str, size: int) -> str:
        """See `Engine`."""
        return f"{column} DIV {size}"

    def taken(self, found: Mapping[str, int]) -> Words:
        """See `Engine`."""
        return words_of(found)

    async def put_words(self, run: RunStatement, words: Sequence[tuple[int, Words]], tables: Mapping[str, str]) -> None:
        """See `Engine`. Several with each statement, which may not be longer than a server's largest packet."""
        rows = ((number, pack(one), f"zz{one.terms.replace(' ', ' zz')}") for number, one in words)
        for some in weighed(rows, lambda row: len(row[2]), PACKET):
            await self.insert(run, tables["words"], ("run", "words", "tokens"), some)

    async def remove_words(self, run: RunStatement, ids: Sequence[int], tables: Mapping[str, str]) -> None:
        """See `Engine`."""
        values = {f"i{number}": one for number, one in enumerate(ids)}
        if values:
            await run(f"DELETE FROM {tables['words']} WHERE run IN ({', '.join(f':{key}' for key in values)})", values)

    def matching(self, words: Sequence[str]) -> tuple[str, str, str, Values]:
        """See `Engine`."""
        asked = " ".join(f"+{_long(one)}" for one in words)
        return "{words} w", "w.run", "MATCH (w.tokens) AGAINST (:words IN BOOLEAN MODE)", {"words": asked}


def _long(word: str) -> str:
    """A word of at least three letters, the fewest that are indexed."""
    return f"zz{word}"


ENGINES: Mapping[Dialect, Engine[Any]] = {
    engine.dialect: engine for engine in (SqliteEngine(), PostgresEngine(), MySQLEngine())
}
