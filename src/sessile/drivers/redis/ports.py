"""Ways to one server (perhaps found through Sentinel): a pool of blocking or of asynchronous connections.

They use redis-py's connections, and neither its client nor its pools, whose retries would run a write twice behind our
back (ten times by default: redis/client.py of redis-py 8), and which cannot tell a connection that was never made from
an answer that was lost. A client of the application's lends its connections, one exchange at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from redis import exceptions as theirs

from ...errors import StorageUnavailableError
from ...storage.driver import Deadline
from ...storage.faces import OneLoop
from ...storage.stats import Stats
from ...storage.urls import WRONG_CALL, refused_call
from ...storage.withholding import reason_of
from ..sql.pool import PoolSettings, TaskPool, ThreadPool
from ..sql.sockets import PatientSocket
from .errors import LateError, code_of, is_lost, late, refused, translate
from .scripts import READ, Script

logger = logging.getLogger("sessile")

Command = Sequence[bytes]
Call = tuple[Sequence[bytes], Sequence[bytes]]
"""The keys and the arguments of a script."""

READ_ATTEMPTS = 3
"""How often a read is tried on connections that turn out to be lost. Idle ones all are, after a restart."""

LEAST_SECONDS = 0.001
"""The shortest time that an answer is waited for: 0 would mean not to wait at all."""


class Port(ABC):
    """A way to one server or to a cluster. Every error is one of ours, and says what is known of a write."""

    suspends: ClassVar[bool]
    one_server: ClassVar[bool]
    """Whether one script may use any keys, so that a commit and the lists change together."""
    ends_promptly: ClassVar[bool] = False
    """As of a driver."""

    def __init__(self, where: str) -> None:
        self.where = where
        """Names the server in messages, without the password."""
        self.stats = Stats()
        """What happens beside the work."""

    def retried(self, what: str, why: str) -> None:
        """Note that something is tried again."""
        self.stats.count("retries")
        logger.info("%s is tried again on %s: %s", what, self.where, why)

    @abstractmethod
    async def run(
        self, what: str, script: Script, calls: Sequence[Call], deadline: Deadline, *, writes: bool = False
    ) -> list[Any]:
        """The answers to a script that is called for each of several keys and arguments, in order."""

    async def read(self, what: str, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """The answers to several reading commands on keys of one slot, all of one moment, in one round trip."""
        keys = [command[1] for command in commands if len(command) > 1]
        args = [word for command in commands for word in (b"%d" % len(command), *command)]
        (answers,) = await self.run(what, READ, [(keys, args)], deadline)
        return answers

    @abstractmethod
    async def send(
        self,
        what: str,
        commands: Sequence[Command],
        deadline: Deadline,
        *,
        writes: bool = False,
        tolerant: bool = False,
    ) -> list[Any]:
        """The answers to several commands, in order, in one round trip (to each node of a cluster).

        If `tolerant`, keys of another type than theirs cost only themselves: a `CorruptDataError` is in place of the
        answer.
        """

    def tolerated(self, what: str, answers: Sequence[Any]) -> list[Any]:
        """Answers with errors of ours in place of those that say that a key has another type."""
        return [
            translate(answer, what, self.where)
            if isinstance(answer, theirs.ResponseError) and code_of(answer) == "WRONGTYPE"
            else answer
            for answer in answers
        ]

    @abstractmethod
    async def info(self, deadline: Deadline) -> list[Mapping[str, str]]:
        """What INFO says, of each server that takes writes."""

    @abstractmethod
    async def settings(self, name: str, deadline: Deadline) -> Sequence[str]:
        """The values of a setting, on each server that takes writes; none where it does not exist."""

    @abstractmethod
    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""

    @abstractmethod
    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections without closing them."""


