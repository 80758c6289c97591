"""What the documents of a session look like, and how lists ask for heads.

All of them are in one collection, told apart by `seq`:

====================  ==========================================================================================
`seq`                 document
====================  ==========================================================================================
`HEAD`                the head: the fields of `HeadRow`, and `filters`, one text per key and per value of metadata
1, 2, 3 …             a commit: the fields of `CommitRow`, `key` only where one is given; a large one has `parts` and a
                      `token` instead of its body
`RECORD`              a record: `value`
`PART`                a part of a large commit: `value`, and the `claim` that names its `token`
====================  ==========================================================================================

So the head and the newest commits are the first documents of a session in descending order, and one find loads both.
`_id` is JSON text of the session's id and what else tells the document apart. `at` is when a document was written, in
microseconds; `born` is the same in documents that nothing refers to if their writer is gone before its next write.

Field names are ours alone, and never the user's; values are compared with `$eq`, so that none is taken for an operator.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from ...errors import CorruptDataError, StorageError
from ...records import ANY_USER
from ...storage.encoding import encode
from ...storage.matching import as_asked
from ...storage.rows import CommitRow, HeadRow, Json, Listing, ListQuery, Span

Document = dict[str, Any]

HEAD = 2**62
RECORD = 0
PART = -1

_OPTIONAL = frozenset({"agent", "user_id", "name", "status", "expires_at"})
_TEXT_OR_NONE: tuple[type, ...] = (str, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "revision": (int,),
    "created_at": (int,),
    "updated_at": (int,),
    "expires_at": (int, type(None)),
    "hidden": (bool,),
}

FEW_RUNS = 100
"""Up to how many runs are read by their index, whose scans MongoDB merges; more of them in the order of the log."""


def head_key(session_id: str) -> str:
    """The `_id` of a session's head: there is one, whatever its incarnation."""
    return encode([session_id])


def commit_key(session_id: str, incarnation: str, seq: int) -> str:
    """The `_id` of a commit: who inserts it has claimed this `seq`."""
    return encode([session_id, incarnation, seq])


def record_key(session_id: str, incarnation: str, key: str) -> str:
    """The `_id` of a record."""
    return encode([session_id, incarnation, "record", key])


def part_key(session_id: str, incarnation: str, token: str, number: int) -> str:
    """The `_id` of a part of a large commit."""
    return encode([session_id, incarnation, "part", token, number])


# ---------------------------------------------------------------- heads and commits


def head_document(head: HeadRow) -> Document:
    """A head as it is stored."""
    key = {"_id": head_key(head.session_id), "session_id": head.session_id, "seq": HEAD}
    return {**key, **head._asdict(), "filters": _filters(head.metadata)}


def head_change(head: HeadRow, at_least: int) -> tuple[Document, Document]:
    """Which head to replace, and how: one of that incarnation that lives, from a revision on up to before this one."""
    where: Document = {
        "session_id": {"$eq": head.session_id},
        "_id": {"$eq": head_key(head.session_id)},
        "incarnation": {"$eq": head.incarnation},
        "revision": {"$gte": at_least, "$lt": head.revision},
        "gone": {"$exists": False},
    }
    kept = ("_id", "session_id", "seq")
    return where, {"$set": {name: value for name, value in head_document(head).items() if name not in kept}}


def head_of(document: Document) -> HeadRow:
    """The inverse of `head_document`; what schema version 1 called owner is the agent."""
    if "agent" not in document and "owner" in document:
        document = {**document, "agent": document["owner"]}
    try:
        row = HeadRow(**{name: document[name] for name in HeadRow._fields})
    except KeyError as error:
        raise CorruptDataError(f"The head {document.get('_id')} is damaged: it has no {error}.") from error
    for name, value in zip(HeadRow._fields, row, strict=True):
        if not isinstance(value, _TYPES.get(name, _TEXT_OR_NONE)) or (value is None and name not in _OPTIONAL):
            raise CorruptDataError(
                f"The head {document.get('_id')} is damaged: its {name} is of the type {type(value).__name__}."
            )
    return row


def commit_document(session_id: str, incarnation: str, row: CommitRow, at: int) -> Document:
    """A commit as it is stored. Nothing refers to the first one until its session has a head."""
    key = {
        "_id": commit_key(session_id, incarnation, row.seq),
        "session_id": session_id,
        "incarnation": incarnation,
    }
    document = {**key, **row._asdict(), "at": at, **({"born": at} if row.seq == 1 else {})}
    if row.key is None:
        del document["key"]  # the index of keys has only documents with one
    return document


def commit_of(document: Document) -> CommitRow:
    """The inverse of `commit_document`."""
    try:
        return CommitRow.stored([*(document[name] for name in CommitRow._fields[:-1]), document.get("key")])
    except KeyError as error:
        raise CorruptDataError(f"The commit {document.get('_id')} is damaged: it has no {error}.") from error


def same_commit(document: Document | None, row: CommitRow) -> bool:
    """Whether a document is that of a commit, whatever its body."""
    return document is not None and all(
        document.get(name) == getattr(row, name) for name in ("commit_id", "run", "time")
    )


def alive(head: Document | None, incarnation: str) -> bool:
    """Whether a head is that of an incarnation, and not one whose deletion has begun."""
    return head is not None and head["incarnation"] == incarnation and not head.get("gone")


