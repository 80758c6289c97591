"""Which commits a checkpoint has within it, and which are merged into objects of their own.

The merged objects of a session are the leaves of a tree that grows at its right edge: when there are many nodes of a
level, the oldest become one node of the next. A checkpoint has that edge, so it stays small however long the log is,
and any run is found in a few requests.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...storage.driver import CommitRow
from . import layout
from .layout import Checkpoint, Node

MOST_ROWS, LEAST_ROWS = 40, 16
"""How many commits a checkpoint has at most, and how many of them stay in it when others are merged."""

MOST_TEXT, LEAST_TEXT = 256 * 1024, 128 * 1024
"""The same for the characters of all commits together. The newest commit always stays."""

MERGED_ROWS, MERGED_TEXT = 64, 1024 * 1024
"""How many commits one merged object has at most, and how many characters, unless one commit alone has more."""

FAN, MOST_NODES = 64, 80
"""How many nodes become one, and of how many a checkpoint has so many of one level."""


def compact(checkpoint: Checkpoint) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """The checkpoint with old commits merged if it has many, and the objects to write before it."""
    rows = checkpoint.rows
    if len(rows) <= MOST_ROWS and _text(rows) <= MOST_TEXT:
        return checkpoint, []
    where = layout.folder(checkpoint.head.session_id, checkpoint.head.incarnation)
    kept = _kept(rows)
    levels = [list(level) for level in checkpoint.nodes] or [[]]
    objects: list[tuple[str, bytes]] = []
    for part in _parts(rows[: len(rows) - kept]):
        runs = [row.run for row in part if row.run > 0]
        node = Node(part[0].seq, part[-1].seq, min(runs, default=0), max(runs, default=0))
        levels[0].append(node)
        objects.append((layout.merged_name(where, 0, node), layout.encode_rows(part)))
    for level, nodes in enumerate(levels):  # which grows on the way
        while len(nodes) > MOST_NODES:
            inner, nodes[:FAN] = nodes[:FAN], []
            if level + 1 == len(levels):
                levels.append([])
            levels[level + 1].append(_over(inner))
            objects.append((layout.merged_name(where, level + 1, _over(inner)), layout.encode_nodes(inner)))
    return checkpoint._replace(rows=rows[len(rows) - kept :], nodes=levels), objects


def _over(nodes: Sequence[Node]) -> Node:
    lows = [node.low for node in nodes if node.low > 0]
    return Node(nodes[0].first, nodes[-1].last, min(lows, default=0), max(node.high for node in nodes))


def _kept(rows: Sequence[CommitRow]) -> int:
    """How many of the newest commits stay."""
    count, text = 1, len(rows[-1].body)
    while count < min(LEAST_ROWS, len(rows)) and text + len(rows[-count - 1].body) <= LEAST_TEXT:
        text += len(rows[-count - 1].body)
        count += 1
    return count


def _parts(rows: Sequence[CommitRow]) -> list[list[CommitRow]]:
    """Commits in parts of the size of a merged object."""
    parts: list[list[CommitRow]] = []
    for row in rows:
        if not parts or len(parts[-1]) == MERGED_ROWS or _text(parts[-1]) + len(row.body) > MERGED_TEXT:
            parts.append([])
        parts[-1].append(row)
    return parts


def _text(rows: Sequence[CommitRow]) -> int:
    return sum(len(row.body) for row in rows)
