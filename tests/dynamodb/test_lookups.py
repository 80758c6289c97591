"""`DynamoDbStorage`: keys of commits, rewriting, what cannot be read, the clock, tables of earlier versions."""

from __future__ import annotations

import http.server
import time
from typing import Any

import pytest
from tests.dynamodb.helpers import all_items, driver_of, sort_keys, sweep
from tests.dynamodb.proxy import FaultyProxy, cancelled, refusal
from tests.servers.dynamodb import Meter, dynamodb_client, table_of

import sessile
from sessile import DynamoDbStorage
from sessile.drivers.dynamodb.items import BODY_BYTES, HEAD
from sessile.drivers.dynamodb.table import definition
from sessile.errors import CorruptDataError, NewerVersionError, StorageError
from sessile.records import ANY_USER
from sessile.storage import Storage
from sessile.storage.driver import CommitRow, Deadline, Listing, ListQuery, RecordName, Span
from sessile.storage.encoding import encode_commit
from sessile.storage.extending import operate
from sessile.testing.samples import START, append_of, commit_row

LARGE = BODY_BYTES + 1


def do(storage: Storage, method: str, *arguments: Any, **named: Any) -> Any:
    async def call(core: Any) -> Any:
        await core.prepare(core.deadline())
        return await getattr(core.driver, method)(*arguments, Deadline(30), **named)

    return operate(storage, call)


def append(storage: Storage, seq: int, key: str | None = None, size: int = 1, session_id: str = "s") -> None:
    write = append_of(session_id, seq - 1)
    row = write.commits[0]._replace(key=key, body=commit_row(seq, text="x" * size).body)
    assert do(storage, "append", write._replace(commits=(row,)))


def entries(storage: Storage, **span: Any) -> list[CommitRow]:
    return do(storage, "entries", "s", "i1", Span(**span))


def listing(storage: Storage, **query: Any) -> Listing:
    return do(storage, "list", ListQuery(**query))


# ---------------------------------------------------------------- keys


def test_keys_that_look_like_those_of_others_are_told_apart(storage: Storage) -> None:
    keys = ["a", "a#00000000000000000003", "a#", "#", "1:a", "a#00000000000000000001#"]
    for seq, key in enumerate(keys, 1):
        append(storage, seq, key)
    for seq, key in enumerate(keys, 1):
        assert [row.seq for row in entries(storage, key=key)] == [seq]


