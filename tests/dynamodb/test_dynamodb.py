"""`DynamoDbStorage`: what is particular to DynamoDB, against an emulator."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from tests.dynamodb.proxy import FaultyProxy, cancelled, refusal
from tests.servers.dynamodb import REGION, Meter, client_of, endpoint_of, table_of, url_of

import sessile
from sessile import DynamoDbStorage
from sessile.drivers.dynamodb.items import BODY_BYTES, HEAD, TRANSACTION_BYTES
from sessile.errors import (
    AlreadyExistsError,
    ClosedError,
    CorruptDataError,
    DeadlineError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
)
from sessile.storage import Append, Storage
from sessile.storage.driver import CommitRow, Deadline, ListQuery
from sessile.testing.samples import append_of


@pytest.fixture
def storage(dynamodb_url: str) -> Iterator[Storage]:
    with sessile.open(dynamodb_url) as made:
        yield made


@pytest.fixture
def proxy(dynamodb_url: str) -> Iterator[FaultyProxy]:
    with FaultyProxy(endpoint_of(dynamodb_url)) as made:
        yield made


@pytest.fixture
def through(dynamodb_url: str, proxy: FaultyProxy) -> Iterator[Storage]:
    """A storage that reaches the emulator through the proxy, with its table made."""
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as made:
        made.setup()
        proxy.seen.clear()
        yield made


def inputs(storage: Storage, session_id: str = "s") -> list[Any]:
    return [run.input for run in storage.runs(session_id)]


def driver_of(storage: Storage) -> Any:
    """The driver of synchronous callers."""
    assert storage._core is not None
    return storage._core.driver


def sweep(storage: Storage, before: int) -> None:
    """Remove what was left by crashes before a moment in microseconds."""
    storage.run_operation(lambda core: core.driver.sweep(before, core.deadline()))


def all_items(url: str) -> list[dict[str, Any]]:
    """Everything in the table, without its values."""
    pages = (
        client_of(url).get_paginator("scan").paginate(TableName=table_of(url), ProjectionExpression="session_id, sk")
    )
    return [item for page in pages for item in page["Items"]]


def sort_keys(url: str) -> list[str]:
    return sorted(item["sk"]["S"] for item in all_items(url))


# ---------------------------------------------------------------- addresses and clients


@pytest.mark.parametrize(
    "make",
    [
        lambda: DynamoDbStorage("no spaces"),
        lambda: DynamoDbStorage("ab"),
        lambda: DynamoDbStorage(7),  # pyright: ignore[reportArgumentType]
        lambda: DynamoDbStorage("table", pool_size=0),
        lambda: DynamoDbStorage("table", timeout=0),
        lambda: DynamoDbStorage("table", client="client"),
        lambda: DynamoDbStorage("table", client=boto3.client("s3", region_name=REGION)),
        lambda: DynamoDbStorage("table", client=boto3.client("dynamodb", region_name=REGION), region=REGION),
        lambda: sessile.open("dynamodb://table/more"),
        lambda: sessile.open("dynamodb://table?endpoint=localhost:8000"),
        lambda: sessile.open("dynamodb://table?pool_size=many"),
        lambda: sessile.open("dynamodb://table?zone=1"),
        lambda: sessile.open("dynamodb://"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_done(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInputError):
        make()


def test_without_region_or_credentials_the_error_says_what_is_missing(dynamodb_url: str, tmp_path: Any) -> None:
    code = "import sys, sessile; sessile.open(sys.argv[1]).session('s')"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {"AWS_CONFIG_FILE": str(tmp_path / "no"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no")}
    environment = {**kept, **nothing, "AWS_EC2_METADATA_DISABLED": "true"}
    for url in ("dynamodb://table", dynamodb_url):
        command = [sys.executable, "-c", code, url]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert "sessile.errors.StorageError" in done.stderr
        assert "Name a region, and give credentials" in done.stderr


def test_the_applications_own_client(dynamodb_url: str) -> None:
    """boto3's serves both faces, and is left open."""
    client = client_of(dynamodb_url)
    with DynamoDbStorage(table_of(dynamodb_url), client=client) as storage:
        storage.add_run("s", input=1)

        async def turns() -> None:
            await asyncio.gather(*(storage.aadd_run("s", input=number) for number in range(2, 8)))

        asyncio.run(turns())
        assert storage.verify("s") == 7
    assert client.describe_table(TableName=table_of(dynamodb_url))


