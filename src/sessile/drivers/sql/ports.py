"""What ports over pools share, whatever the client: its errors as ours, and reading again after a lost connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ...errors import DeadlineError, StorageError, Written
from ...storage.driver import Deadline
from .base import Parameters, Result

E = TypeVar("E", bound=Exception)

READ_ATTEMPTS = 3
"""How often a read is tried on connections that turn out to be lost. Idle ones all are, after a restart."""


class LateError(Exception):
    """The deadline of a statement has passed. Not a `TimeoutError`, which clients take for their own."""


class PooledPort(ABC, Generic[E]):
    """A port whose statements run on connections of a pool.

    Args:
        failures: the root of the client's errors.
        where: names the database in messages.
    """

    suspends: bool

    def __init__(self, failures: type[E], where: str) -> None:
        self._failures = failures
        self.where = where

    @abstractmethod
    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement on a connection of the pool; raises the client's errors and `LateError`."""

    @abstractmethod
    async def _forget_idle(self) -> None:
        """Close idle connections."""

    @abstractmethod
    def is_lost(self, error: E) -> bool:
        """Whether the connection is of no use any more, and others may be."""

    @abstractmethod
    def translate(self, error: E, what: str, written: Written) -> StorageError:
        """The client's error as one of ours; `written`: what is known if the connection was lost."""

    async def read(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement that changes nothing; run again if the connection turns out to be lost."""
        attempt = 1
        while True:
            try:
                return await self._run(sql, parameters, deadline)
            except self._failures as error:
                lost = self.is_lost(error)
                if lost:
                    await self._forget_idle()
                if not lost or attempt == READ_ATTEMPTS or deadline.remaining() <= 0:
                    raise self.translate(error, what, "no") from error
                attempt += 1
            except LateError as error:
                raise self.late(what, deadline, "no") from error

    async def write(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement as a transaction of its own; a lost answer is an error with `written="unknown"`."""
        try:
            return await self._run(sql, parameters, deadline)
        except self._failures as error:
            if self.is_lost(error):
                await self._forget_idle()
            raise self.translate(error, what, "unknown") from error
        except LateError as error:
            raise self.late(what, deadline, "unknown") from error

    def late(self, what: str, deadline: Deadline, written: Written) -> DeadlineError:
        """The error of a statement that has passed its deadline."""
        return DeadlineError(
            f"{what} on {self.where} did not end within {deadline.timeout:g} s.",
            written=written,
            retry=written == "no",
        )
