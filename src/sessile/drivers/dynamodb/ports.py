"""Ways to DynamoDB: a client of botocore's for threads, one of aiobotocore's for an event loop, or the application's.

Requests that DynamoDB refuses for the moment are sent again here, with growing random pauses, and nowhere else: the
clients that are made here never repeat one by themselves. Every write may be sent twice without harm, because it is
conditional, has a token of its own, or puts or deletes the same items again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import cache, lru_cache
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import botocore.session  # pyright: ignore[reportMissingTypeStubs]
import botocore.utils  # pyright: ignore[reportMissingTypeStubs]
from botocore.client import BaseClient  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import ClientError, HTTPClientError  # pyright: ignore[reportMissingTypeStubs]

from ...errors import ClosedError, DeadlineError, StorageError, StorageUnavailableError, missing_dependency
from ...storage.dates import SECOND, ServerClock, monotonic_micros
from ...storage.driver import Deadline
from ...storage.faces import OneLoop, stepped_together
from ...storage.retrying import back_off
from ...storage.stats import Stats
from ...storage.withholding import reason_of
from .errors import FAILURES, check_json, check_whole, translate

T = TypeVar("T")

logger = logging.getLogger("sessile")

Answer = dict[str, Any]

ATTEMPTS = 8
"""How often a request is sent until the caller hears of the trouble: about two seconds."""

CONNECT_SECONDS, READ_SECONDS = 3.0, 5.0
"""How long one attempt may take, if the storage's timeout is not shorter."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which DynamoDB clients lead to. None: what botocore finds in the environment and its files.

    Attributes:
        where: names the table in messages.
        timeout: that of the storage, in seconds.
    """

    where: str
    region: str | None
    endpoint: str | None
    timeout: float
    pool_size: int

    def options(self, config: type[Any]) -> dict[str, Any]:
        """The arguments of `create_client`."""
        settings = config(
            connect_timeout=min(CONNECT_SECONDS, self.timeout),
            read_timeout=min(READ_SECONDS, self.timeout),
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=self.pool_size,
            parameter_validation=False,  # what is sent is the driver's own, and checking it takes a tenth of a request
        )
        return {"region_name": self.region, "endpoint_url": self.endpoint, "config": settings}


class Port(ABC):
    """A way to DynamoDB."""

    suspends: bool

    def __init__(self, where: str) -> None:
        self.where = where
        self.stats = Stats()
        self.clock = ServerClock()

    @abstractmethod
    async def _send(self, operation: str, request: Answer, deadline: Deadline) -> Answer:
        """Send a request once; raises the client's errors, and `TimeoutError` when the deadline has passed."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait."""

    @abstractmethod
    async def gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """The results of several pieces of work, done at the same time where that can be."""

    @abstractmethod
    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""

    async def read(self, what: str, operation: str, request: Answer, deadline: Deadline) -> Answer:
        """The answer to a request that changes nothing."""
        return await self._call(what, operation, request, deadline, writes=False)

    async def write(self, what: str, operation: str, request: Answer, deadline: Deadline) -> Answer:
        """The answer to a request that may be sent twice without harm.

        Raises `ConditionFailedError` if its condition does not hold, maybe because an earlier attempt of it came
        through. A lost answer is an error with `written="unknown"`.
        """
        return await self._call(what, operation, request, deadline, writes=True)

    async def _call(self, what: str, operation: str, request: Answer, deadline: Deadline, *, writes: bool) -> Answer:
        unknown, last = False, None
        for attempt in range(1, ATTEMPTS + 1):
            if deadline.remaining() <= 0:
                raise self._late(what, deadline, unknown=unknown) from last
            sent = monotonic_micros()
            try:
                answer = await self._send(operation, request, deadline)
                self._note_date(answer, sent)
                return answer
            except TimeoutError as error:
                unknown = unknown or writes
                late = self._late(what, deadline, unknown=unknown)
                self._count_trouble(what, error, late, lost=writes)
                raise late from error
            except StorageError as error:  # of ours, before anything was sent
                error.written = "unknown" if unknown else "no"
                raise
            except FAILURES as error:
                failure = translate(error, what, self.where, "unknown" if writes else "no")
                self._count_trouble(what, error, failure, lost=failure.written != "no")
                unknown = unknown or failure.written != "no"
                if unknown:
                    failure.written = "unknown"
                if not failure.retryable or attempt == ATTEMPTS:
                    raise failure from error
                last = error
            self.stats.count("retries")
            logger.info("%s on %s is tried again after: %s", what, self.where, reason_of(last))
            if attempt > 1 or isinstance(last, ClientError):  # the first lost connection was mostly idle for too long
                await self.pause(back_off(attempt, deadline))
        raise AssertionError("the last attempt returns or raises")

    def _count_trouble(self, what: str, error: Exception, failure: StorageError, *, lost: bool) -> None:
        """Count a write whose answer was lost, and a connection that is rebuilt by the next request."""
        if lost:
            self.stats.unknown(failure)
            logger.info("%s on %s had no answer: %s", what, self.where, reason_of(error))
        if isinstance(error, (TimeoutError, HTTPClientError)):
            self.stats.count("reconnects")
            logger.info("A connection to %s broke, and the next request makes another.", self.where)

    def _note_date(self, answer: Answer, sent: int) -> None:
        """Learn the server's clock from the date of its answer."""
        headers: dict[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        date = _micros_of(headers.get("date", ""))
        if date is not None:
            self.clock.saw(date, sent, monotonic_micros())

    def _late(self, what: str, deadline: Deadline, *, unknown: bool) -> StorageError:
        text = f"{what} on {self.where} did not end within {deadline.timeout:g} s."
        return DeadlineError(text, written="unknown" if unknown else "no", retryable=not unknown)

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections without closing them."""


@lru_cache(maxsize=4)
def _micros_of(date: str) -> int | None:
    """A date of HTTP in microseconds UTC; None if it is none."""
    try:
        return int(parsedate_to_datetime(date).timestamp()) * SECOND
    except ValueError:
        return None


class ThreadPort(Port):
    """A client of botocore's, which threads share.

    The deadline is looked at between attempts; one attempt takes no longer than its own timeouts.
    """

    suspends = False

    def __init__(self, target: Target, client: Any = None) -> None:
        super().__init__(target.where)
        self._target = target
        self._client = client
        self._ours = client is None
        self._closed = False
        # botocore makes as many connections as there are threads, and only keeps no more than it is told.
        self._most: int = target.pool_size if client is None else client.meta.config.max_pool_connections
        self._forget()
        if client is not None:
            _check_answers(client)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._free = threading.Semaphore(self._most)

    def _connected(self) -> Any:
        with self._lock:
            if self._closed:
                raise ClosedError("This storage was closed.")
            if self._client is None:
                self._client = _new_client(cast(Any, botocore.session).get_session(), self._target, Config)
                _check_answers(self._client)
            return self._client

    async def _send(self, operation: str, request: Answer, deadline: Deadline) -> Answer:
        if not self._free.acquire(timeout=deadline.remaining()):
            raise StorageUnavailableError(
                f"All connections to {self.where} were in use for {deadline.timeout:g} s.",
                hint="Try again, or make the storage with a larger pool_size.",
            )
        try:
            return getattr(self._connected(), operation)(**request)
        finally:
            self._free.release()

    async def pause(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (it blocks, as the port says)

    async def gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        return await stepped_together(work, self._most)

    async def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None and self._ours:
            client.close()

    def after_fork(self) -> None:
        self._forget()
        if self._ours:
            self._client = None


class TaskPort(Port):
    """A client of aiobotocore's, which the tasks of one event loop share."""

    suspends = True

    def __init__(self, target: Target, client: Any = None) -> None:
        super().__init__(target.where)
        self._target = target
        self._client = client
        self._closed = False
        self._connecting = asyncio.Lock()
        self._opened = AsyncExitStack()
        self._loop = OneLoop(target.where)
        if client is not None:
            _check_answers(client)

    async def _connected(self) -> Any:
        if self._client is None:
            async with self._connecting:
                if self._client is None and not self._closed:
                    client = await self._opened.enter_async_context(self._new_client())
                    _check_answers(client)
                    self._client = client
        if self._closed:
            raise ClosedError("This storage was closed.")
        return self._client

    def _new_client(self) -> Any:
        try:
            from aiobotocore import config, session  # pyright: ignore[reportMissingTypeStubs]
        except ImportError as error:
            raise missing_dependency("aiobotocore", "dynamodb", "The asynchronous face of DynamoDbStorage") from error
        return _new_client(cast(Any, session).get_session(), self._target, config.AioConfig)

    async def _send(self, operation: str, request: Answer, deadline: Deadline) -> Answer:
        self._loop.check()
        async with asyncio.timeout(deadline.remaining()):
            return await getattr(await self._connected(), operation)(**request)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        return await asyncio.gather(*(each() for each in work))

    async def close(self) -> None:
        self._closed = True
        self._client = None
        await self._opened.aclose()

    def after_fork(self) -> None:
        """Nothing: the child has event loops of its own, and each of them a port of its own."""


def _new_client(session: Any, target: Target, config: type[Any]) -> Any:
    """A client of a session that was made for it alone, so that threads and event loops share none."""
    session.register_component("data_loader", _loader())
    return session.create_client("dynamodb", **target.options(config))


@cache
def _loader() -> Any:
    """What reads the descriptions of AWS's services, once for all clients: that is most of the time that one takes."""
    return cast(Any, botocore.session).get_session().get_component("data_loader")


def _check_answers(client: Any) -> None:
    """Let a client refuse answers that are not whole (aiohttp, below aiobotocore, does so by itself), or no JSON."""
    events = client.meta.events
    if not is_asynchronous(client):
        events.register("before-parse.dynamodb", check_whole, unique_id="sessile-check-whole")
    events.register("before-parse.dynamodb", check_json, unique_id="sessile-check-json")


def is_client(value: Any) -> bool:
    """Whether a value is a client for DynamoDB, of boto3's or aiobotocore's."""
    return isinstance(value, BaseClient) and cast(Any, value).meta.service_model.service_name == "dynamodb"


def is_asynchronous(client: Any) -> bool:
    """Whether the methods of a client are to be awaited."""
    return any(base.__module__.startswith("aiobotocore") for base in type(client).__mro__)


def is_endpoint(value: str) -> bool:
    """Whether a value is a URL that botocore takes for an endpoint; another one it would refuse at first use."""
    try:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or "@" in parts.netloc or parts.port == 0:
            return False
    except (ValueError, TypeError, AttributeError):
        return False
    known = cast(Any, botocore.utils)
    return bool(known.is_valid_endpoint_url(value) or known.is_valid_ipv6_endpoint_url(value))
