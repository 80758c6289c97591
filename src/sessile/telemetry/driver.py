"""Spans and metrics of a storage's operations, and its feedback as events: a wrapper around the driver."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import ref

from opentelemetry import _logs, metrics, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from .._version import __version__
from ..errors import SessileError
from ..records import Rating
from ..storage.driver import Append, CommitRow, Deadline, Driver, Loaded, Span
from ..storage.encoding import decode_commit
from ..storage.extending import Storage, wrap
from ..storage.vocabulary import RunNoted
from ..storage.wrapping import WrappedDriver
from .spans import CONVERSATION, RUN, SESSION, ids_here

T = TypeVar("T")

SCOPE = "sessile"
EVENT = "gen_ai.evaluation.result"

QUIET = frozenset({"pause", "wait", "settings_warnings"})
"""What is no work: waiting for others."""

_session: ContextVar[str | None] = ContextVar("_session", default=None)


def instrument(
    storage: Storage,
    *,
    tracer_provider: Any = None,
    meter_provider: Any = None,
    logger_provider: Any = None,
) -> Storage:
    """Let a storage tell OpenTelemetry what it does. Call it once, before the storage is used.

    * A span for each operation of the database, `load sessile`, `append sessile`, …, with `db.system.name`,
      `db.operation.name`, the session, and inside a run the run and the user; errors by their type, without their text.
    * Metrics: the histogram `db.client.operation.duration` (seconds), and the counter `sessile.storage.events`, what
      `storage.stats()` counts: lost races, retries, reconnects and others.
    * An event `gen_ai.evaluation.result` for each rating that is stored: name, score, label, and the comment as the
      explanation.

    Args:
        storage: which one.
        tracer_provider, meter_provider, logger_provider: where to; default: the program's own.

    Returns:
        The same storage.
    """
    tracer = trace.get_tracer(SCOPE, __version__, tracer_provider)
    meter = metrics.get_meter(SCOPE, __version__, meter_provider)
    logger = _logs.get_logger(SCOPE, __version__, logger_provider)
    duration = meter.create_histogram(
        "db.client.operation.duration", unit="s", description="How long operations of the database took."
    )
    wrap(storage, lambda driver: TracedDriver(driver, tracer, duration, logger))
    told = ref(storage)

    def counts(options: Any) -> Iterator[Any]:
        one = told()
        for what, count in sorted(one.stats().items()) if one is not None else ():
            yield metrics.Observation(count, {"sessile.event": what})

    meter.create_observable_counter(
        "sessile.storage.events", callbacks=[counts], description="Lost races, retries, reconnects and others."
    )
    return storage


class TracedDriver(WrappedDriver):
    """Tells OpenTelemetry about each operation."""

    def __init__(self, inner: Driver, tracer: Any, duration: Any, logger: Any) -> None:
        super().__init__(inner)
        self._tracer, self._duration, self._logger = tracer, duration, logger

    async def around(self, operation: str, deadline: Deadline, call: Callable[[], Awaitable[T]]) -> T:
        """See `WrappedDriver.around`."""
        if operation in QUIET:
            return await call()
        said = {"db.system.name": self.inner.name, "db.operation.name": operation}
        session_id = _session.get()
        about = {} if session_id is None else {SESSION: session_id, CONVERSATION: session_id}
        begun = time.perf_counter()
        with self._tracer.start_as_current_span(
            f"{operation} {SCOPE}",
            kind=SpanKind.CLIENT,
            attributes={**about, **ids_here(), **said},
            record_exception=False,  # the texts of errors may hold what was stored
            set_status_on_exception=False,
        ) as span:
            try:
                return await call()
            except BaseException as error:
                said["error.type"] = type(error).__name__
                span.set_attribute("error.type", said["error.type"])
                span.set_status(Status(StatusCode.ERROR))
                raise
            finally:
                self._duration.record(time.perf_counter() - begun, said)

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        """As the wrapped driver's, and so are the others: the span names the session."""
        with _about(session_id):
            return await super().load(session_id, newest, deadline)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        """See `load`."""
        with _about(session_id):
            return await super().entries(session_id, incarnation, span, deadline)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """See `load`."""
        with _about(session_id):
            await super().delete(session_id, incarnation, deadline)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        """See `load`; ratings that are stored are told as events."""
        with _about(write.session_id):
            done = await super().append(write, deadline)
        if done:
            self._tell_ratings(write.session_id, write.commits)
        return done

    def _tell_ratings(self, session_id: str, commits: Sequence[CommitRow]) -> None:
        for row in commits:
            if RunNoted.KIND not in row.body:
                continue
            try:
                entries = decode_commit(row)
            except SessileError:  # encrypted: the one who has the key tells
                continue
            for entry in entries:
                if entry.kind == RunNoted.KIND:
                    attributes = _attributes(session_id, entry.run_id, RunNoted.rating(entry))
                    self._logger.emit(_logs.LogRecord(event_name=EVENT, attributes=attributes))


def _attributes(session_id: str, run_id: str | None, rating: Rating) -> dict[str, Any]:
    """A rating in the conventions' words."""
    found = {
        "gen_ai.evaluation.name": rating.source,
        "gen_ai.evaluation.score.value": rating.score,
        "gen_ai.evaluation.score.label": rating.label,
        "gen_ai.evaluation.explanation": rating.comment,
        CONVERSATION: session_id,
        SESSION: session_id,
        RUN: run_id,
    }
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def _about(session_id: str) -> Generator[None]:
    token = _session.set(session_id)
    try:
        yield
    finally:
        _session.reset(token)
