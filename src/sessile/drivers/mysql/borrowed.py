"""One connection of the application's as the way to the database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import aiomysql  # pyright: ignore[reportMissingTypeStubs]
import pymysql
from pymysql.constants import SERVER_STATUS

from ...errors import (
    InvalidInputError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
    UnsupportedError,
    Written,
)
from ...storage.driver import Deadline
from ...storage.faces import OneLoop
from ...storage.stats import Stats
from ..sql.base import Execute, Parameters, Result
from ..sql.borrowed import OneAtATime, not_open, refuse_writes, spoil
from ..sql.ports import not_text
from .errors import READ_ONLY_TRANSACTION, is_lost, number_of, translate
from .statements import SEPARATOR, aexecute, execute, joined, needed

Failure = pymysql.err.MySQLError

ALONE = ("START TRANSACTION", "COMMIT", "ROLLBACK")
INSIDE = ("SAVEPOINT sessile", "RELEASE SAVEPOINT sessile", "ROLLBACK TO SAVEPOINT sessile")
"""What begins, ends and undoes a write of several statements, outside and inside a transaction."""


class BorrowedPort:
    """One connection of the application's, and the transaction that it is in, which is never committed here.

    A write is done whole or not at all, also if the application commits after an error. In autocommit mode it is a
    transaction of its own. Raises `InvalidInputError` for a connection that cannot carry all text.
    """

    borrowed = True
    ends_promptly = False

    def __init__(self, connection: Any, where: str) -> None:
        if connection.charset != "utf8mb4":
            raise InvalidInputError(
                f"The connection has the character set {connection.charset!r}, which cannot carry all text.",
                hint='Connect with charset="utf8mb4".',
            )
        self.connection = connection
        self.where = where
        self.stats = Stats()
        self.suspends = isinstance(connection, aiomysql.Connection)
        self._turns = OneAtATime(OneLoop(where) if self.suspends else None)
        self.max_packet: int | None = None
        """The server's `max_allowed_packet`, known from the first statement on."""

    async def read(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run statements inside the application's transaction."""
        deadline.check(what)
        async with self._turns.turn(deadline):
            return await self._one(what, sql, parameters, "no")

    async def write(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run statements whole or not at all."""
        deadline.check(what)
        statements = sql.split(SEPARATOR)
        async with self._turns.turn(deadline):
            if len(statements) == 1:
                return await self._one(what, sql, parameters, "unknown")
            return await self._several(what, statements, parameters)

    async def _one(self, what: str, sql: str, parameters: Parameters, written: Written) -> Result:
        self._check_open()
        inside = self._in_transaction()
        try:
            return await self._run(sql, parameters)
        except Failure as error:
            raise self._failed(error, what, written, inside=inside) from error
        except UnicodeDecodeError as error:
            raise not_text(error, what, self.where) from error

    async def _several(self, what: str, statements: list[str], parameters: Parameters) -> Result:
        self._check_open()
        inside = self._in_transaction()
        begin, end, undo = INSIDE if inside else ALONE
        try:
            await self._run(begin, {})
            self._check_there(what, inside=inside)
            try:
                results = [await self._run(each, needed(each, parameters)) for each in statements]
                await self._run(end, {})
            except BaseException:
                await self._undo(undo)
                raise
        except Failure as error:
            raise self._failed(error, what, "unknown", inside=inside) from error
        return joined(results)

    def _check_open(self) -> None:
        if self.connection.closed if self.suspends else not self.connection.open:
            raise not_open(self.where)

    def _in_transaction(self) -> bool:
        status = self.connection.server_status or 0
        return not self.connection.get_autocommit() or bool(status & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def _check_there(self, what: str, *, inside: bool) -> None:
        """Raise if there is no transaction any more, after the server has answered a statement that succeeded.

        An error's answer does not tell that the server has rolled the transaction back (a deadlock, or MariaDB's
        innodb_snapshot_isolation): what comes next would be committed statement by statement.
        """
        if inside and not self._in_transaction():
            text = f"{what} failed on {self.where}: the server has rolled the transaction back."
            raise spoil(StorageUnavailableError(text))

    async def _run(self, sql: str, parameters: Parameters) -> Result:
        if self.max_packet is None:
            self.max_packet = (await self._send("SELECT @@max_allowed_packet", {})).rows[0][0]
        return await self._send(sql, parameters)

    async def _send(self, sql: str, parameters: Parameters) -> Result:
        if self.suspends:
            return joined(await aexecute(self.connection, sql, parameters, self.max_packet))
        return joined(execute(self.connection, sql, parameters, self.max_packet))

    async def _undo(self, sql: str) -> None:
        try:
            await self._send(sql, {})
        except Failure:
            return  # the server has rolled the whole transaction back, or will: the connection is lost

    def _failed(self, error: Failure, what: str, written: Written, *, inside: bool) -> StorageError:
        """A deadlock rolls the whole transaction back, and without the application nothing of it is committed.

        `written`: what is known outside of a transaction, if the connection is lost. There is no other one to try.
        """
        failed = translate(error, what, self.where, written="no" if inside else written)
        if failed.written == "unknown":
            self.stats.unknown(failed)
        if number_of(error) == READ_ONLY_TRANSACTION and isinstance(failed, ReadOnlyError):
            refuse_writes(failed)
        elif inside or is_lost(error):
            spoil(failed)
        return failed

    def transaction(self, what: str, deadline: Deadline) -> AbstractAsyncContextManager[Execute]:
        """Refused: it is for changes of the schema, with which MySQL commits the application's transaction."""
        raise UnsupportedError(
            f"{what} would commit the application's transaction.",
            hint="Let a storage that is made with a URL, or `sessile migrate`, do it.",
        )

    async def close(self) -> None:
        """Nothing: the connection is the application's."""

    def after_fork(self) -> None:
        """Nothing: the connection is the application's."""
