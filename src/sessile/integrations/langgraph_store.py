"""LangGraph's long-term store in any storage of Sessile's: each item is a small session of its own.

What a batch reads is looked up and handed to LangGraph's own store in memory, which answers: so filters, namespaces and
similarity mean what they mean there.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others. Its own tests are run on it.)

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from ..errors import SessionNotFoundError, missing_dependency
from ..storage.extending import (
    Core,
    Draft,
    Entry,
    Session,
    Snapshot,
    Storage,
    commit,
    look,
    operate,
    read_record,
    started_session,
    state_changed,
    ttl_changed,
    write_record,
)
from .ids import short, stored_id
from .stored import passing_over, reading, reads_stored

try:
    from langgraph.store.base import BaseStore, GetOp, Item, ListNamespacesOp, PutOp, SearchOp
    from langgraph.store.memory import InMemoryStore
except ImportError as error:
    raise missing_dependency("langgraph-checkpoint", "langgraph", "A store of LangGraph's", error) from error

KIND = "langgraph-store"
VECTORS = "langgraph/vectors"
Place = tuple[tuple[str, ...], str]
"""Namespace and key."""

MINUTE = 60


class SessileStore(BaseStore):
    """Items by namespace and key: `builder.compile(store=SessileStore(storage))`, synchronous and asynchronous.

    An item is the session `langgraph-store:NAMESPACE:…:KEY`; a put is one commit. A search reads all items whose
    namespace begins with the same label. A batch is not one transaction. Expired items are absent at once.

    Args:
        storage: where items are kept. The caller closes it.
        ttl: LangGraph's `TTLConfig`: `default_ttl` in minutes, `refresh_on_read` (no, if it is not said).
        index: LangGraph's `IndexConfig`, for search by meaning: `embed`, `dims`, `fields`. The vectors are kept with
            the items, and compared here.
    """

    supports_ttl = True

    def __init__(self, storage: Storage, *, ttl: Any = None, index: Any = None) -> None:
        self.storage = storage
        self.ttl_config = ttl
        self._index = index
        self.index_config = InMemoryStore(index=index).index_config if index else None

    def batch(self, ops: Iterable[Any]) -> list[Any]:
        """Do several operations: reads see what was there before; of several puts of one item the last one counts."""
        wanted = list(ops)
        reads = InMemoryStore(index=self._index) if self._index else InMemoryStore()
        for prefix in _prefixes(wanted):
            for session in self._sessions(prefix):
                with passing_over(session.session_id):
                    self._take(reads, session)
        for op in wanted:
            if isinstance(op, GetOp):
                found = operate(self.storage, look, _id(op.namespace, op.key)).head
                if found is not None:
                    self._take(reads, found, (op.namespace, op.key))
        results: list[Any] = [None] * len(wanted)
        for place, op in enumerate(wanted):
            if isinstance(op, SearchOp) and op.limit + op.offset <= 0:
                results[place] = []
            elif isinstance(op, GetOp | SearchOp | ListNamespacesOp):
                with reading():  # a filter compares what is stored
                    (results[place],) = reads.batch([op])
        self._refresh(wanted, results)
        self._put({(op.namespace, op.key): op for op in wanted if isinstance(op, PutOp)})
        return results

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        """As `batch`, in a thread."""
        return await asyncio.to_thread(self.batch, list(ops))

    def sweep_ttl(self) -> int:
        """Remove expired items from the database, with all else of the storage that has expired; how many."""
        return self.storage.sweep()

    # ------------------------------------------------------------ helpers

    def _sessions(self, prefix: tuple[str, ...]) -> list[Session]:
        found: list[Session] = []
        cursor: str | None = None
        agent: dict[str, Any] = {"agent": short(prefix[0])} if prefix else {}
        while True:
            page = self.storage.sessions(kind=KIND, cursor=cursor, limit=100, with_state=True, **agent)
            for one in page:
                with passing_over(one.session_id):
                    namespace, key = _place_of(one)
                    if _id(namespace, key) != one.session_id:
                        raise ValueError("it is another item's")
                    found += [one] if namespace[: len(prefix)] == prefix else []
            cursor = page.next_cursor
            if cursor is None:
                return found[::-1]

    @reads_stored
    def _take(self, reads: InMemoryStore, session: Session, place: Place | None = None) -> None:
        """Put an item into a store in memory, at the place that was asked for, or that it names."""
        state = session.state
        namespace, key = place or _place_of(session)
        moments = {name: datetime.fromisoformat(state[name]) for name in ("created_at", "updated_at")}
        item = Item(namespace=namespace, key=key, value=dict(state["value"]), **moments)
        if self._index and state.get("vectors"):
            kept = operate(self.storage, read_record, session, VECTORS)
            vectors = {name: [float(one) for one in vector] for name, vector in json.loads(kept or b"{}").items()}
            if any(len(vector) != self._index["dims"] for vector in vectors.values()):
                raise ValueError("these vectors are others'")
            reads._vectors[namespace][key] = vectors
        reads._data[namespace][key] = item

    def _refresh(self, ops: list[Any], results: list[Any]) -> None:
        """Let what was read live longer, where that is wanted."""
        default = bool((self.ttl_config or {}).get("refresh_on_read"))
        for op, result in zip(ops, results, strict=True):
            if isinstance(op, GetOp | SearchOp) and default and op.refresh_ttl:
                for item in result if isinstance(result, list) else filter(None, [result]):
                    with suppress(SessionNotFoundError):
                        operate(self.storage, _touch, _id(item.namespace, item.key))

    def _put(self, puts: dict[tuple[tuple[str, ...], str], PutOp]) -> None:
        made = InMemoryStore(index=self._index) if self._index else InMemoryStore()
        made.batch([op for op in puts.values() if op.value is not None])
        for (namespace, key), op in puts.items():
            if op.value is None:
                self.storage.delete(_id(namespace, key))
                continue
            vectors = dict(made._vectors[namespace][key]) if self._index else {}
            operate(self.storage, _write, namespace, key, dict(op.value), op.ttl, vectors)


async def _write(
    core: Core, namespace: tuple[str, ...], key: str, value: Any, ttl: float | None, vectors: dict[str, Any]
) -> None:
    stored = _id(namespace, key)
    now = datetime.now(UTC).isoformat()
    lives = None if ttl is None else ttl * MINUTE

    async def change(snapshot: Snapshot) -> Draft:
        told = {"namespace": list(namespace), "key": key}
        given = {"kind": KIND, "agent": short(namespace[0]), "metadata": told, "ttl": lives}
        head, first = started_session(core, snapshot, stored, **given)
        made = head.state.get("created_at", now)
        state = {"value": value, "created_at": made, "updated_at": now, "vectors": bool(vectors)}
        changed = [*state_changed(head, state), *(ttl_changed(head, lives) if not first else [])]
        return Draft([*first, *changed] or [Entry("langgraph.read")])

    head = (await commit(core, stored, change)).head
    if vectors:
        plain = {name: [float(one) for one in vector] for name, vector in vectors.items()}
        await write_record(core, head, VECTORS, json.dumps(plain).encode())


async def _touch(core: Core, stored: str) -> None:
    """Let an item live for its time from now on."""

    async def change(snapshot: Snapshot) -> Draft:
        if snapshot.head is None or snapshot.head.ttl_us is None:
            raise SessionNotFoundError(f"There is no item {stored!r} that expires.")
        return Draft([Entry("langgraph.read")])

    await commit(core, stored, change)


@reads_stored
def _place_of(session: Session) -> Place:
    """Namespace and key, as the metadata of a session says."""
    namespace, key = tuple(session.metadata["namespace"]), session.metadata["key"]
    if not all(isinstance(one, str) for one in (*namespace, key)):
        raise TypeError("names are texts")
    return namespace, key


def _prefixes(ops: list[Any]) -> list[tuple[str, ...]]:
    """The namespaces of which all items are needed, none inside another."""
    found: set[tuple[str, ...]] = set()
    for op in ops:
        if isinstance(op, SearchOp):
            found.add(op.namespace_prefix)
        elif isinstance(op, ListNamespacesOp):
            found.add(())
    return [one for one in found if not any(one[: len(other)] == other and one != other for other in found)]


def _id(namespace: tuple[str, ...], key: str) -> str:
    return stored_id(KIND, *namespace, key)
