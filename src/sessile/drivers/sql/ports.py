"""What ports over pools share, whatever the client: its errors as ours, and reading again after a lost connection."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from ...errors import CorruptDataError, DeadlineError, StorageError, Written
from ...storage.driver import Deadline
from ...storage.stats import Stats
from ...storage.withholding import reason_of
from .base import Parameters, Result

logger = logging.getLogger("sessile")

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
        stats: where is counted what happens beside the work.
    """

    suspends: bool
    borrowed = False
    ends_promptly = False

    def __init__(self, failures: type[E], where: str, stats: Stats) -> None:
        self._failures = failures
        self.where = where
        self.stats = stats

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
        deadline.check(what)
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
                self.stats.count("retries")
                logger.info(
                    "%s on %s is tried again: the connection was lost (%s).", what, self.where, reason_of(error)
                )
            except LateError as error:
                raise self.late(what, deadline, "no") from error
            except UnicodeDecodeError as error:
                raise not_text(error, what, self.where) from error

    async def write(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement as a transaction of its own; a lost answer is an error with `written="unknown"`."""
        deadline.check(what)
        try:
            return await self._run(sql, parameters, deadline)
        except self._failures as error:
            if self.is_lost(error):
                await self._forget_idle()
            raise self._counted(self.translate(error, what, "unknown")) from error
        except LateError as error:
            raise self._counted(self.late(what, deadline, "unknown")) from error

    def _counted(self, failed: StorageError) -> StorageError:
        if failed.written == "unknown":
            self.stats.unknown(failed)
            logger.warning("Whether it was written is not known: %s", failed.message)
        return failed

    def late(self, what: str, deadline: Deadline, written: Written) -> DeadlineError:
        """The error of a statement that has passed its deadline."""
        return DeadlineError(
            f"{what} on {self.where} did not end within {deadline.timeout:g} s.",
            written=written,
            retryable=written == "no",
        )


def not_text(error: UnicodeDecodeError, what: str, where: str) -> CorruptDataError:
    """The error of a column whose text cannot be read."""
    return CorruptDataError(f"{what} on {where}: what is stored there is no text: {error}.")
