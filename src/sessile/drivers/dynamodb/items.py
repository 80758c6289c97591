"""How a session lies in the table: its keys, and rows as items.

All items of a session have the partition key `session_id`. Their sort keys `sk`, numbers with leading zeros:

* `chunk#{incarnation}#{attempt}#{seq}#{number}`: a piece of a commit that is too large for one item;
* `claim#{incarnation}#{attempt}`: says that chunks are being written which no commit refers to yet;
* `data#{incarnation}#{key}`: a record;
* `index#{incarnation}#{run}#{seq}`: says that the run has this commit;
* `log#{incarnation}#{seq}`: a commit;
* `~head`: the head.

The head comes last and the log before it, so that one query backwards from the end brings the head and its newest
commits, and no item of another kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

from ...errors import NewerVersionError, StorageError
from ...storage.driver import Append, CommitRow, HeadRow

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's interface has it: attributes by name, each with its type."""

HEAD = "~head"
CHUNKS, CLAIMS, DATA, INDEX, LOG = AREAS = ("chunk", "claim", "data", "index", "log")
"""What a session has beside its head, in the order of its sort keys."""

LAYOUT = 1
"""The version of all this, which each head has; raised when a program that knows an earlier one would misread it."""

UNCLAIMED = "unclaimed"
"""The partition, of the index of all sessions by last change, that has the items of `CLAIMS`."""

SHARDS = 4
"""How many partitions an index over the sessions of many users has.

A partition takes 1,000 small writes a second, and a commit is two of them in each index by last change; a list reads
all partitions (source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html).
"""

ITEM_BYTES = 400 * 1024
"""The largest item, names of attributes included."""

BODY_BYTES = 390_000
"""The largest body, or piece of one, that is put into one item."""

TRANSACTION_BYTES = 3_500_000
"""What commits may add to a transaction, whose items may have 4 MB together, the head among them."""

TRANSACTION_ITEMS = 100
"""The most items of a transaction."""

_DIGITS = 20


def moment_key(moment: int) -> str:
    """A number as text that sorts like it; below 0 like 0."""
    return f"{max(moment, 0):0{_DIGITS}d}"


def text(value: str) -> dict[str, Any]:
    """A string as an attribute."""
    return {"S": value}


def number(value: int) -> dict[str, Any]:
    """A whole number as an attribute."""
    return {"N": str(value)}


def plain(attribute: dict[str, Any] | None) -> Any:
    """An attribute as a Python value; None if there is none."""
    if attribute is None:
        return None
    [(kind, value)] = attribute.items()
    return int(value) if kind == "N" else value


def key(session_id: str, sort_key: str) -> Item:
    """The key of an item."""
    return {"session_id": text(session_id), "sk": text(sort_key)}


def prefix(area: str, incarnation: str, *parts: str) -> str:
    """What the sort keys of an area begin with; `parts` narrow it."""
    return "#".join((area, incarnation, *parts, ""))


def within(start: str) -> tuple[str, str]:
    """The first and the last sort key that can begin with a prefix (`$` is the character after `#`)."""
    return start, f"{start[:-1]}$"


def log_key(incarnation: str, seq: int) -> str:
    """The sort key of a commit."""
    return f"{prefix(LOG, incarnation)}{seq:0{_DIGITS}d}"


def index_key(incarnation: str, run: int, seq: int) -> str:
    """The sort key of the item that says that a run has a commit."""
    return f"{prefix(INDEX, incarnation)}{run:0{_DIGITS}d}#{seq:0{_DIGITS}d}"


def seq_of(item: Item) -> int:
    """The commit that an item of the log or of the index is about."""
    return int(item["sk"]["S"].rpartition("#")[2])


# ---------------------------------------------------------------- heads


def head_item(head: HeadRow) -> Item:
    """A head as an item, with the attributes that put it into the indexes for lists.

    Raises `StorageError` if it is too large for one.
    """
    item = key(head.session_id, HEAD)
    for name, value in head._asdict().items():
        if isinstance(value, bool):
            item[name] = {"BOOL": value}
        elif value is not None:
            item[name] = number(value) if isinstance(value, int) else text(value)
    item["layout"] = number(LAYOUT)
    shard = str(crc32(head.session_id.encode()) % SHARDS)
    item["all_key"] = text(shard)
    item["updated_key"] = text(f"{moment_key(head.updated_at)}#{head.session_id}")
    item["created_key"] = text(f"{moment_key(head.created_at)}#{head.session_id}")
    if head.owner is not None:
        item["owner_key"] = text(f"{shard}#{head.owner}")
    if head.user_id is not None:
        item["user_key"] = text(head.user_id)
    if size_of(item) > ITEM_BYTES:
        raise StorageError(
            f"The head of session {head.session_id!r} has {size_of(item):,} bytes; an item of DynamoDB's has at most "
            f"{ITEM_BYTES:,}.",
            hint="Keep less in the session's state and metadata.",
        )
    return item


