"""Where an index lies: tables in an SQL database, reached through the storage whose database that is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from ..errors import InvalidInputError, NewerVersionError, StorageError
from ..storage import Storage, open_storage
from ..storage.core import Core
from ..storage.driver import Beside, RunStatement, Values
from ..storage.storage import operate
from .engines import ENGINES, TABLES, Engine

T = TypeVar("T")

VERSION = 8
"""Of the tables. An older index is rebuilt; a newer one is left alone."""

WORDED = 8
"""The first version whose tables say whether they take words; those before all do."""


class Place:
    """The tables of one index."""

    def __init__(
        self, storage: Storage, engine: Engine[Any], beside: Beside, *, shared: bool, words: bool | None
    ) -> None:
        self.storage = storage
        self.engine = engine
        self.shared = shared
        """Whether the log lies in the same database."""
        self.where = beside.where
        self.may_create = beside.may_create
        self.tables = {name: beside.table(f"index_{name}") for name in (*TABLES, "text")}
        self.tables |= {"heads": beside.table("sessions"), "commits": beside.table("commits")}
        self.prefix = beside.index_prefix
        self.tables["words_terms"] = beside.table("index_words_terms")
        self.tables["moment"] = engine.moment
        self.known: object = None
        """What `sign` was when the index had all that was in the log; None: it is not known."""
        self.newest: int | None = None
        """The id of the newest session, when somebody last asked: about how many there are. None: nobody has asked."""
        self.leads: dict[tuple[Any, ...], tuple[Any, float]] = {}
        """How lists are best read, by what they ask for, and until when that is taken for true."""
        self.words = words is not False
        """Whether words are entered: what its tables say, once it is prepared."""
        self._wanted = words
        self._ready = False

    # ------------------------------------------------------------ statements

    def sign(self) -> object:
        """What is the same as before only if nothing was committed to log and index since; None: there is no such sign.

        Servers have it in `{moment}`.
        """
        return operate(self.storage, _sign) if self.shared and not self.engine.served else None

    def sql(self, statement: str) -> str:
        """A statement with the names of the tables put in."""
        return statement.format_map(self.tables)

    def read(self, statement: str, values: Values | None = None) -> list[Any]:
        """The rows of a statement that changes nothing."""
        return operate(self.storage, _read, self.sql(statement), values or {})

    async def read_in(self, core: Core, statement: str, values: Values) -> list[Any]:
        """As `read`, within an operation on the same database."""
        return await _read(core, self.sql(statement), values)

    def change(self, work: Callable[[RunStatement], Awaitable[T]]) -> T:
        """Do some work in one transaction, in which nobody else changes the index."""
        lock = None if self.engine.lock is None else self.sql(self.engine.lock)
        return operate(self.storage, _change, work, lock)

    # ------------------------------------------------------------ tables

    def prepare(self) -> None:
        """Make the tables if they are not there, and make an older index anew.

        Raises `NewerVersionError` if a newer version has made them, and `StorageError` where only `migrate` may, or if
        they have words and should not, or have none and should.
        """
        if self._ready:
            return
        if self.may_create:
            self.migrate()
        else:
            self._needs(self.state_version())
        self.words = self.is_worded()
        if self._wanted not in (None, self.words):
            raise StorageError(
                f"The index in {self.where} has {'the' if self.words else 'no'} words of what was said.",
                hint=f"Build it anew: `sessile index --rebuild {'--no-text' if self.words else '--text'}`.",
            )
        self._ready = True

    def is_worded(self) -> bool:
        """Whether the tables of this version that there are take words; True while they are being made."""
        rows = self.read("SELECT worded FROM {state}")
        return not rows or bool(rows[0][0])

    def check_words(self, worded: object) -> None:
        """Refuse to go on if somebody has made another index meanwhile: words are entered in all of one, or in none.

        `worded`: what the tables say now.
        """
        if bool(worded) != self.words:
            raise StorageError(
                f"The index in {self.where} was built anew meanwhile.", hint="Try again; nothing was entered."
            )

    def _needs(self, found: tuple[int, int] | None) -> None:
        """Refuse to go on without the tables of this version."""
        if self._up_to_date(found):
            return
        hint = "Run `sessile index` once, as a user who may make tables."
        if found is None:
            raise StorageError(f"{self.where} has no index yet.", hint=hint)
        raise StorageError(f"The index in {self.where} is older than version {VERSION}, which is needed.", hint=hint)

    def migrate(self, *, dry_run: bool = False) -> list[str]:
        """See `Index.migrate`."""
        found = self.state_version()
        if self._up_to_date(found):
            return []
        statements = self._making(found)
        if not dry_run:
            try:
                operate(self.storage, _run_all, statements)
            except StorageError:  # another process may have made them at the same moment
                if not self._up_to_date(self.state_version()):
                    raise
        return statements

    def rebuild(self) -> None:
        """Put empty tables in the place of those that there are, whatever their version, at once."""
        operate(self.storage, _run_all, self._making(self.state_version(), anew=True))
        self._ready = False

    def _making(self, found: tuple[int, int] | None, *, anew: bool = False) -> list[str]:
        """The statements that make the tables, in the place of those that were found: without words, if they are.

        `anew`: also in the place of what is left of some that were not dropped whole, of which none says what they are.
        """
        words = self._wanted
        if words is None:
            words = found is None or found[0] < WORDED or self.is_worded()
        return [*(self._dropping() if anew or found is not None else []), *self.statements(words=words)]

    def _up_to_date(self, found: tuple[int, int] | None) -> bool:
        if found is not None and found[1] > VERSION:
            raise NewerVersionError(
                f"The index in {self.where} has version {found[0]}, and needs a program that knows version {found[1]}; "
                f"this version of Sessile knows {VERSION}."
            )
        return found is not None and found[0] >= VERSION

    def state_version(self) -> tuple[int, int] | None:
        """The version of the tables, and the oldest one whose programs may use them; None: there are none."""
        if not operate(self.storage, _has_table, "index_state"):
            return None
        rows = self.read("SELECT version, oldest FROM {state}")
        (version, oldest) = rows[0] if rows else (0, 0)
        numbers = type(version) is int and type(oldest) is int
        return (version, oldest) if numbers else (0, 0)  # changed by hand: it is rebuilt

    def statements(self, *, words: bool) -> list[str]:
        """What makes the tables."""
        *others, state = self.engine.tables()
        values = f"1, {VERSION}, {VERSION}, {int(words)}, 0"
        row = f"INSERT INTO {{state}} (id, version, oldest, worded, since) VALUES ({values})"
        made = [*others, *self.engine.indexes(self.prefix), state, self.engine.if_new(row)]
        answer = "" if self.engine.ask is None else self.read(self.engine.ask)[0][0]
        named = {**self.tables, **self.engine.words(answer)}
        return [statement.format_map(named) for statement in made]

    def drop(self) -> None:
        """Remove the tables."""
        operate(self.storage, _run_all, self._dropping())
        self._ready = False

    def compact(self) -> None:
        """Take out of the full-text index what deleted rows have left in it."""
        if self.engine.compacting is not None:
            operate(self.storage, _run_all, [self.sql(self.engine.compacting)])

    def is_there(self) -> bool:
        """Whether there is one of this version; raises `NewerVersionError` for one of a newer version."""
        return self._ready or self._up_to_date(self.state_version())

    def is_gone(self) -> bool:
        """Whether somebody has dropped it since it was prepared, or made another one: it is to be prepared again."""
        gone = self.state_version() is None or self.is_worded() != self.words
        self._ready = self._ready and not gone
        return gone

    def _dropping(self) -> list[str]:
        return [f"DROP TABLE IF EXISTS {self.tables[name]}" for name in (*self.engine.more_tables, *TABLES)]


async def _read(core: Core, statement: str, values: Values) -> list[Any]:
    deadline = core.deadline()
    return await _beside(core).read("Asking the index", statement, values, deadline)


async def _sign(core: Core) -> object:
    return await _beside(core).sign(core.deadline())


async def _change(core: Core, work: Callable[[RunStatement], Awaitable[T]], lock: str | None) -> T:
    async with _beside(core).transaction("Writing the index", core.deadline()) as run:
        if lock is not None:
            await run(lock, None)
        return await work(run)


async def _run_all(core: Core, statements: Sequence[str]) -> None:
    async with _beside(core).transaction("Making the index", core.deadline()) as run:
        for statement in statements:
            await run(statement, None)


async def _has_table(core: Core, name: str) -> bool:
    await core.prepare(core.deadline())
    return await _beside(core).has_table(name, core.deadline())


async def _is_sealed(core: Core) -> bool:
    return core.driver.sealed()


async def _look_beside(core: Core) -> Beside | None:
    return core.driver.beside()


def _beside(core: Core) -> Beside:
    beside = core.driver.beside()
    assert beside is not None, "looked for when the place was found"
    return beside


def place_for(storage: Storage, into: str | None, *, words: bool | None = None) -> Place:
    """Where the index of a storage lies: beside its log, or in the database that a URL names.

    `words`: whether it has those of what was said; None: as it is.

    Raises `InvalidInputError` if neither is an SQL database.
    """
    if operate(storage, _is_sealed):
        raise InvalidInputError(
            "An index would hold the words of encrypted sessions as they are.",
            hint="Make the storage with plain_index=True if that may be.",
        )
    shared = into is None
    target = storage if into is None else open_storage(into)
    beside = operate(target, _look_beside)
    if beside is None and into is None and not storage.capabilities.durable:
        return place_for(storage, "sqlite://", words=words)  # what is in memory only has its index there, too
    if beside is None:
        what = "This storage's database" if into is None else "What `into` names"
        raise InvalidInputError(
            f"{what} is none that an index can lie in.", hint='Name a file for it: into="sqlite:///index.db".'
        )
    return Place(target, ENGINES[beside.dialect], beside, shared=shared, words=words)
