"""How a session lies in the table: its keys, and rows as items.

All items of a session have the partition key `session_id`. Their sort keys `sk`, numbers with leading zeros:

* `chunk#{incarnation}#{attempt}#{seq}#{number}`: a piece of a commit that is too large for one item;
* `claim#{incarnation}#{attempt}`: says that chunks are being written which no commit refers to yet;
* `data#{incarnation}#{key}`: a record;
* `index#{incarnation}#{run}#{seq}`: says that the run has this commit;
* `keys#{incarnation}#{length}:{key}#{seq}`: says that this commit has the key, which may hold any character;
* `log#{incarnation}#{seq}`: a commit;
* `~head`: the head.

The head comes last and the log before it, so that one query backwards from the end brings the head and its newest
commits, and no item of another kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

from ...errors import CorruptDataError, NewerVersionError, StorageError
from ...records import ANY_USER, UserId
from ...storage.driver import Append, CommitRow, HeadRow
from ...storage.matching import bytes_of
from ...storage.rows import HEAD_TYPES

_HEAD_TYPES = {**HEAD_TYPES, "metadata": (str,), "body": (str,)}

Item = dict[str, dict[str, Any]]
"""An item as DynamoDB's interface has it: attributes by name, each with its type."""

HEAD = "~head"
CHUNKS, CLAIMS, DATA, INDEX, KEYS, LOG = AREAS = ("chunk", "claim", "data", "index", "keys", "log")
"""What a session has beside its head, in the order of its sort keys."""

LAYOUT = 2
"""The version of all this, which each head has; raised when a program that knows an earlier one would misread it.

In version 1 an agent was called owner, and commits had no keys.
"""

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


def after_all(start: str) -> str:
    """A sort key behind all that begin with `start` and have an id, or a part of one, behind that."""
    return start + "\U0010ffff" * 64


def log_key(incarnation: str, seq: int) -> str:
    """The sort key of a commit."""
    return f"{prefix(LOG, incarnation)}{seq:0{_DIGITS}d}"


def index_key(incarnation: str, run: int, seq: int) -> str:
    """The sort key of the item that says that a run has a commit."""
    return f"{prefix(INDEX, incarnation)}{run:0{_DIGITS}d}#{seq:0{_DIGITS}d}"


def commit_key(incarnation: str, name: str, seq: int) -> str:
    """The sort key of the item that says that a commit has a key.

    Its length is in it, so that none of one key lies among those of another.
    """
    return f"{prefix(KEYS, incarnation)}{len(name)}:{name}#{seq:0{_DIGITS}d}"


def seq_of(item: Item) -> int:
    """The commit that an item of the log or of the index is about."""
    return int(item["sk"]["S"].rpartition("#")[2])


# ---------------------------------------------------------------- heads


