"""`DynamoDbStorage`: what is particular to DynamoDB, against an emulator."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.dynamodb.helpers import all_items, driver_of, inputs, sort_keys, sweep
from tests.dynamodb.proxy import FaultyProxy, cancelled, refusal
from tests.servers.dynamodb import Meter, dynamodb_client, table_of, url_of
from tests.storage.helpers import hurry

import sessile
from sessile import ANY_USER, DynamoDbStorage
from sessile.drivers.dynamodb.items import BODY_BYTES, HEAD, TRANSACTION_BYTES
from sessile.errors import (
    AlreadyExistsError,
    CorruptDataError,
    DeadlineError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
)
from sessile.storage import Append, Storage
from sessile.storage.driver import CommitRow, Deadline, ListQuery
from sessile.storage.extending import operate
from sessile.testing.samples import append_of

# ---------------------------------------------------------------- large commits


@pytest.mark.parametrize(
    ("size", "pieces"),
    [(BODY_BYTES // 2, 0), (BODY_BYTES + 1, 2), (1_000_000, 3), (TRANSACTION_BYTES + BODY_BYTES, 10), (9_000_000, 24)],
)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_large_commits_come_back_whole(
    storage: Storage, dynamodb_url: str, size: int, pieces: int, asynchronous: bool
) -> None:
    """Over 400 KB they lie in several items, over 4 MB outside the transaction; characters are never cut."""
    text = "ä🦪x" * (size // 7)

    async def turn() -> Any:
        async with sessile.open(dynamodb_url) as other:
            await other.aadd_run("s", input=text)
            (run,) = await other.aruns("s")
            return run.input

    if asynchronous:
        assert asyncio.run(turn()) == text
    else:
        storage.add_run("s", input=text)
        assert inputs(storage) == [text]
    keys = sort_keys(dynamodb_url)
    assert sum(key.startswith("chunk#") for key in keys) in (pieces, pieces + (pieces > 0))
    storage.add_run("s", input="small")
    view = storage.get_session("s", last_runs=2)
    assert view is not None
    assert [run.input for run in view.runs] == [text, "small"]
    assert storage.delete("s")
    assert all_items(dynamodb_url) == []


def test_a_large_commit_that_loses_its_race_leaves_nothing(storage: Storage, dynamodb_url: str) -> None:
    driver = driver_of(storage)
    operate(storage, lambda core: core.prepare(core.deadline()))
    body = json.dumps("x" * (TRANSACTION_BYTES + BODY_BYTES))

    async def append(write: Append) -> bool:
        return await driver.append(write, Deadline(30))

    def run(write: Append) -> bool:
        return operate(storage, lambda _: append(write))

    assert run(append_of())
    before = all_items(dynamodb_url)
    lost = append_of(expected=7)
    assert not run(lost._replace(commits=(CommitRow(8, "c", 1, 0, body),)))
    assert all_items(dynamodb_url) == before


def test_pieces_of_a_commit_that_was_written_after_all_are_kept(through: Storage, proxy: FaultyProxy) -> None:
    """The answer was lost, and DynamoDB has forgotten the token when the request comes again: its condition fails."""
    proxy.lose("TransactWriteItems")
    proxy.fail("TransactWriteItems", cancelled("ConditionalCheckFailed", "None"))
    text = "x" * (TRANSACTION_BYTES + BODY_BYTES)
    through.add_run("s", input=text)
    assert proxy.seen["TransactWriteItems"] == 2
    assert inputs(through) == [text]
    assert through.verify("s") == 1


def test_pieces_that_a_crash_has_left_are_swept(through: Storage, proxy: FaultyProxy, dynamodb_url: str) -> None:
    """Whoever wrote them cannot make them a part of the log any more, even if it was only slow."""
    large = "x" * (TRANSACTION_BYTES + BODY_BYTES)
    through.add_run("s", input=large)
    kept = sort_keys(dynamodb_url)
    proxy.fail("TransactWriteItems", refusal("ValidationException"))
    with pytest.raises(StorageError):
        through.add_run("s", input=large)
    left = sort_keys(dynamodb_url)
    assert len(left) > len(kept)
    sweep(through, before=time.time_ns() // 1000 - 60_000_000)
    assert sort_keys(dynamodb_url) == left
    sweep(through, before=time.time_ns() // 1000)
    assert sort_keys(dynamodb_url) == kept
    assert inputs(through) == [large]


def test_a_claim_that_arrives_once_more_after_its_commit_takes_nothing_with_it(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """Its answer was late, so that it was sent again; the first request came through when all was done."""
    large = "x" * (TRANSACTION_BYTES + BODY_BYTES)
    client = dynamodb_client(dynamodb_url)

    def claim_again(request: Any) -> tuple[int, dict[str, Any]]:
        (place,) = (action["Delete"]["Key"] for action in request["TransactItems"] if "Delete" in action)
        claim = client.get_item(TableName=table_of(dynamodb_url), Key=place, ConsistentRead=True)["Item"]
        client.transact_write_items(**request)
        client.put_item(TableName=table_of(dynamodb_url), Item=claim)
        return 200, {}

    proxy.fail("TransactWriteItems", claim_again)
    through.add_run("s", input=large)
    kept = [sk for sk in sort_keys(dynamodb_url) if not sk.startswith("claim#")]
    sweep(through, before=time.time_ns() // 1000)
    assert sort_keys(dynamodb_url) == kept
    assert inputs(through) == [large]


def test_a_large_commit_that_is_swept_while_it_is_written_is_written_again(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """Its transaction is refused, and the core tries anew."""
    large = "x" * (TRANSACTION_BYTES + BODY_BYTES)
    through.add_run("s", input="small")

    def swept_first(request: Any) -> tuple[int, dict[str, Any]]:
        with sessile.open(dynamodb_url) as other:
            sweep(other, before=time.time_ns() // 1000)
        try:
            dynamodb_client(dynamodb_url).transact_write_items(**request)
        except ClientError as error:
            return 400, {"__type": error.response["Error"]["Code"], **error.response}
        raise AssertionError("the transaction succeeded without its claim")

    proxy.fail("TransactWriteItems", swept_first)
    through.add_run("s", input=large)
    assert inputs(through) == ["small", large]
    assert through.verify("s") == 2
    assert not [sk for sk in sort_keys(dynamodb_url) if sk.startswith("claim#")]


def test_a_fork_of_large_runs_is_split_over_transactions(storage: Storage) -> None:
    texts = [str(number) * 700_000 for number in range(8)]
    for text in texts:
        storage.add_run("s", input=text)
    storage.fork("s", session_id="f")
    assert inputs(storage, "f") == texts
    storage.verify("f")


def test_the_largest_state_fits_and_a_larger_one_is_refused(dynamodb_url: str) -> None:
    with sessile.open(dynamodb_url, max_state_bytes=2**20) as storage:
        storage.update_state("s", {"k": "x" * (256 * 1024 - 20)}) if storage.add_run("s") else None
        head = storage.get_session("s")
        assert head is not None
        assert len(head.state["k"]) == 256 * 1024 - 20
        with pytest.raises(StorageError, match=r"has .* bytes; an item of DynamoDB's has at most 409,600") as caught:
            storage.update_state("s", {"more": "x" * 200_000})
        assert caught.value.written == "no"
        assert storage.get_session("s") == head


def test_pieces_that_are_missing_are_told(storage: Storage, dynamodb_url: str) -> None:
    storage.add_run("s", input="x" * 1_000_000)
    (piece, *_) = [item for item in all_items(dynamodb_url) if item["sk"]["S"].startswith("chunk#")]
    dynamodb_client(dynamodb_url).delete_item(TableName=table_of(dynamodb_url), Key=piece)
    with pytest.raises(CorruptDataError, match="lacks pieces"):
        storage.runs("s")


def test_commits_that_are_missing_are_told(storage: Storage, dynamodb_url: str) -> None:
    storage.add_run("s", input="x")
    (commit,) = [item for item in all_items(dynamodb_url) if item["sk"]["S"].startswith("log#")]
    dynamodb_client(dynamodb_url).delete_item(TableName=table_of(dynamodb_url), Key=commit)
    with pytest.raises(CorruptDataError, match="not in its log"):
        storage.get_session("s", last_runs=1)


# ---------------------------------------------------------------- busy, failing, gone

BUSY = {
    "throttled": refusal("ThrottlingException"),
    "capacity": refusal("ProvisionedThroughputExceededException"),
    "limit": refusal("RequestLimitExceeded"),
    "conflict": cancelled("TransactionConflict", "None"),
    "throttled item": cancelled("None", "ThrottlingError"),
    "in progress": refusal("TransactionInProgressException"),
    "inside": refusal("InternalServerError", 500),
}


def add_run(storage: Storage, proxy: FaultyProxy, url: str, value: Any, asynchronous: bool) -> None:
    """Add a run through the proxy, with the storage or with an asynchronous one."""

    async def turn() -> None:
        async with sessile.open(url_of(proxy.url, table_of(url))) as other:
            await other.aadd_run("s", input=value)

    asyncio.run(turn()) if asynchronous else storage.add_run("s", input=value)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("kind", BUSY)
def test_a_busy_database_is_asked_again(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str, kind: str, asynchronous: bool
) -> None:
    proxy.fail("TransactWriteItems", BUSY[kind], times=3)
    add_run(through, proxy, dynamodb_url, "a", asynchronous)
    assert proxy.seen["TransactWriteItems"] == 4
    assert inputs(through) == ["a"]
    assert through.verify("s") == 1


def test_reads_are_asked_again(through: Storage, proxy: FaultyProxy) -> None:
    through.add_run("s", input="a")
    for operation in ("GetItem", "Query", "BatchGetItem"):
        proxy.fail(operation, BUSY["throttled"], times=2)
    assert inputs(through) == ["a"]
    assert [head.session_id for head in through.sessions()] == ["s"]


@pytest.mark.parametrize(("kind", "written"), [("throttled", "no"), ("conflict", "no"), ("inside", "unknown")])
def test_one_that_stays_busy_is_told_with_what_is_known_of_the_write(
    through: Storage, proxy: FaultyProxy, kind: str, written: str
) -> None:
    through.create_session("s")
    proxy.fail("TransactWriteItems", BUSY[kind], times=1000)
    with pytest.raises(StorageUnavailableError) as caught:
        operate(through, lambda core: core.driver.append(append_of(), Deadline(20)))
    assert (caught.value.written, caught.value.retryable) == (written, True)


def test_a_deadline_ends_the_waiting(dynamodb_url: str, through: Storage, proxy: FaultyProxy) -> None:
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as hurried:
        hurried.setup()
        hurry(hurried, 0.3)
        proxy.fail("GetItem", BUSY["throttled"], times=1000)
        with pytest.raises((DeadlineError, StorageUnavailableError)) as caught:
            hurried.get_session("s")
        assert caught.value.written == "no"


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_answer_that_is_lost_is_not_written_twice(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str, asynchronous: bool
) -> None:
    """The request is sent again with the same token, and applied once."""
    for number in range(4):
        proxy.lose("TransactWriteItems", times=1 + number % 2)
        add_run(through, proxy, dynamodb_url, number, asynchronous)
    assert inputs(through) == [0, 1, 2, 3]
    assert through.verify("s") == 4


def test_a_request_that_is_sent_again_is_answered_as_the_first_one(through: Storage, proxy: FaultyProxy) -> None:
    proxy.lose("TransactWriteItems")
    assert operate(through, lambda core: core.driver.append(append_of(), Deadline(20)))
    assert proxy.seen["TransactWriteItems"] == 2


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_page_of_a_proxy_is_no_answer(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str, asynchronous: bool
) -> None:
    """Neither that a commit was done, nor that nothing is there."""
    through.create_session("s")
    for operation in ("DescribeTable", "GetItem", "Query", "TransactWriteItems"):
        proxy.fail(operation, lambda _: (200, b"<html>Log in</html>"))
    add_run(through, proxy, dynamodb_url, "a", asynchronous)
    assert proxy.seen["TransactWriteItems"] == 3
    assert inputs(through) == ["a"]
    proxy.fail("GetItem", lambda _: (200, b""), times=1000)
    with pytest.raises(StorageUnavailableError, match="not one of DynamoDB's"):
        through.get_session("s")


def test_what_a_transaction_was_refused_for_decides(through: Storage, proxy: FaultyProxy) -> None:
    """A failed condition is a lost race, whatever else was wrong; a mistake is no reason to try again."""
    through.create_session("s")

    def append() -> bool:
        return operate(through, lambda core: core.driver.append(append_of("other"), Deadline(20)))

    proxy.fail("TransactWriteItems", cancelled("TransactionConflict", "ConditionalCheckFailed"))
    assert append() is False
    proxy.fail("TransactWriteItems", cancelled("TransactionConflict", "ValidationError"))
    with pytest.raises(StorageError, match="ValidationError") as caught:
        append()
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        ("AccessDeniedException", ReadOnlyError, "Grant the missing permission"),
        ("ExpiredTokenException", StorageError, "other credentials"),
        ("ResourceNotFoundException", StorageError, "table's name and region"),
        ("ValidationException", StorageError, "what the database says"),
    ],
)
def test_refusals_say_what_to_do(
    through: Storage, proxy: FaultyProxy, code: str, kind: type[StorageError], hint: str
) -> None:
    proxy.fail("GetItem", refusal(code))
    with pytest.raises(kind, match=hint) as caught:
        through.get_session("s")
    assert not caught.value.retryable


def test_what_batches_leave_undone_is_done_later(through: Storage, proxy: FaultyProxy, dynamodb_url: str) -> None:
    def nothing_written(request: Any) -> tuple[int, dict[str, Any]]:
        return 200, {"UnprocessedItems": request["RequestItems"]}

    def nothing_read(request: Any) -> tuple[int, dict[str, Any]]:
        return 200, {"Responses": {}, "UnprocessedKeys": request["RequestItems"]}

    for number in range(30):
        through.add_run("s", input=number)
    proxy.fail("BatchGetItem", nothing_read, times=2)
    assert len(through.runs("s", from_run=1)) == 30
    assert [head.session_id for head in through.sessions()] == ["s"]
    proxy.fail("BatchWriteItem", nothing_written, times=3)
    assert through.delete("s")
    assert all_items(dynamodb_url) == []


def test_a_deletion_that_breaks_off_is_finished_by_sweep(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """The head goes last: until then the session is absent, and its id can be used again."""
    for session_id in ("s", "t"):
        for number in range(40):
            through.add_run(session_id, input=number)
        proxy.fail("BatchWriteItem", refusal("ValidationException"))
        with pytest.raises(StorageError) as caught:
            through.delete(session_id)
        assert caught.value.written == "yes"
        assert through.get_session(session_id) is None
    left = sort_keys(dynamodb_url)
    assert left.count(HEAD) == 2
    through.add_run("t", input="new")
    assert inputs(through, "t") == ["new"]
    assert through.sweep() == 1
    assert {item["session_id"]["S"] for item in all_items(dynamodb_url)} == {"t"}


def test_what_is_appended_during_a_deletion_goes_with_it(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """The log is cleared before the head goes, and again after it."""
    append = append_of("s")
    operate(through, lambda core: core.driver.append(append, Deadline(20)))

    def append_first(request: Any) -> tuple[int, dict[str, Any]]:
        row = append.commits[0]._replace(seq=2, commit_id="late")
        late = append._replace(expected=1, commits=(row,), head=append.head._replace(revision=2))
        with sessile.open(dynamodb_url) as other:
            assert operate(other, lambda core: core.driver.append(late, Deadline(20)))
        dynamodb_client(dynamodb_url).delete_item(**request)
        return 200, {}

    proxy.fail("DeleteItem", append_first)
    operate(through, lambda core: core.driver.delete("s", append.incarnation, Deadline(20)))
    assert all_items(dynamodb_url) == []


def test_a_look_in_the_middle_of_a_commit_is_repeated(through: Storage, proxy: FaultyProxy) -> None:
    """A query is no transaction: it may see the new head without the new commit."""
    through.add_run("s", input="a")

    def without_log(request: Any) -> tuple[int, dict[str, Any]]:
        wanted = {name: request[name] for name in ("TableName", "KeyConditionExpression", "ExpressionAttributeValues")}
        answer = dynamodb_client(proxy._target).query(**wanted, ConsistentRead=True)
        return 200, {"Items": [item for item in answer["Items"] if item["sk"]["S"] == HEAD], "Count": 1}

    proxy.fail("Query", without_log, times=2)
    view = through.get_session("s", last_runs=3)
    assert view is not None
    assert [run.input for run in view.runs] == ["a"]


def test_what_an_interrupted_deletion_of_an_earlier_session_has_left_is_not_read(
    storage: Storage, dynamodb_url: str
) -> None:
    client, table = dynamodb_client(dynamodb_url), table_of(dynamodb_url)
    storage.add_run("s", input="old")
    (old,) = [item for item in client.scan(TableName=table)["Items"] if item["sk"]["S"].startswith("log#")]
    storage.delete("s")
    for incarnation in ("0", "zzz"):
        item = {**old, "sk": {"S": f"log#{incarnation}#{1:020}"}}
        client.put_item(TableName=table, Item=item)
    for number in range(3):
        storage.add_run("s", input=number)
    view = storage.get_session("s", last_runs=2)
    assert view is not None
    assert [run.input for run in view.runs] == [1, 2]
    assert inputs(storage) == [0, 1, 2]
    assert storage.verify("s") == 3


def test_a_session_in_a_newer_layout_is_refused(storage: Storage, dynamodb_url: str) -> None:
    storage.add_run("s", input="x")
    dynamodb_client(dynamodb_url).update_item(
        TableName=table_of(dynamodb_url),
        Key={"session_id": {"S": "s"}, "sk": {"S": HEAD}},
        UpdateExpression="SET layout = :newer",
        ExpressionAttributeValues={":newer": {"N": "3"}},
    )
    for read in (storage.get_session, storage.runs, storage.delete):
        with pytest.raises(NewerVersionError, match="stored in layout 3; this Sessile knows 2"):
            read("s")


# ---------------------------------------------------------------- lists


def test_lists_show_true_rows_where_an_index_is_out_of_date(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """What the index says of a session that was deleted or changed meanwhile is compared with its head."""
    for session_id in ("a", "b", "c"):
        through.create_session(session_id, user_id="ada")
    client = dynamodb_client(dynamodb_url)

    def stale(request: Any) -> tuple[int, dict[str, Any]]:
        answer = client.query(**{name: value for name, value in request.items() if name != "Limit"})
        old = {"Items": answer["Items"], "Count": answer["Count"]}
        through.delete("a", user_id="ada")
        through.rename("b", "new name", user_id="ada")
        return 200, old

    proxy.fail("Query", stale)
    page = through.sessions(user_id="ada")
    assert [(head.session_id, head.name) for head in page] == [("b", "new name"), ("c", None)]


def test_an_expired_session_is_found_by_sweep_without_reading_all_heads(through: Storage, proxy: FaultyProxy) -> None:
    for number in range(30):
        through.create_session(f"s{number}", ttl=0 if number == 7 else None)
    proxy.seen.clear()
    assert through.sweep() == 1
    assert proxy.seen["BatchGetItem"] == 1


def test_counting_reads_no_heads_where_the_index_knows(through: Storage, proxy: FaultyProxy) -> None:
    for number in range(12):
        through.create_session(f"s{number}", user_id="ada", agent="a", metadata={"n": number % 2})
    proxy.seen.clear()
    assert through.count_sessions(user_id="ada") == 12
    assert proxy.seen["BatchGetItem"] == 0
    assert through.count_sessions(user_id=ANY_USER, metadata={"n": 1}) == 6
    assert through.count_sessions(user_id="ada", agent="b") == 0
    nobody = ListQuery(since=5, until=4)
    assert operate(through, lambda core: core.driver.count(nobody, core.deadline())) == 0
    assert operate(through, lambda core: core.driver.list(nobody, core.deadline())).rows == []


# ---------------------------------------------------------------- what a turn costs


def test_a_turn_costs_the_same_in_the_10th_run_and_in_the_1000th(dynamodb_url: str) -> None:
    def turn(number: int) -> tuple[float, float]:
        meter.reset()
        storage.get_session("s", last_runs=3, user_id="ada")
        storage.add_run("s", input=f"question {number:04}", output="answer", user_id="ada", agent="support")
        return meter.read, meter.write

    client = dynamodb_client(dynamodb_url)
    with Meter(client) as meter, DynamoDbStorage(table_of(dynamodb_url), client=client) as storage:
        figures = [turn(number) for number in range(1, 1001)]
    assert figures[9] == figures[-1] == max(figures)
    assert min(figures[9]) > 0


def test_a_session_that_stands_already(storage: Storage) -> None:
    storage.create_session("s")
    with pytest.raises(AlreadyExistsError):
        storage.create_session("s")
