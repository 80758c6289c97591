"""Schema versions: how a database is brought from one to the next while programs of both are running.

The version `N` has a part `NNN_pre.sql`, after which programs of version `N - 1` still work (it adds), and perhaps a
part `NNN_post.sql`, after which they do not (it removes). A program brings an older database up to date by itself:
it runs the pre part of its own version, and all parts of the versions before. The post part of its own version is
run by `sessile migrate --finish`, when the last program of the version before is gone. An empty database gets all
parts at once, or the part `new` of the newest version, where there is one.

A change that programs of the versions before cannot live with, and that cannot wait for them to be gone, is a pre part
with a comment `-- oldest: N`: it locks out programs that know less than version `N`. Such a version has no post part.

What a database has is one row of the table `sessile_schema`: `version` (whose pre part was run last), and `oldest`
(the oldest version whose programs may use it).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...errors import CorruptDataError, NewerVersionError, StorageError
from .statements import folder_of, put_in, split

_OLDEST = re.compile(r"^-- oldest: (\d+)", re.MULTILINE)

Kind = Literal["pre", "post", "new"]


class SchemaState(NamedTuple):
    """What a database has; version 0: no tables of Sessile's."""

    version: int = 0
    oldest: int = 0

    @classmethod
    def stored(cls, version: Any, oldest: Any) -> SchemaState:
        """What a database says of itself; raises `CorruptDataError` if these are no versions."""
        if type(version) is int and type(oldest) is int:
            return cls(version, oldest)
        raise CorruptDataError(
            "The schema version that the database says it has is no number.",
            hint="Somebody has changed it: put back what it was, from a backup.",
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a migration: its statements, the last of which note the state that the database is in after it."""

    version: int
    kind: Kind
    statements: tuple[str, ...]
    after: SchemaState


Texts = Mapping[tuple[int, Kind], str]
"""The scripts of all parts, by version and kind. Each version has a pre part, but for those that nobody has."""


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
        if state.version == 0 and (self.newest, "new") in self._texts:
            return [self._part(self.newest, "new", SchemaState(self.newest, 1))]
        parts: list[Part] = []
        now = state
        for version in range(1, self.newest + 1):
            if version > state.version:
                parts.append(self._part(version, "pre", SchemaState(version, now.oldest or version)))
                now = parts[-1].after
            finished = version < self.newest or finish or state.version == 0
            if (version, "post") in self._texts and finished and version > now.oldest:
                parts.append(self._part(version, "post", SchemaState(max(version, state.version), version)))
                now = parts[-1].after
        return parts

    def _part(self, version: int, kind: Kind, after: SchemaState) -> Part:
        """A part that leads to a state, unless its script says that it locks more programs out."""
        text = self._texts[version, kind]
        if (said := _OLDEST.search(text)) is not None:
            after = after._replace(oldest=int(said[1]))
        statements = split(put_in(text, self._words))
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
    texts: dict[tuple[int, Kind], str] = {}
    for file in folder_of(database).iterdir():
        number, _, kind = file.name.removesuffix(".sql").partition("_")
        if kind in ("pre", "post"):
            texts[int(number), kind] = file.read_text(encoding="utf-8")
    return texts