async def test_the_applications_own_asynchronous_client(dynamodb_url: str) -> None:
    making = get_session().create_client("dynamodb", region_name=REGION, endpoint_url=endpoint_of(dynamodb_url))
    async with making as client:
        async with DynamoDbStorage(table_of(dynamodb_url), client=client) as storage:
            await storage.aadd_run("s", input=1)
            assert [run.input for run in await storage.aruns("s")] == [1]
        assert await client.describe_table(TableName=table_of(dynamodb_url))


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("botocore", "sessile.open('dynamodb://table')"),
        ("aiobotocore", "asyncio.run(sessile.open('dynamodb://table?region=x').asession('s'))"),
    ],
)
def test_a_missing_library_is_one_clear_error(package: str, code: str) -> None:
    program = f"import asyncio, sys; sys.modules[{package!r}] = None; import sessile; {code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert f"needs the package '{package}'" in last
    assert 'pip install "sessile[dynamodb]"' in last


def test_a_closed_storage(dynamodb_url: str) -> None:
    storage = sessile.open(dynamodb_url)
    storage.add_run("s")
    storage.close()
    with pytest.raises(ClosedError):
        storage.session("s")
    storage.close()


# ---------------------------------------------------------------- the table


def test_eight_processes_that_start_at_once(dynamodb_url: str) -> None:
    code = "import sys, sessile; s = sessile.open(sys.argv[1]); s.add_run('s', input=1); s.close()"
    children = [subprocess.Popen([sys.executable, "-c", code, dynamodb_url]) for _ in range(8)]
    assert [child.wait() for child in children] == [0] * 8
    with sessile.open(dynamodb_url) as storage:
        assert storage.verify("s") == 8
        assert storage.migrate() == []


