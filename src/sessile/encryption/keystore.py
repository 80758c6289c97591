"""Where keys of sessions lie apart from the sessions, so that they can be destroyed in all copies of the database."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ..errors import StorageError, StorageUnavailableError


class Kept(NamedTuple):
    """One key of a session, as it is kept: encrypted with a master key.

    A session has several while its data are being encrypted anew; the highest number is the newest. `incarnation` is
    that of its session, or a text that begins with it, where two sessions have the same one.
    """

    incarnation: str
    number: int
    user_id: str | None
    session_id: str
    master: str
    wrapped: bytes


class KeyStore(ABC):
    """Keeps the encrypted keys of sessions, of one database's. Its backups should not outlive its deletions for long.

    Methods block, and may be called by several threads and processes. They raise `StorageError`.
    """

    @abstractmethod
    def put(self, key: Kept) -> None:
        """Keep a key, in the place of one of the same incarnation and number; durable when it returns."""

    @abstractmethod
    def get(self, incarnation: str) -> list[Kept]:
        """The keys of a session's incarnation, by ascending number; none if there are none (any more)."""

    @abstractmethod
    def all(self, after: tuple[str, int] | None, limit: int) -> list[Kept]:
        """A page of all keys, by ascending incarnation and number, behind a place."""

    @abstractmethod
    def remove(self, incarnation: str, numbers: Sequence[int] | None = None) -> int:
        """Remove keys of a session, all of them or those with these numbers, for good; returns how many there were."""

    @abstractmethod
    def remove_user(self, user_id: str) -> int:
        """Remove the keys of all sessions of a user, deleted ones included, for good; returns how many there were."""

    def close(self) -> None:
        """Release what is held. Generic form: nothing."""


_TABLE = """CREATE TABLE IF NOT EXISTS sessile_keys (
    incarnation TEXT NOT NULL, number INTEGER NOT NULL, user_id TEXT, session_id TEXT NOT NULL,
    master TEXT NOT NULL, wrapped BLOB NOT NULL, PRIMARY KEY (incarnation, number)) WITHOUT ROWID"""

_INDEX = "CREATE INDEX IF NOT EXISTS sessile_keys_user ON sessile_keys (user_id)"

_COLUMNS = "incarnation, number, user_id, session_id, master, wrapped"


_Row = tuple[str, int, str | None, str, str, bytes]


class SqliteKeyStore(KeyStore):
    """Keys in an SQLite file of their own.

    What is removed is overwritten with zeros, and the file has no write-ahead log: nothing of a removed key is left in
    it.

    Args:
        path: the file; it is made at first use. Readable for its owner alone.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def put(self, key: Kept) -> None:
        """See `KeyStore.put`."""
        self._run(f"INSERT OR REPLACE INTO sessile_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", tuple(key))  # noqa: S608

    def get(self, incarnation: str) -> list[Kept]:
        """See `KeyStore.get`."""
        where = "WHERE incarnation = ? ORDER BY number"
        rows, _ = self._run(f"SELECT {_COLUMNS} FROM sessile_keys {where}", (incarnation,))  # noqa: S608
        return [Kept(*row) for row in rows]

    def all(self, after: tuple[str, int] | None, limit: int) -> list[Kept]:
        """See `KeyStore.all`."""
        where = "WHERE (incarnation, number) > (?, ?) ORDER BY incarnation, number LIMIT ?"
        values = (*(after or ("", 0)), limit)
        rows, _ = self._run(f"SELECT {_COLUMNS} FROM sessile_keys {where}", values)  # noqa: S608
        return [Kept(*row) for row in rows]

    def remove(self, incarnation: str, numbers: Sequence[int] | None = None) -> int:
        """See `KeyStore.remove`."""
        if numbers is None:
            return self._run("DELETE FROM sessile_keys WHERE incarnation = ?", (incarnation,))[1]
        one = "DELETE FROM sessile_keys WHERE incarnation = ? AND number = ?"
        return sum(self._run(one, (incarnation, number))[1] for number in numbers)

    def remove_user(self, user_id: str) -> int:
        """See `KeyStore.remove_user`."""
        return self._run("DELETE FROM sessile_keys WHERE user_id = ?", (user_id,))[1]

    def _run(self, sql: str, values: tuple[object, ...]) -> tuple[list[_Row], int]:
        """The rows of a statement, and how many it changed. A connection for each, which a fork cannot inherit."""
        try:
            with closing(self._opened()) as connection:
                cursor = connection.execute(sql, values)
                return cursor.fetchall(), cursor.rowcount
        except sqlite3.OperationalError as error:
            raise StorageUnavailableError(f"The key store cannot be used: {error}.", written="unknown") from error
        except sqlite3.Error as error:
            raise StorageError(f"The key store cannot be used: {error}.", written="unknown") from error
        except OSError as error:  # it could not even be made
            raise StorageError(f"The key store cannot be used: {error.strerror}.") from error

    def _opened(self) -> sqlite3.Connection:
        new = not self.path.exists()
        if new:
            self.path.touch(mode=0o600)
        connection = sqlite3.connect(self.path, timeout=10.0, isolation_level=None)
        try:
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute("PRAGMA synchronous = EXTRA")
            connection.execute(_TABLE)
            connection.execute(_INDEX)
        except BaseException:
            connection.close()
            raise
        return connection
