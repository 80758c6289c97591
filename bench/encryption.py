"""What `EncryptedStorage` costs: processor time of a turn and of a read, in memory, so that no disk is in it."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessile import MemoryStorage
from sessile.encryption import EncryptedStorage, new_key
from sessile.storage import Storage

from .tables import Table, verdict

LIMIT = 60.0
"""Microseconds that a turn of 3 KB may cost more."""

ROUNDS, TURNS = 60, 10

MESSAGE: dict[str, Any] = {
    "kind": "response",
    "parts": [{"part_kind": "text", "content": "word " * 550}],
    "timestamp": "2026-01-01T00:00:00Z",
}


def write(storage: Storage) -> None:
    """A turn of 3 KB."""
    output = "word " * 50
    storage.add_run(
        "s1", input="hello " * 20, output=output, messages=[MESSAGE], format="pydantic-ai/2", state={"n": 1}
    )


def read(storage: Storage) -> None:
    """The last three runs, which are looked for in the newest 20 commits."""
    storage.runs("s1", last=3)


def best(storages: dict[str, Storage], work: Callable[[Storage], None]) -> dict[str, float]:
    """Microseconds of each, the best of many rounds one after the other."""
    found = dict.fromkeys(storages, 1e9)
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        for name, storage in storages.items():
            begun = time.perf_counter()
            for _ in range(TURNS):
                work(storage)
            found[name] = min(found[name], (time.perf_counter() - begun) / TURNS * 1e6)
        gc.enable()
    return found


def run(data: Path) -> Table:
    """The table."""
    storages: dict[str, Storage] = {
        "plain": MemoryStorage(),
        "encrypted": EncryptedStorage(MemoryStorage(), keys=new_key()),
    }
    for storage in storages.values():
        for _ in range(2 * ROUNDS):
            write(storage)
    rows: list[list[str]] = []
    for name, work in (("a turn of 3 KB is written", write), ("the last 3 runs are read (20 commits)", read)):
        found = best(storages, work)
        more = found["encrypted"] - found["plain"]
        told = verdict(more, LIMIT) if work is write else ""
        rows.append([name, f"{found['plain']:.0f}", f"{found['encrypted']:.0f}", f"{more:.0f} {told}".strip()])
    return Table("Encryption, microseconds of processor time", ["", "plain", "encrypted", "more"], rows)
