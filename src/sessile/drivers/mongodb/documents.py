"""What the documents of a session look like, and how lists ask for heads.

All of them are in one collection, told apart by `seq`:

====================  ==========================================================================================
`seq`                 document
====================  ==========================================================================================
`HEAD`                the head: the fields of `HeadRow`, and `filters`, one text per key and per value of metadata
1, 2, 3 …             a commit: the fields of `CommitRow`; a large one has `parts` and a `token` instead of its body
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
from typing import Any, cast

from ...errors import CorruptDataError
from ...storage.driver import CommitRow, HeadRow, Json, ListQuery, Span
from ...storage.encoding import encode

Document = dict[str, Any]

HEAD = 2**62
RECORD = 0
PART = -1

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
    """The inverse of `head_document`."""
    try:
        return HeadRow(**{name: document[name] for name in HeadRow._fields})
    except KeyError as error:
        raise CorruptDataError(f"The head {document.get('_id')} is damaged: it has no {error}.") from error


def commit_document(session_id: str, incarnation: str, row: CommitRow, at: int) -> Document:
    """A commit as it is stored. Nothing refers to the first one until its session has a head."""
    key = {
        "_id": commit_key(session_id, incarnation, row.seq),
        "session_id": session_id,
        "incarnation": incarnation,
    }
    return {**key, **row._asdict(), "at": at, **({"born": at} if row.seq == 1 else {})}


def commit_of(document: Document) -> CommitRow:
    """The inverse of `commit_document`."""
    try:
        return CommitRow(**{name: document[name] for name in CommitRow._fields})
    except KeyError as error:
        raise CorruptDataError(f"The commit {document.get('_id')} is damaged: it has no {error}.") from error


def alive(head: Document | None, incarnation: str) -> bool:
    """Whether a head is that of an incarnation, and not one whose deletion has begun."""
    return head is not None and head["incarnation"] == incarnation and not head.get("gone")


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
    return where


def list_query(query: ListQuery) -> Document:
    """The heads that match a query, `limit` aside."""
    # Only heads have a revision: without this condition MongoDB would not use the indexes, which have only heads.
    clauses: list[Document] = [{"revision": {"$gt": 0}}]
    for name in ("kind", "owner", "user_id", "status", "hidden"):
        value = getattr(query, name)
        if value is not None:
            clauses.append({name: {"$eq": value}})
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
        same = {moment: {"$eq": time}, "session_id": {"$lt": session_id}}
        clauses += [{moment: {"$lte": time}}, {"$or": [{moment: {"$lt": time}}, same]}]
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
    """Newest first, then by id, both descending."""
    return [(time_field(query), -1), ("session_id", -1)]


def incarnation_of(document: Document) -> str:
    """The incarnation that a document belongs to."""
    return cast(str, document["incarnation"])