def record_name(document: Document) -> str:
    """The key of a record, out of its `_id`."""
    return json.loads(document["_id"])[3]


# ---------------------------------------------------------------- metadata


def _filters(metadata: str) -> list[str]:
    """Texts to look for in an index: each key, and each key with its value if that is a scalar."""
    whole: dict[str, Any] = json.loads(metadata) if metadata != "{}" else {}
    pairs = [value_filter(key, value) for key, value in whole.items() if not isinstance(value, (dict, list))]
    return [key_filter(key) for key in whole] + pairs


def key_filter(key: str) -> str:
    """The text that says that a key is there. JSON in ASCII: lone surrogates and NUL are no matter."""
    return json.dumps(key)


def value_filter(key: str, value: Json) -> str:
    """The text that says that a key has a value: the same for 1 and 1.0, and for nothing else that differs."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{json.dumps(key)}:{json.dumps(value)}"


# ---------------------------------------------------------------- queries


def span_query(session_id: str, incarnation: str, span: Span) -> Document:
    """The commits of a span."""
    where: Document = {
        "session_id": {"$eq": session_id},
        "incarnation": {"$eq": incarnation},
        "seq": {"$gte": max(span.first, 1), "$lte": HEAD - 1 if span.last is None else span.last},
    }
    if span.runs is not None:
        first, last = max(span.runs[0], 1), span.runs[1]
        few = last - first < FEW_RUNS
        where["run"] = {"$in": list(range(first, last + 1))} if few else {"$gte": first, "$lte": last}
    if span.key is not None:
        where["key"] = {"$eq": span.key}
    return where


def list_query(query: ListQuery) -> Document:
    """The heads that match a query, `limit` aside."""
    # Only heads have a revision: without this condition MongoDB would not use the indexes, which have only heads.
    clauses: list[Document] = [{"revision": {"$gt": 0}}]
    for name in ("kind", "agent", "status", "hidden"):
        value = getattr(query, name)
        if value is not None:
            clauses.append({name: {"$eq": value}})
    if query.user_id is not ANY_USER:
        clauses.append({"user_id": {"$eq": query.user_id}})
    clauses += [{"name": {"$gte": query.name_prefix}}, *_name_before(query.name_prefix)] if query.name_prefix else []
    wanted = [key_filter(key) for key in query.metadata_keys]
    wanted += [value_filter(key, value) for key, value in query.metadata.items()]
    if wanted:
        clauses.append({"filters": {"$all": wanted}})
    return {"$and": clauses + _times(query)}


def _times(query: ListQuery) -> list[Document]:
    moment = time_field(query)
    clauses: list[Document] = []
    if query.since is not None:
        clauses.append({moment: {"$gte": query.since}})
    if query.until is not None:
        clauses.append({moment: {"$lt": query.until}})
    if query.now is not None:
        clauses.append({"$or": [{"expires_at": {"$eq": None}}, {"expires_at": {"$gt": query.now}}]})
    if query.expired_before is not None:
        clauses.append({"expires_at": {"$lte": query.expired_before}})
    if query.after is not None:
        time, session_id = query.after
        beyond = "$gt" if query.ascending else "$lt"
        same = {moment: {"$eq": time}, "session_id": {beyond: session_id}}
        clauses += [{moment: {f"{beyond}e": time}}, {"$or": [{moment: {beyond: time}}, same]}]
    return clauses


def _name_before(prefix: str) -> list[Document]:
    """The end of the names with a prefix, in the order of code points."""
    stem = prefix.rstrip(chr(0x10FFFF))
    if not stem:
        return []
    following = 0xE000 if stem[-1] == "\ud7ff" else ord(stem[-1]) + 1
    return [{"name": {"$lt": stem[:-1] + chr(following)}}]


def time_field(query: ListQuery) -> str:
    """The field that a query orders and filters by."""
    return "created_at" if query.order == "created" else "updated_at"


def list_order(query: ListQuery) -> list[tuple[str, int]]:
    """By time, then by id, both descending, or both ascending."""
    direction = 1 if query.ascending else -1
    return [(time_field(query), direction), ("session_id", direction)]


def listing_of(documents: Sequence[Document], query: ListQuery) -> Listing:
    """The heads on a page, and what cannot be read of them."""
    rows: list[HeadRow] = []
    unreadable: dict[str, StorageError] = {}
    for document in documents:
        try:
            rows.append(as_asked(head_of(document), query))
        except CorruptDataError as error:
            unreadable[str(document.get("session_id", document["_id"]))] = error
    return Listing(rows, unreadable, _end_of(documents, query) if 0 < len(documents) >= query.limit else None)


def _end_of(documents: Sequence[Document], query: ListQuery) -> tuple[int, str] | None:
    """Where the last document stands that stands anywhere: times that are none come before all others, or after them.

    Only a first page can have such, because a condition on a time leaves out what is none.
    """
    for document in reversed(documents):
        moment, session_id = document.get(time_field(query)), document.get("session_id")
        if isinstance(moment, int) and isinstance(session_id, str):
            return moment, session_id
    return (-1, "") if query.ascending else (HEAD, "")


def incarnation_of(document: Document) -> str:
    """The incarnation that a document belongs to."""
    try:
        return cast(str, document["incarnation"])
    except KeyError:
        raise CorruptDataError(f"The document {document['_id']} is damaged: it has no incarnation.") from None
