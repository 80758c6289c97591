"""Object stores: how many requests a turn takes, and how long, next to the same requests by hand through obstore.

An emulator on this machine answers in a fraction of a millisecond, a service in some tens: what counts there is the
number of requests, and how many of them follow each other. Turns are measured as if they were a second apart, so that
each writes its checkpoint.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.store import GCSStore, S3Store
from tests.servers import FakeGcs, GoFakeS3, ServerFailedError, ServerMissingError
from tests.servers.counting import CountingProxy
from tests.servers.objects import ObjectServer

import sessile
from sessile.drivers.objects import log

from .measure import Stats, interleave, ms, timed
from .payload import Exchange, exchange, messages
from .servers import agent_sync, fill
from .tables import Table

SERVERS: dict[str, type[ObjectServer]] = {"s3": GoFakeS3, "gcs": FakeGcs}
COUNTED = 96
"""Over how many turns requests are counted: several times that commits are merged."""

KINDS = ("GET", "PUT", "LIST", "DELETE")


class Floor:
    """The requests of a turn by hand, with contents of its size: a head with the last three runs within it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        settings: dict[str, Any] = dict(parse_qsl(parts.query))
        options: dict[str, Any] = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
        if parts.scheme == "s3":
            self.store: Any = S3Store(parts.netloc, prefix="floor", config=settings, **options)
        else:
            settings["base_url"] = settings.pop("endpoint")
            self.store = GCSStore(parts.netloc, prefix="floor", config=settings, **options)
        self.number = 1
        self._put(f"list/{10**19 - self.number}", b"", "overwrite")
        obstore.put(self.store, "head", json.dumps({"number": 1, "runs": []}).encode(), use_multipart=False)

    def turn(self, turn: Exchange) -> None:
        """Load the head and look whether there is more; claim, confirm, replace the head, and move in a list."""
        head, _ = self._get("head")
        self._get(f"commits/{self.number + 1:019}")
        self.number += 1
        run = {"input": turn.user, "output": turn.answer, "messages": messages(turn)}
        self._put(f"commits/{self.number:019}", json.dumps(run).encode(), "create")
        head, version = self._get("head")
        content = json.loads(head)
        after = {"number": self.number, "runs": [*content["runs"], run][-3:]}
        self._put(f"list/{10**19 - self.number}", b"", "overwrite")
        self._put("head", json.dumps(after).encode(), version)
        obstore.delete(self.store, f"list/{10**19 - self.number + 1}")

    def _get(self, name: str) -> tuple[bytes, Any]:
        try:
            found = obstore.get(self.store, name)
        except FileNotFoundError:
            return b"", None
        version = {key: found.meta[key] for key in ("e_tag", "version") if found.meta[key] is not None}
        return bytes(found.bytes()), version

    def _put(self, name: str, data: bytes, mode: Any) -> None:
        obstore.put(self.store, name, data, mode=mode, use_multipart=False)


def counted(url: str, endpoint: str, sizes: dict[str, int]) -> dict[str, Counter[str]]:
    """How many requests turns of sessions take, of each kind."""
    found: dict[str, Counter[str]] = {}
    with CountingProxy(endpoint) as proxy, sessile.open(url, endpoint=proxy.url) as storage:
        for session_id in sizes:
            agent_sync(storage, session_id, exchange(0))  # which may write a checkpoint that was not due
            proxy.forget()
            for number in range(COUNTED):
                agent_sync(storage, session_id, exchange(number))
            kinds = {"POST": "DELETE"}  # S3 deletes several objects by one POST
            found[session_id] = Counter(
                "LIST" if "list-type" in path else kinds.get(method, method) for method, path in proxy.seen
            )
    return found


def run(name: str, sizes: Sequence[int], rounds: int) -> list[Table]:
    """Both tables for one kind of store."""
    try:
        server = SERVERS[name]()
    except (ServerMissingError, ServerFailedError) as error:
        print(f"{name} is left out. {error}\n", file=sys.stderr)
        return []
    before, log.INTERVAL = log.INTERVAL, 0
    try:
        with server, sessile.open(server.url) as storage:
            sessions = {f"session-{size}": size for size in sizes}
            fill(storage, sessions)
            return [_requests(server, sessions), _times(server, storage, sessions, rounds)]
    finally:
        log.INTERVAL = before


def _requests(server: ObjectServer, sessions: dict[str, int]) -> Table:
    table = Table(f"Requests of a turn, {server.name}", ["runs in the session", "all", *KINDS])
    for session_id, found in counted(server.url, server.endpoint, sessions).items():
        row = [f"{sessions[session_id]:,}", f"{found.total() / COUNTED:.2f}"]
        table.rows.append([*row, *(f"{found[kind] / COUNTED:.2f}" for kind in KINDS)])
    table.notes.append(f"A turn loads the last 3 runs and appends one. Means of {COUNTED} turns, merging included.")
    return table


def _times(server: ObjectServer, storage: sessile.Storage, sessions: dict[str, int], rounds: int) -> Table:
    floor = Floor(server.url)
    numbers = iter(range(10**9))
    contenders: dict[str, Callable[[], float]] = {
        "floor": lambda: timed(lambda: floor.turn(exchange(next(numbers)))),
        **{
            each: lambda each=each: timed(lambda: agent_sync(storage, each, exchange(next(numbers))))
            for each in sessions
        },
    }
    interleave(contenders, 3)
    stats = {each: Stats.of(seconds) for each, seconds in interleave(contenders, rounds).items()}
    table = Table(f"A turn's time, {server.name} (ms)", ["", "median", "p95", "times the floor"])
    labels = {"floor": "the same requests by hand", **{each: f"{size:,} runs" for each, size in sessions.items()}}
    for each, label in labels.items():
        ratio = stats[each].median / stats["floor"].median
        table.rows.append([label, ms(stats[each].median), ms(stats[each].p95), f"{ratio:.2f}"])
    table.notes.append("The emulator is on this machine; each request of a service takes tens of milliseconds more.")
    return table
