"""Schema versions: how a database is brought from one to the next while programs of both are at work.

The version `N` has a part `NNN_pre.sql`, after which programs of version `N - 1` still work (it adds), and perhaps a
part `NNN_post.sql`, after which they do not (it removes). A program brings an older database up to date by itself:
it runs the pre part of its own version, and all parts of the versions before. The post part of its own version is
run by `sessile migrate --finish`, when the last program of the version before is gone. An empty database gets all
parts at once.

What a database has is one row of the table `sessile_schema`: `version` (whose pre part was run last), and `oldest`
(the oldest version whose programs may use it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, NamedTuple

from ...errors import NewerVersionError, StorageError
from .statements import put_in, split


class SchemaState(NamedTuple):
    """What a database has; version 0: no tables of Sessile's."""

    version: int = 0
    oldest: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a migration: its statements, the last of which note the state that the database is in after it."""

    version: int
    kind: Literal["pre", "post"]
    statements: tuple[str, ...]
    after: SchemaState


Texts = Mapping[tuple[int, Literal["pre", "post"]], str]
"""The scripts of all parts, by version and kind. Each version has a pre part."""


class Migrations:
    """The migrations of one database, with its tables' names put in.

    Args:
        texts: their scripts; `read_texts` reads those of a database.
        words: what `{words}` in them stand for.
        table: the one that has the state, by the name that stands in SQL. None: it is noted in a way of its own.
    """

    def __init__(self, texts: Texts, words: Mapping[str, str], *, table: str | None) -> None:
        self._texts = texts
        self._words = words
        self._table = table
        self.newest = max(version for version, _ in texts)
        """The schema version of this program."""

    def up_to_date(self, state: SchemaState, where: str) -> bool:
        """Whether this program can use the database as it is; `NewerVersionError` if it is too new for it."""
        if state.oldest > self.newest:
            raise NewerVersionError(
                f"{where} has schema version {state.version}, which needs a program that knows version "
                f"{state.oldest}; this version of Sessile knows {self.newest}."
            )
        return state.version >= self.newest

    def to_do(self, state: SchemaState, *, finish: bool = False) -> list[Part]:
        """What leads to this program's version, in order; with `finish` its own post part, too."""
        if state.version > self.newest:
            return []
        parts: list[Part] = []
        oldest = state.oldest
        for version in range(1, self.newest + 1):
            if version > state.version:
                oldest = oldest or version
                parts.append(self._part(version, "pre", SchemaState(version, oldest)))
            now = version < self.newest or finish or state.version == 0
            if (version, "post") in self._texts and now and version > state.oldest:
                oldest = version
                parts.append(self._part(version, "post", SchemaState(max(version, state.version), oldest)))
        return parts

    def _part(self, version: int, kind: Literal["pre", "post"], after: SchemaState) -> Part:
        statements = split(put_in(self._texts[version, kind], self._words))
        if self._table is not None:
            statements += [
                f"DELETE FROM {self._table}",
                f"INSERT INTO {self._table} (version, oldest) VALUES ({after.version}, {after.oldest})",
            ]
        return Part(version, kind, tuple(statements), after)


def schema_missing(version: int, first: str, where: str) -> StorageError:
    """The error where a program may not bring a database up to date, which would begin with a statement."""
    return StorageError(
        f"{where} lacks schema version {version}, beginning with: {first}",
        hint="Let a user who may change the schema run `sessile migrate`; `--dry-run` shows the statements.",
    )


def statements_of(parts: Sequence[Part]) -> list[str]:
    """All statements of some parts, in order."""
    return [statement for part in parts for statement in part.statements]


def read_texts(database: str) -> Texts:
    """The migrations in a database's folder."""
    texts: dict[tuple[int, Literal["pre", "post"]], str] = {}
    for file in files("sessile.drivers.sql").joinpath(database).iterdir():
        number, _, kind = file.name.removesuffix(".sql").partition("_")
        if kind in ("pre", "post"):
            texts[int(number), kind] = file.read_text(encoding="utf-8")
    return texts
