"""What turns on DynamoDB are billed: capacity units, as the emulator counts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tests.servers.dynamodb import Meter, dynamodb_client

from sessile import DynamoDbStorage
from sessile.storage.storage import Storage

from .dynamodb import DynamoDbFloor
from .payload import Exchange, exchange
from .tables import Table, verdict

TURNS = 5
GROWTH_LIMIT = 1.0


def capacity(
    endpoint: str,
    sizes: Sequence[int],
    fill: Callable[[Storage, dict[str, int]], None],
    agents_turn: Callable[[Storage, str, Exchange], None],
) -> Table:
    """What turns on sessions of a user and an agent are billed: capacity units, as the emulator counts them."""
    table = Table(
        "Capacity units of an agent's turn on DynamoDB (read, write; the most of 5)",
        ["runs in session", "floor: read", "write", "Sessile: read", "write", "wanted"],
    )
    floor, client = DynamoDbFloor(endpoint), dynamodb_client(endpoint)
    figures: list[tuple[float, float]] = []
    with Meter(floor.client) as theirs, Meter(client) as ours, DynamoDbStorage(client=client) as sessions:
        for size in sizes:
            name, turn = f"metered-{size}", exchange(size + 1)
            floor.fill(name, size)
            fill(sessions, {name: size})
            bare = _most(theirs, partial(floor.turn, name, turn))
            figures.append(_most(ours, partial(agents_turn, sessions, name, turn)))
            table.rows.append([f"{size:,}", *_cells(bare), *_cells(figures[-1]), ""])
    growth = max(last / first for first, last in zip(figures[0], figures[-1], strict=True))
    wanted = f"<= {GROWTH_LIMIT:g} {verdict(growth, GROWTH_LIMIT)}"
    table.rows.append([f"{sizes[-1]:,} / {sizes[0]:,}", "", "", "", f"{growth:.2f}", wanted])
    floor.close()
    return table


def _most(meter: Meter, turn: Callable[[], object]) -> tuple[float, float]:
    costs: list[tuple[float, float]] = []
    for _ in range(TURNS):
        meter.reset()
        turn()
        costs.append((meter.read, meter.write))
    return max(read for read, _ in costs), max(write for _, write in costs)


def _cells(figures: tuple[float, float]) -> list[str]:
    return [f"{units:g}" for units in figures]