def head_item(head: HeadRow, agents: str) -> Item:
    """A head as an item, with the attributes that put it into the indexes for lists; `agents` is that for agents.

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
    if head.agent is not None:
        item[agents] = text(f"{shard}#{head.agent}")
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
    """The head that an item holds.

    Raises `NewerVersionError` if this program would misread the session, `CorruptDataError` if the item is damaged.
    """
    session_id, layout = plain(item.get("session_id")), plain(item.get("layout"))
    if isinstance(layout, int) and layout > LAYOUT:
        raise NewerVersionError(f"Session {session_id!r} is stored in layout {layout}; this Sessile knows {LAYOUT}.")
    fields = {name: plain(item.get(name)) for name in HeadRow._fields}
    if fields["agent"] is None:
        fields["agent"] = plain(item.get("owner"))
    for name, kinds in _HEAD_TYPES.items():
        if type(fields[name]) not in kinds:
            found = type(fields[name]).__name__
            raise CorruptDataError(f"The head of session {session_id!r} is damaged: {name!r} is of the type {found}.")
    return HeadRow(**fields)


def may_be_of(item: Item, user_id: UserId) -> bool:
    """Whether a head that cannot be read may be one of those that a list of this user asks for."""
    return user_id is ANY_USER or plain(item.get("user_id")) == user_id


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
    own = sum(2 + (row.key is not None) for row in write.commits)
    left = TRANSACTION_ITEMS - 2 - own  # without the head, and the claim
    for row in write.commits:
        body = row.body.encode()
        item = _commit_item(write.session_id, write.incarnation, row)
        small = len(body) <= BODY_BYTES
        fits = len(body) <= room and (small or len(body) // BODY_BYTES < left)
        if fits:
            room -= len(body)
        if small and fits:
            item["body"] = text(row.body)
        else:
            chunks = _divided(item, write.session_id, write.incarnation, f"{attempt}#{row.seq}", row)
            (together if fits else before).extend(chunks)
            left -= len(chunks) if fits else 0
        together.append(item)
        if row.run > 0:
            together.append(key(write.session_id, index_key(write.incarnation, row.run, row.seq)))
        if row.key is not None:
            together.append(_key_item(write.session_id, write.incarnation, row, row.key))
    return Written(before, together)


def rewritten_items(session_id: str, incarnation: str, row: CommitRow, attempt: str) -> Written:
    """The items of a commit that is in the log and gets another body or key: pieces of the body; commit and key."""
    item = _commit_item(session_id, incarnation, row)
    before: list[Item] = []
    if len(row.body.encode()) <= BODY_BYTES:
        item["body"] = text(row.body)
    else:
        before = _divided(item, session_id, incarnation, f"{attempt}#{row.seq}", row)
    keys = [] if row.key is None else [_key_item(session_id, incarnation, row, row.key)]
    return Written(before, [item, *keys])


def claim_item(session_id: str, incarnation: str, attempt: str, moment: int) -> Item:
    """Says that an attempt has chunks which no commit may have; who makes them a part of the log removes it.

    With `#seq` behind the attempt it speaks of the chunks of that commit alone.
    """
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


def key_limits(incarnation: str, name: str, first: int, last: int) -> tuple[str, str]:
    """Between which sort keys the items lie that say which commits have a key."""
    return commit_key(incarnation, name, first), commit_key(incarnation, name, last)


def is_below(item: Item, incarnation: str) -> bool:
    """Whether an item belongs to an incarnation, its head aside."""
    return plain(item["sk"]).startswith(tuple(prefix(area, incarnation) for area in AREAS))


def bytes_in(log: Iterable[Item]) -> int:
    """How many bytes the bodies of commits have that lie in these items themselves, and not in chunks."""
    return sum(bytes_of(plain(item["body"])) for item in log if "body" in item)


def is_commit(item: Item, row: CommitRow) -> bool:
    """Whether an item of the log is that of a commit, whatever its body."""
    there = tuple(plain(item[name]) for name in ("commit_id", "run", "time"))
    return there == (row.commit_id, row.run, row.time)


def _commit_item(session_id: str, incarnation: str, row: CommitRow) -> Item:
    item = {
        **key(session_id, log_key(incarnation, row.seq)),
        "commit_id": text(row.commit_id),
        "run": number(row.run),
        "time": number(row.time),
    }
    return item if row.key is None else {**item, "key": text(row.key)}


def _key_item(session_id: str, incarnation: str, row: CommitRow, name: str) -> Item:
    return {**key(session_id, commit_key(incarnation, name, row.seq)), "run": number(row.run)}


def _divided(item: Item, session_id: str, incarnation: str, name: str, row: CommitRow) -> list[Item]:
    """The chunks of a large body, and in the commit's item where they are."""
    chunks = [
        {**key(session_id, f"{prefix(CHUNKS, incarnation, name)}{index:06d}"), "body": text(piece)}
        for index, piece in enumerate(_pieces(row.body))
    ]
    item["chunks"], item["pieces"] = text(name), number(len(chunks))
    return chunks


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
    commit_id, run, time = (plain(item[name]) for name in ("commit_id", "run", "time"))
    return CommitRow.stored((seq_of(item), commit_id, run, time, body, plain(item.get("key"))))