def test_a_key_is_found_in_two_requests_and_costs_nothing_where_there_is_none(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    client = dynamodb_client(dynamodb_url)
    with DynamoDbStorage(table_of(dynamodb_url), client=client) as storage, Meter(client) as meter:
        figures: list[float] = []
        for seq in range(1, 40):
            meter.reset()
            append(storage, seq, "key" if seq in (20, 30) else None)
            figures.append(meter.write)
    assert figures[1] == figures[28] < figures[19] == figures[29]
    assert len([sk for sk in sort_keys(dynamodb_url) if sk.startswith("keys#")]) == 2
    proxy.seen.clear()
    assert [row.seq for row in entries(through, key="key")] == [20, 30]
    assert dict(proxy.seen) == {"Query": 1, "BatchGetItem": 1}
    proxy.seen.clear()
    assert entries(through, key="other") == []
    assert dict(proxy.seen) == {"Query": 1}


def test_a_whole_append_of_commits_with_keys_and_runs_fits_into_one_transaction(storage: Storage) -> None:
    count = driver_of(storage).capabilities.commits_per_append
    write = append_of(count=count, runs=tuple(range(1, count + 1)))
    commits = tuple(row._replace(key=f"key {row.seq}") for row in write.commits)
    assert do(storage, "append", write._replace(commits=commits))
    assert entries(storage) == list(commits)


def test_several_records_are_one_request(through: Storage, proxy: FaultyProxy) -> None:
    for session_id in ("s", "t"):
        append(through, 1, session_id=session_id)
        do(through, "put_record", session_id, "i1", "lease/1", b"x")
    proxy.seen.clear()
    names = [RecordName(session_id, "i1", "lease/1") for session_id in "stus"]
    assert do(through, "get_records", names) == [b"x", b"x", None, b"x"]
    assert dict(proxy.seen) == {"BatchGetItem": 1}


# ---------------------------------------------------------------- rewriting


@pytest.mark.parametrize(("before", "after"), [(1, LARGE), (LARGE, 1), (LARGE, LARGE), (9_000_000, 4_000_000)])
def test_rewriting_leaves_no_piece_of_what_was_there(
    storage: Storage, dynamodb_url: str, before: int, after: int
) -> None:
    append(storage, 1, "old", before)
    append(storage, 2, "kept", LARGE)
    (row, kept) = entries(storage)
    changed = row._replace(body=commit_row(1, text="y" * after).body, key="new")
    assert do(storage, "rewrite", "s", "i1", [changed])
    assert entries(storage) == [changed, kept]
    assert [[found.seq for found in entries(storage, key=key)] for key in ("old", "new", "kept")] == [[], [1], [2]]
    pieces = [sk for sk in sort_keys(dynamodb_url) if sk.startswith(("chunk#", "claim#"))]
    assert len(pieces) == (0 if after < LARGE else -(-len(changed.body) // BODY_BYTES)) + 2
    do(storage, "delete", "s", "i1")
    assert all_items(dynamodb_url) == []


@pytest.mark.parametrize("operation", ["BatchWriteItem", "TransactWriteItems"])
def test_what_a_crash_while_rewriting_has_left_is_swept(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str, operation: str
) -> None:
    """Old pieces, or new ones; those of commits that were appended together with it stay."""
    write = append_of(count=2)
    commits = tuple(row._replace(body=commit_row(row.seq, text="x" * LARGE).body) for row in write.commits)
    assert do(through, "append", write._replace(commits=commits))
    changed = commits[0]._replace(body=commit_row(1, text="y" * LARGE).body)
    proxy.fail(operation, refusal("ValidationException"))
    if operation == "BatchWriteItem":
        changed = changed._replace(body=encode_commit([]))  # the first batch is that of the old pieces
    with pytest.raises(StorageError):
        do(through, "rewrite", "s", "i1", [changed])
    assert do(through, "rewrite", "s", "i1", [changed])
    sweep(through, before=time.time_ns() // 1000 + 10**6)
    assert entries(through) == [changed, commits[1]]
    chunks = [sk for sk in sort_keys(dynamodb_url) if sk.startswith("chunk#")]
    assert len(chunks) == 2 + 2 * (operation == "TransactWriteItems")
    assert not [sk for sk in sort_keys(dynamodb_url) if sk.startswith("claim#")]


def test_a_commit_that_is_rewritten_while_its_pieces_are_read(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    append(through, 1, size=LARGE)
    (row,) = entries(through)
    changed = row._replace(body=encode_commit([]))

    def rewritten_first(request: Any) -> tuple[int, dict[str, Any]]:
        with sessile.open(dynamodb_url) as other:
            assert do(other, "rewrite", "s", "i1", [changed])
        return 200, {"Items": [], "Count": 0}

    seen: list[int] = []

    def log_first(request: Any) -> tuple[int, dict[str, Any]]:
        seen.append(1)
        answer = dynamodb_client(dynamodb_url).query(**request)
        return 200, {"Items": answer["Items"], "Count": answer["Count"]}

    proxy.fail("Query", log_first)
    proxy.fail("Query", rewritten_first)
    assert entries(through) == [changed]
    assert seen


def test_a_session_that_is_deleted_meanwhile_is_not_rewritten(through: Storage, proxy: FaultyProxy) -> None:
    append(through, 1)
    (row,) = entries(through)
    proxy.fail("TransactWriteItems", cancelled("ConditionalCheckFailed", "None"))
    assert not do(through, "rewrite", "s", "i1", [row._replace(body=encode_commit([]))])
    assert entries(through) == [row]


# ---------------------------------------------------------------- what cannot be read


def test_a_head_that_cannot_be_read_costs_only_itself(storage: Storage, dynamodb_url: str) -> None:
    client, table = dynamodb_client(dynamodb_url), table_of(dynamodb_url)
    for session_id, user_id in (("a", "ada"), ("b", "ada"), ("c", None), ("d", "bob")):
        storage.create_session(session_id, user_id=user_id)
    for session_id, change in (("a", "SET layout = :value"), ("c", "SET metadata = :value")):
        client.update_item(
            TableName=table,
            Key={"session_id": {"S": session_id}, "sk": {"S": HEAD}},
            UpdateExpression=change,
            ExpressionAttributeValues={":value": {"N": "9"}},
        )
    page = listing(storage, metadata={})
    assert [row.session_id for row in page.rows] == ["d", "b"]
    assert {name: type(error) for name, error in page.unreadable.items()} == {
        "a": NewerVersionError,
        "c": CorruptDataError,
    }
    assert listing(storage, user_id="ada").unreadable.keys() == {"a"}
    assert listing(storage, user_id=None).unreadable.keys() == {"c"}
    assert listing(storage, user_id="bob").unreadable == {}
    with pytest.raises(NewerVersionError):
        storage.delete_user("ada")
    assert [row.session_id for row in listing(storage).rows] == ["d"]


# ---------------------------------------------------------------- the clock and the counters


def test_the_servers_clock_decides(through: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86_400
    original = http.server.BaseHTTPRequestHandler.date_time_string

    def tomorrow(self: Any, timestamp: float | None = None) -> str:
        return original(self, time.time() + day)

    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "date_time_string", tomorrow)
    append(through, 1)
    wanted = (time.time() + day) * 1e6
    assert abs(do(through, "now") - wanted) < 2e6
    assert abs(do(through, "load", "s", 1).now - wanted) < 2e6


def test_troubles_are_counted_and_logged(
    through: Storage, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sessile")
    append(through, 1)
    driver = driver_of(through)
    assert driver.stats.counts() == {}
    proxy.fail("TransactWriteItems", refusal("ThrottlingException"), times=2)
    append(through, 2)
    assert driver.stats.counts() == {"retries": 2}
    proxy.lose("TransactWriteItems")
    append(through, 3)
    assert driver.stats.counts() == {"retries": 3, "unknown_answers": 1, "reconnects": 1}
    assert caplog.text.count("is tried again") == 3


# ---------------------------------------------------------------- before the first release


def old_table(dynamodb_url: str) -> None:
    """A table with indexes by owner, and the session `old` in it, as it was written before the first release."""
    client, table = dynamodb_client(dynamodb_url), table_of(dynamodb_url)
    client.create_table(**definition(table, "owner"))
    body = (
        '{"version":1,"writer":"0.1.0","run_count":1,"usage":{},"tip":1,"segments":[[0,1]],"open_runs":{},"ttl":null,'
        '"forked_from":null,"summary":null,"hidden":null,"state":{}}'
    )
    created = (
        '{"kind":"session.created","data":{"session_id":"old","kind":"agent","owner":"support","user_id":"ada",'
        '"incarnation":"i1"}}'
    )
    run = ",".join(
        f'{{"kind":"{kind}","run_id":"r1","run":1,"owner":"support","data":{data}}}'
        for kind, data in (("run.started", '{"input":"a"}'), ("run.ended", '{"status":"completed","output":"b"}'))
    )
    moment = f"{START:020d}#old"
    head = {
        **{name: {"S": value} for name, value in (("session_id", "old"), ("sk", HEAD), ("incarnation", "i1"))},
        **{name: {"S": value} for name, value in (("kind", "agent"), ("owner", "support"), ("user_id", "ada"))},
        **{name: {"S": value} for name, value in (("status", "completed"), ("metadata", "{}"), ("body", body))},
        **{name: {"N": str(value)} for name, value in (("revision", 1), ("created_at", START), ("updated_at", START))},
        **{name: {"S": value} for name, value in (("all_key", "1"), ("owner_key", "1#support"), ("user_key", "ada"))},
        **{name: {"S": moment} for name in ("updated_key", "created_key")},
        "hidden": {"BOOL": False},
        "layout": {"N": "1"},
    }
    commit = {
        **{name: {"S": value} for name, value in (("session_id", "old"), ("sk", f"log#i1#{1:020d}"))},
        "commit_id": {"S": "r1"},
        "run": {"N": "1"},
        "time": {"N": str(START)},
        "body": {"S": f'{{"version":1,"writer":"0.1.0","entries":[{created},{run}]}}'},
    }
    index = {"session_id": {"S": "old"}, "sk": {"S": f"index#i1#{1:020d}#{1:020d}"}}
    for item in (head, commit, index):
        client.put_item(TableName=table, Item=item)


def test_a_table_of_before_the_first_release_is_used_as_it_is(dynamodb_url: str) -> None:
    old_table(dynamodb_url)
    with sessile.open(dynamodb_url) as storage:
        assert storage.migrate() == []
        for order in ("updated", "created"):
            (item,) = storage.sessions(agent="support", user_id=ANY_USER, order=order).items
            assert (item.session_id, item.agent, item.user_id) == ("old", "support", "ada")
        assert [run.input for run in storage.runs("old", user_id="ada")] == ["a"]
        storage.add_run("old", input="c", user_id="ada")
        storage.add_run("new", input="d", agent="support")
        storage.verify("old", user_id="ada")
        found = storage.sessions(agent="support", user_id=ANY_USER).items
        assert [item.session_id for item in found] == ["new", "old"]
        assert storage.count_sessions(agent="support", user_id=ANY_USER) == 2
    key = {"session_id": {"S": "old"}, "sk": {"S": HEAD}}
    item = dynamodb_client(dynamodb_url).get_item(TableName=table_of(dynamodb_url), Key=key)["Item"]
    assert (item["agent"], item["owner_key"], "owner" in item) == ({"S": "support"}, {"S": "1#support"}, False)


def test_a_new_table_says_agent(storage: Storage, dynamodb_url: str) -> None:
    storage.add_run("s", agent="support")
    client, table = dynamodb_client(dynamodb_url), table_of(dynamodb_url)
    description = str(client.describe_table(TableName=table))
    assert "agent_updated" in description
    assert "owner_" not in description
    assert "owner" not in str(client.scan(TableName=table)["Items"])