class ServerPort(Port):
    """What the ports to one server share: scripts, errors, and reading again after a connection was lost."""

    one_server = True

    @abstractmethod
    async def _exchange(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """Send commands and read their answers; an answer may be a `ResponseError`.

        Raises redis-py's errors and `LateError`, and errors of ours before anything was sent.
        """

    @abstractmethod
    async def _forget_idle(self) -> None:
        """Close idle connections."""

    async def run(
        self, what: str, script: Script, calls: Sequence[Call], deadline: Deadline, *, writes: bool = False
    ) -> list[Any]:
        commands = [(b"EVALSHA", script.sha, *_call(call)) for call in calls]
        answers = await self._patiently(what, commands, deadline, writes=writes)
        # A server that has not seen the script has done nothing with it: send the text, which it then keeps.
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, theirs.NoScriptError)]
        if unknown:
            commands = [(b"EVAL", script.text, *_call(calls[number])) for number in unknown]
            again = await self._patiently(what, commands, deadline, writes=writes)
            for number, answer in zip(unknown, again, strict=True):
                answers[number] = answer
        return await self._checked(what, answers, writes=writes)

    async def read(self, what: str, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """By a transaction: a script, which makes strings of its own of all it reads, takes eight times as long."""
        transaction = [(b"MULTI",), *commands, (b"EXEC",)]
        answers = await self._patiently(what, transaction, deadline, writes=False)
        if any(isinstance(answer, theirs.OutOfMemoryError) for answer in answers):
            return await super().read(what, commands, deadline)  # where memory is full, a script may still read
        *_, found = await self._checked(what, answers, writes=False)
        return await self._checked(what, found, writes=False)

    async def send(
        self,
        what: str,
        commands: Sequence[Command],
        deadline: Deadline,
        *,
        writes: bool = False,
        tolerant: bool = False,
    ) -> list[Any]:
        answers = await self._patiently(what, commands, deadline, writes=writes)
        answers = self.tolerated(what, answers) if tolerant else answers
        return await self._checked(what, answers, writes=writes)

    async def _patiently(
        self, what: str, commands: Sequence[Command], deadline: Deadline, *, writes: bool
    ) -> list[Any]:
        deadline.check(what)
        attempt = 1
        while commands:
            try:
                return await self._exchange(commands, deadline)
            except theirs.RedisError as error:
                if is_lost(error):
                    await self._forget_idle()
                if writes or not is_lost(error) or attempt == READ_ATTEMPTS or deadline.remaining() <= 0:
                    raise translate(error, what, self.where, written="unknown" if writes else "no") from error
                self.retried(what, reason_of(error))
                attempt += 1
            except LateError as error:
                raise late(what, self.where, deadline, "unknown" if writes else "no") from error
        return []

    async def _checked(self, what: str, answers: list[Any], *, writes: bool) -> list[Any]:
        for answer in answers:
            if isinstance(answer, theirs.ResponseError):
                if is_lost(answer):
                    await self._forget_idle()
                raise translate(answer, what, self.where, written="unknown" if writes else "no") from answer
        return answers

    async def info(self, deadline: Deadline) -> list[Mapping[str, str]]:
        (text,) = await self.send("Asking the server about itself", [(b"INFO",)], deadline)
        lines = (line.partition(":") for line in text.decode(errors="replace").splitlines())
        return [{name: value for name, separator, value in lines if separator}]

    async def settings(self, name: str, deadline: Deadline) -> Sequence[str]:
        (answer,) = await self.send("Asking for a setting", [(b"CONFIG", b"GET", name.encode())], deadline)
        # RESP3 has maps.
        values: list[bytes] = [*cast("dict[bytes, bytes]", answer).values()] if isinstance(answer, dict) else answer[1:]
        return [value.decode() for value in values]


def _call(call: Call) -> tuple[bytes, ...]:
    keys, args = call
    return (str(len(keys)).encode(), *keys, *args)


class ThreadPort(ServerPort):
    """A pool of blocking connections.

    Args:
        recipe: makes a pool of redis-py's, of which only the way to make a connection is used.
        where: names the server in messages.
        settings: how many connections there may be, and how old.
    """

    suspends = False
    ends_promptly = True

    def __init__(self, recipe: Callable[[], Any], where: str, settings: PoolSettings) -> None:
        super().__init__(where)
        self._recipe = recipe
        self._settings = settings
        self._open()

    def _open(self) -> None:
        self._theirs = self._recipe()
        self._pool = ThreadPool[Any](self._connect, _close, **self._settings, stats=self.stats)

    def _connect(self, deadline: Deadline) -> Any:
        try:
            connection = self._theirs.connection_class(**self._theirs.connection_kwargs)
            connection.socket_timeout = connection.socket_connect_timeout = max(deadline.remaining(), LEAST_SECONDS)
            connection.connect()
        except (theirs.RedisError, OSError) as error:
            raise refused(error, self.where) from error
        except WRONG_CALL as error:
            raise refused_call(error, self.where) from error
        # Sound, and at rest: the server only answers. redis-py has no way to be given a socket.
        connection._sock = PatientSocket(connection._sock, deadline)
        connection._parser.on_connect(connection)
        return connection

    async def _exchange(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        connection = self._pool.acquire(deadline)
        sound = False
        try:
            connection._sock.deadline = deadline
            answers = _patient_exchange(connection, commands)
            sound = True
            return answers
        finally:
            if sound:
                self._pool.release(connection)
            else:
                self._pool.discard(connection)

    async def _forget_idle(self) -> None:
        self._pool.clear()

    async def close(self) -> None:
        self._pool.close()
        for sentinel in _sentinels(self._theirs):
            sentinel.close()

    def after_fork(self) -> None:
        """The old pool is not touched: another thread may have held its lock when the process forked."""
        self._open()


class TaskPort(ServerPort):
    """A pool of asynchronous connections, for one event loop. The arguments are those of `ThreadPort`."""

    suspends = True

    def __init__(self, recipe: Callable[[], Any], where: str, settings: PoolSettings) -> None:
        super().__init__(where)
        self._theirs = recipe()
        self._pool = TaskPool[Any](self._connect, _aclose, **settings, stats=self.stats)

    async def _connect(self, deadline: Deadline) -> Any:
        return await open_connection(self._theirs, self.where, deadline)

    async def _exchange(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        connection = await self._pool.acquire(deadline)
        sound = False
        try:
            answers = await _aexchange(connection, commands, deadline)
            sound = True
            return answers
        finally:
            if sound:
                await self._pool.release(connection)
            else:
                await self._pool.discard(connection)

    async def _forget_idle(self) -> None:
        await self._pool.clear()

    async def close(self) -> None:
        await self._pool.close()
        await close_sentinels(self._theirs)

    def after_fork(self) -> None:
        """Nothing to do: the storage makes new asynchronous drivers after a fork."""


class BorrowedThreadPort(ServerPort):
    """The connections of a `redis.Redis` of the application's, which it closes itself."""

    suspends = False

    def __init__(self, client: Any, where: str) -> None:
        super().__init__(where)
        self._client = client

    async def _exchange(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        pool = self._client.connection_pool
        try:
            connection = pool.get_connection()
        except theirs.RedisError as error:
            raise refused(error, self.where) from error
        except WRONG_CALL as error:
            raise refused_call(error, self.where, lent=True) from error
        try:
            return _exchange(connection, commands, deadline)
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)

    async def _forget_idle(self) -> None:
        """Nothing: redis-py looks at idle connections before it lends one."""

    async def close(self) -> None:
        """Nothing: the client is the application's."""

    def after_fork(self) -> None:
        """Nothing: redis-py's pools notice a fork."""


class BorrowedTaskPort(ServerPort):
    """The connections of a `redis.asyncio.Redis` of the application's, which it closes itself."""

    suspends = True

    def __init__(self, client: Any, where: str) -> None:
        super().__init__(where)
        self._client = client
        self._loop = OneLoop(where)

    async def _exchange(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        self._loop.check()
        pool = self._client.connection_pool
        try:
            async with asyncio.timeout(deadline.remaining()):
                connection = await pool.get_connection()
        except theirs.RedisError as error:
            raise refused(error, self.where) from error
        except WRONG_CALL as error:
            raise refused_call(error, self.where, lent=True) from error
        except TimeoutError as error:
            raise StorageUnavailableError(f"{self.where} lent no connection in {deadline.timeout:g} s.") from error
        try:
            return await _aexchange(connection, commands, deadline)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    async def _forget_idle(self) -> None:
        """Nothing: redis-py looks at idle connections before it lends one."""

    async def close(self) -> None:
        """Nothing: the client is the application's."""

    def after_fork(self) -> None:
        """Nothing: an asynchronous client does not outlive a fork."""


# ---------------------------------------------------------------- one connection, one exchange


async def open_connection(pool: Any, where: str, deadline: Deadline) -> Any:
    """A new asynchronous connection as this pool of redis-py's would make it, which the caller closes."""
    try:
        connection = pool.connection_class(**pool.connection_kwargs)
        async with asyncio.timeout(deadline.remaining()):
            await connection.connect()
    except (theirs.RedisError, OSError) as error:  # TimeoutError is an OSError
        raise refused(error, where) from error
    except WRONG_CALL as error:
        raise refused_call(error, where) from error
    return connection


def _packed(commands: Sequence[Command]) -> list[bytes]:
    """Commands as they are sent. redis-py's own way, which takes words of any type, is a tenth of a turn's work."""
    words: list[bytes] = []
    for command in commands:
        words.append(b"*%d\r\n" % len(command))
        words += [b"$%d\r\n%b\r\n" % (len(word), word) for word in command]
    return [b"".join(words)]


def _exchange(connection: Any, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
    packed = _packed(commands)
    try:
        connection._get_socket().settimeout(max(deadline.remaining(), LEAST_SECONDS))  # there is no other way to send
        connection.send_packed_command(packed, check_health=False)
        return [_answer(connection, deadline) for _ in commands]
    except theirs.TimeoutError as error:
        raise LateError from error


def _patient_exchange(connection: Any, commands: Sequence[Command]) -> list[Any]:
    """An exchange on a connection whose socket knows the deadline."""
    try:
        connection.send_packed_command(_packed(commands), check_health=False)
        return [_patient_answer(connection) for _ in commands]
    except theirs.TimeoutError as error:
        raise LateError from error


def _patient_answer(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except theirs.ResponseError as error:
        return error


def _answer(connection: Any, deadline: Deadline) -> Any:
    try:
        return connection.read_response(disable_decoding=True, timeout=max(deadline.remaining(), LEAST_SECONDS))
    except theirs.ResponseError as error:
        return error


async def _aexchange(connection: Any, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
    try:
        async with asyncio.timeout(deadline.remaining()):
            await connection.send_packed_command(_packed(commands), check_health=False)
            return [await _aanswer(connection) for _ in commands]
    except TimeoutError as error:
        raise LateError from error


async def _aanswer(connection: Any) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except theirs.ResponseError as error:
        return error


# ---------------------------------------------------------------- closing, which never fails


def _close(connection: Any) -> None:
    connection.disconnect()


async def _aclose(connection: Any) -> None:
    with contextlib.suppress(theirs.RedisError, OSError):
        await connection.disconnect(nowait=True)


async def close_sentinels(pool: Any) -> None:
    """Close the connections to Sentinels that an asynchronous pool has asked, if it has."""
    for sentinel in _sentinels(pool):
        with contextlib.suppress(theirs.RedisError, OSError):
            await sentinel.aclose()


def _sentinels(pool: Any) -> list[Any]:
    manager = getattr(pool, "sentinel_manager", None)
    return [] if manager is None else manager.sentinels