def test_the_table_is_billed_by_use(storage: Storage, dynamodb_url: str) -> None:
    storage.setup()
    table = client_of(dynamodb_url).describe_table(TableName=table_of(dynamodb_url))["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_who_may_not_create_the_table_hears_the_request_that_would(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """When somebody else has sent it, everything works."""
    client_of(dynamodb_url).delete_table(TableName=table_of(dynamodb_url))
    proxy.fail("CreateTable", refusal("AccessDeniedException"))
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as limited:
        with pytest.raises(ReadOnlyError, match=r'The request was: .*"PAY_PER_REQUEST"') as caught:
            limited.add_run("s")
        assert caught.value.written == "no"
        (request,) = limited.migrate(dry_run=True)
        client_of(dynamodb_url).create_table(**json.loads(request))
        proxy.fail("CreateTable", refusal("AccessDeniedException"), times=99)
        limited.add_run("s", input="a")
        assert inputs(limited) == ["a"]


def test_the_table_is_left_alone_when_the_storage_is_told_so(dynamodb_url: str) -> None:
    with sessile.open(dynamodb_url, auto_migrate=False) as storage:
        with pytest.raises(StorageError, match=r"(?s)There is no .*PAY_PER_REQUEST.*sessile migrate"):
            storage.add_run("s")
        assert storage.migrate(dry_run=True) == storage.migrate()
        storage.add_run("s", input="a")
        assert inputs(storage) == ["a"]


def test_a_table_of_somebody_elses_is_refused(dynamodb_url: str) -> None:
    client_of(dynamodb_url).create_table(
        TableName=table_of(dynamodb_url),
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
    )
    lacks = (
        r"lacks: the key session_id .*sk .*the index all_updated on all_key \(HASH\), updated_key \(RANGE\) with kind"
    )
    with sessile.open(dynamodb_url) as storage, pytest.raises(StorageError, match=lacks):
        storage.session("s")


def test_a_table_that_another_process_is_creating_is_waited_for(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    def creating(_: Any) -> tuple[int, dict[str, Any]]:
        table = client_of(dynamodb_url).describe_table(TableName=table_of(dynamodb_url))["Table"]
        kept = ("TableName", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes")
        return 200, {"Table": {**{name: table[name] for name in kept}, "TableStatus": "CREATING"}}

    proxy.fail("DescribeTable", creating, times=3)
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as storage:
        storage.add_run("s", input="a")
        assert inputs(storage) == ["a"]
    assert proxy.seen["DescribeTable"] == 4


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
    view = storage.load_session("s", last_runs=2)
    assert view is not None
    assert [run.input for run in view.runs] == [text, "small"]
    assert storage.delete("s")
    assert all_items(dynamodb_url) == []


def test_a_large_commit_that_loses_its_race_leaves_nothing(storage: Storage, dynamodb_url: str) -> None:
    driver = driver_of(storage)
    storage.run_operation(lambda core: core.prepare(core.deadline()))
    body = json.dumps("x" * (TRANSACTION_BYTES + BODY_BYTES))

    async def append(write: Append) -> bool:
        return await driver.append(write, Deadline(30))

    def run(write: Append) -> bool:
        return storage.run_operation(lambda _: append(write))

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
            client_of(dynamodb_url).transact_write_items(**request)
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
        head = storage.session("s")
        assert head is not None
        assert len(head.state["k"]) == 256 * 1024 - 20
        with pytest.raises(StorageError, match=r"has .* bytes; an item of DynamoDB's has at most 409,600") as caught:
            storage.update_state("s", {"more": "x" * 200_000})
        assert caught.value.written == "no"
        assert storage.session("s") == head


def test_pieces_that_are_missing_are_told(storage: Storage, dynamodb_url: str) -> None:
    storage.add_run("s", input="x" * 1_000_000)
    (piece, *_) = [item for item in all_items(dynamodb_url) if item["sk"]["S"].startswith("chunk#")]
    client_of(dynamodb_url).delete_item(TableName=table_of(dynamodb_url), Key=piece)
    with pytest.raises(CorruptDataError, match="lacks pieces"):
        storage.runs("s")


def test_commits_that_are_missing_are_told(storage: Storage, dynamodb_url: str) -> None:
    storage.add_run("s", input="x")
    (commit,) = [item for item in all_items(dynamodb_url) if item["sk"]["S"].startswith("log#")]
    client_of(dynamodb_url).delete_item(TableName=table_of(dynamodb_url), Key=commit)
    with pytest.raises(CorruptDataError, match="not in its log"):
        storage.load_session("s")


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
    through.add_run("s", input="a", user_id="ada")
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
        through.run_operation(lambda core: core.driver.append(append_of(), Deadline(20)))
    assert (caught.value.written, caught.value.retry) == (written, True)


def test_a_deadline_ends_the_waiting(dynamodb_url: str, through: Storage, proxy: FaultyProxy) -> None:
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url)), timeout=0.3) as hurried:
        hurried.setup()
        proxy.fail("GetItem", BUSY["throttled"], times=1000)
        with pytest.raises((DeadlineError, StorageUnavailableError)) as caught:
            hurried.session("s")
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
    assert through.run_operation(lambda core: core.driver.append(append_of(), Deadline(20)))
    assert proxy.seen["TransactWriteItems"] == 2


def test_what_a_transaction_was_refused_for_decides(through: Storage, proxy: FaultyProxy) -> None:
    """A failed condition is a lost race, whatever else was wrong; a mistake is no reason to try again."""
    through.create_session("s")

    def append() -> bool:
        return through.run_operation(lambda core: core.driver.append(append_of("other"), Deadline(20)))

    proxy.fail("TransactWriteItems", cancelled("TransactionConflict", "ConditionalCheckFailed"))
    assert append() is False
    proxy.fail("TransactWriteItems", cancelled("TransactionConflict", "ValidationError"))
    with pytest.raises(StorageError, match="ValidationError") as caught:
        append()
    assert not caught.value.retry


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
        through.session("s")
    assert not caught.value.retry


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
        assert through.session(session_id) is None
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
    through.run_operation(lambda core: core.driver.append(append, Deadline(20)))

    def append_first(request: Any) -> tuple[int, dict[str, Any]]:
        row = append.commits[0]._replace(seq=2, commit_id="late")
        late = append._replace(expected=1, commits=(row,), head=append.head._replace(revision=2))
        with sessile.open(dynamodb_url) as other:
            assert other.run_operation(lambda core: core.driver.append(late, Deadline(20)))
        client_of(dynamodb_url).delete_item(**request)
        return 200, {}

    proxy.fail("DeleteItem", append_first)
    through.run_operation(lambda core: core.driver.delete("s", append.incarnation, Deadline(20)))
    assert all_items(dynamodb_url) == []


def test_a_look_in_the_midst_of_a_commit_is_repeated(through: Storage, proxy: FaultyProxy) -> None:
    """A query is no transaction: it may see the new head without the new commit."""
    through.add_run("s", input="a")

    def without_log(request: Any) -> tuple[int, dict[str, Any]]:
        wanted = {name: request[name] for name in ("TableName", "KeyConditionExpression", "ExpressionAttributeValues")}
        answer = client_of(proxy._target).query(**wanted, ConsistentRead=True)
        return 200, {"Items": [item for item in answer["Items"] if item["sk"]["S"] == HEAD], "Count": 1}

    proxy.fail("Query", without_log, times=2)
    view = through.load_session("s")
    assert view is not None
    assert [run.input for run in view.runs] == ["a"]


def test_what_an_interrupted_deletion_of_an_earlier_session_has_left_is_not_read(
    storage: Storage, dynamodb_url: str
) -> None:
    client, table = client_of(dynamodb_url), table_of(dynamodb_url)
    storage.add_run("s", input="old")
    (old,) = [item for item in client.scan(TableName=table)["Items"] if item["sk"]["S"].startswith("log#")]
    storage.delete("s")
    for incarnation in ("0", "zzz"):
        item = {**old, "sk": {"S": f"log#{incarnation}#{1:020}"}}
        client.put_item(TableName=table, Item=item)
    for number in range(3):
        storage.add_run("s", input=number)
    view = storage.load_session("s", last_runs=2)
    assert view is not None
    assert [run.input for run in view.runs] == [1, 2]
    assert inputs(storage) == [0, 1, 2]
    assert storage.verify("s") == 3


def test_a_session_in_a_newer_layout_is_refused(storage: Storage, dynamodb_url: str) -> None:
    storage.add_run("s", input="x")
    client_of(dynamodb_url).update_item(
        TableName=table_of(dynamodb_url),
        Key={"session_id": {"S": "s"}, "sk": {"S": HEAD}},
        UpdateExpression="SET layout = :newer",
        ExpressionAttributeValues={":newer": {"N": "2"}},
    )
    for read in (storage.session, storage.runs, storage.delete):
        with pytest.raises(NewerVersionError, match="stored in layout 2; this Sessile knows 1"):
            read("s")


# ---------------------------------------------------------------- lists


def test_lists_show_true_rows_where_an_index_is_out_of_date(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """What the index says of a session that was deleted or changed meanwhile is compared with its head."""
    for session_id in ("a", "b", "c"):
        through.create_session(session_id, user_id="ada")
    client = client_of(dynamodb_url)

    def stale(request: Any) -> tuple[int, dict[str, Any]]:
        answer = client.query(**{name: value for name, value in request.items() if name != "Limit"})
        old = {"Items": answer["Items"], "Count": answer["Count"]}
        through.delete("a")
        through.rename("b", "new name")
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
        through.create_session(f"s{number}", user_id="ada", owner="a", metadata={"n": number % 2})
    proxy.seen.clear()
    assert through.count_sessions(user_id="ada") == 12
    assert proxy.seen["BatchGetItem"] == 0
    assert through.count_sessions(metadata={"n": 1}) == 6
    assert through.count_sessions(user_id="ada", owner="b") == 0
    nobody = ListQuery(since=5, until=4)
    assert through.run_operation(lambda core: core.driver.count(nobody, core.deadline())) == 0
    assert through.run_operation(lambda core: core.driver.list(nobody, core.deadline())) == []


# ---------------------------------------------------------------- what a turn costs


def test_a_turn_costs_the_same_in_the_10th_run_and_in_the_1000th(dynamodb_url: str) -> None:
    def turn(number: int) -> tuple[float, float]:
        meter.reset()
        storage.load_session("s", last_runs=3)
        storage.add_run("s", input=f"question {number:04}", output="answer", user_id="ada", owner="support")
        return meter.read, meter.write

    client = client_of(dynamodb_url)
    with Meter(client) as meter, DynamoDbStorage(table_of(dynamodb_url), client=client) as storage:
        figures = [turn(number) for number in range(1, 1001)]
    assert figures[9] == figures[-1] == max(figures)
    assert min(figures[9]) > 0


def test_a_session_that_stands_already(storage: Storage) -> None:
    storage.create_session("s")
    with pytest.raises(AlreadyExistsError):
        storage.create_session("s")