def head_row(item: Item) -> HeadRow:
    """The head that an item holds."""
    return HeadRow._make(plain(item.get(name)) for name in HeadRow._fields)


def check_layout(head: Item) -> None:
    """Raise `NewerVersionError` if this program would misread the session of a head."""
    if (layout := plain(head["layout"])) > LAYOUT:
        raise NewerVersionError(
            f"Session {plain(head['session_id'])!r} is stored in layout {layout}; this Sessile knows {LAYOUT}."
        )


def size_of(item: Item) -> int:
    """The size of an item of texts, numbers and booleans, rounded up."""
    return sum(len(name) + (len(value["S"].encode()) if "S" in value else 22) for name, value in item.items())


# ---------------------------------------------------------------- commits


class Written(NamedTuple):
    """What an append writes: `before` on its own, then `together` in one transaction, which is the claim."""

    before: list[Item]
    together: list[Item]


def append_items(write: Append, attempt: str) -> Written:
    """The items of the commits of an append, the head aside.

    A body too large for one item is cut into chunks; they go into the transaction, or before it if that would be too
    large. The keys of chunks hold `attempt`, so that what another attempt left is never taken for a part of this one.
    """
    before: list[Item] = []
    together: list[Item] = []
    room = TRANSACTION_BYTES
    left = TRANSACTION_ITEMS - 2 - 2 * len(write.commits)  # without the head, and the claim
    for row in write.commits:
        body = row.body.encode()
        item = _commit_item(write, row)
        small = len(body) <= BODY_BYTES
        fits = len(body) <= room and (small or len(body) // BODY_BYTES < left)
        if fits:
            room -= len(body)
        if small and fits:
            item["body"] = text(row.body)
        else:
            chunks = list(_chunk_items(write, f"{attempt}#{row.seq}", row.body))
            item["chunks"], item["pieces"] = text(f"{attempt}#{row.seq}"), number(len(chunks))
            (together if fits else before).extend(chunks)
            left -= len(chunks) if fits else 0
        together.append(item)
        if row.run > 0:
            together.append(key(write.session_id, index_key(write.incarnation, row.run, row.seq)))
    return Written(before, together)


def claim_item(session_id: str, incarnation: str, attempt: str, moment: int) -> Item:
    """Says that an attempt writes chunks; the transaction that makes them a part of the log removes it."""
    return {
        **key(session_id, f"{prefix(CLAIMS, incarnation)}{attempt}"),
        "all_key": text(UNCLAIMED),
        "updated_key": text(f"{moment_key(moment)}#{session_id}"),
    }


def chunks_of(claim: str) -> str:
    """What the sort keys of the chunks of a claim begin with."""
    return f"{CHUNKS}{claim.removeprefix(CLAIMS)}#"


def commit_of(chunk: Item) -> tuple[Item, str]:
    """The key of the commit that a chunk was written for, and what that commit calls its chunks."""
    start, attempt, seq, _ = plain(chunk["sk"]).rsplit("#", 3)
    incarnation = start.removeprefix(f"{CHUNKS}#")
    return key(plain(chunk["session_id"]), log_key(incarnation, int(seq))), f"{attempt}#{seq}"


def is_below(item: Item, incarnation: str) -> bool:
    """Whether an item belongs to an incarnation, its head aside."""
    return plain(item["sk"]).startswith(tuple(prefix(area, incarnation) for area in AREAS))


def _commit_item(write: Append, row: CommitRow) -> Item:
    return {
        **key(write.session_id, log_key(write.incarnation, row.seq)),
        "commit_id": text(row.commit_id),
        "run": number(row.run),
        "time": number(row.time),
    }


def _chunk_items(write: Append, name: str, body: str) -> Iterator[Item]:
    for index, piece in enumerate(_pieces(body)):
        sort_key = f"{prefix(CHUNKS, write.incarnation, name)}{index:06d}"
        yield {**key(write.session_id, sort_key), "body": text(piece)}


def _pieces(body: str) -> Iterator[str]:
    """A text in pieces of at most `BODY_BYTES` of UTF-8, cut between characters."""
    data = body.encode()
    start = 0
    while start < len(data):
        end = min(start + BODY_BYTES, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        yield data[start:end].decode()
        start = end


def commit_row(item: Item, body: str) -> CommitRow:
    """The commit of an item of the log; `body` comes from the item, or from its chunks."""
    return CommitRow(seq_of(item), plain(item["commit_id"]), plain(item["run"]), plain(item["time"]), body)
