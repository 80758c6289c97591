"""`DynamoDbStorage`: addresses, clients and the table."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from aiobotocore.session import get_session
from tests.dynamodb.helpers import inputs
from tests.dynamodb.proxy import FaultyProxy, refusal
from tests.forking import EXIT, in_child
from tests.servers.dynamodb import REGION, dynamodb_client, endpoint_of, table_of, url_of

import sessile
from sessile import DynamoDbStorage
from sessile.errors import (
    ClosedError,
    InvalidInputError,
    ReadOnlyError,
    StorageError,
    UnsupportedError,
)
from sessile.storage import Storage

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
        lambda: DynamoDbStorage("table", endpoint=7),  # pyright: ignore[reportArgumentType]
        lambda: DynamoDbStorage("table", endpoint="http://local host"),
        lambda: DynamoDbStorage("table", endpoint="http://localhost:port"),
        lambda: DynamoDbStorage("table", endpoint="http:///path"),
        lambda: DynamoDbStorage("table", endpoint="http://user:key@localhost"),
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
    code = "import sys, sessile; sessile.open(sys.argv[1]).get_session('s')"
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
    client = dynamodb_client(dynamodb_url)
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


def test_an_asynchronous_client_serves_one_event_loop(dynamodb_url: str) -> None:
    making = get_session().create_client("dynamodb", region_name=REGION, endpoint_url=endpoint_of(dynamodb_url))
    with asyncio.Runner() as runner:
        client = runner.run(making.__aenter__())
        storage = DynamoDbStorage(table_of(dynamodb_url), client=client)
        runner.run(storage.aadd_run("s", input=1))
        with pytest.raises(UnsupportedError, match="belong to another event loop"):
            storage.add_run("s")
        runner.run(making.__aexit__(None, None, None))
    with pytest.raises(UnsupportedError, match="belong to another event loop"):
        asyncio.run(storage.aadd_run("s"))


async def test_an_asynchronous_client_that_is_closed(dynamodb_url: str) -> None:
    making = get_session().create_client("dynamodb", region_name=REGION, endpoint_url=endpoint_of(dynamodb_url))
    async with making as client:
        storage = DynamoDbStorage(table_of(dynamodb_url), client=client)
        await storage.aadd_run("s", input=1)
    with pytest.raises(StorageError, match=r"closed.*Make a storage with a client that is open") as caught:
        await storage.aadd_run("s", input=2)
    assert (caught.value.written, caught.value.retryable) == ("no", False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_after_a_storage_with_a_lent_client_was_closed(
    dynamodb_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint_of(dynamodb_url))
    storage = DynamoDbStorage(table_of(dynamodb_url), client=client)
    storage.add_run("s", input=1)
    storage.close()
    with caplog.at_level(logging.ERROR, logger="sessile"):
        assert in_child(lambda: caplog.text and EXIT(3)) == 0


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("botocore", "sessile.open('dynamodb://table')"),
        ("aiobotocore", "asyncio.run(sessile.open('dynamodb://table?region=x').aget_session('s'))"),
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
        storage.get_session("s")
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
    table = dynamodb_client(dynamodb_url).describe_table(TableName=table_of(dynamodb_url))["Table"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"


def test_who_may_not_create_the_table_hears_the_request_that_would(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    """When somebody else has sent it, everything works."""
    dynamodb_client(dynamodb_url).delete_table(TableName=table_of(dynamodb_url))
    proxy.fail("CreateTable", refusal("AccessDeniedException"))
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as limited:
        with pytest.raises(ReadOnlyError, match=r'The request was: .*"PAY_PER_REQUEST"') as caught:
            limited.add_run("s")
        assert caught.value.written == "no"
        (request,) = limited.migrate(dry_run=True)
        dynamodb_client(dynamodb_url).create_table(**json.loads(request))
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
    dynamodb_client(dynamodb_url).create_table(
        TableName=table_of(dynamodb_url),
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "N"}],
    )
    lacks = (
        r"lacks: the key session_id .*sk .*the index all_updated on all_key \(HASH\), updated_key \(RANGE\) with kind"
    )
    with sessile.open(dynamodb_url) as storage, pytest.raises(StorageError, match=lacks):
        storage.get_session("s")


def test_a_table_with_replicas_in_other_regions_is_warned_of(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    assert through.warnings() == []

    def replicated(_: Any) -> tuple[int, dict[str, Any]]:
        answer = dynamodb_client(dynamodb_url).describe_table(TableName=table_of(dynamodb_url))
        kept = ("TableName", "TableStatus", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes")
        table = {name: answer["Table"][name] for name in kept}
        return 200, {"Table": {**table, "Replicas": [{"RegionName": "eu-west-1"}, {"RegionName": "us-west-2"}]}}

    proxy.fail("DescribeTable", replicated)
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as storage:
        (warning,) = storage.warnings()
        assert "replicas in eu-west-1, us-west-2" in warning


def test_a_table_that_another_process_is_creating_is_waited_for(
    through: Storage, proxy: FaultyProxy, dynamodb_url: str
) -> None:
    def creating(_: Any) -> tuple[int, dict[str, Any]]:
        table = dynamodb_client(dynamodb_url).describe_table(TableName=table_of(dynamodb_url))["Table"]
        kept = ("TableName", "KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes")
        return 200, {"Table": {**{name: table[name] for name in kept}, "TableStatus": "CREATING"}}

    proxy.fail("DescribeTable", creating, times=3)
    with sessile.open(url_of(proxy.url, table_of(dynamodb_url))) as storage:
        storage.add_run("s", input="a")
        assert inputs(storage) == ["a"]
    assert proxy.seen["DescribeTable"] == 4


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 256, {"$gt": ""}, None, 7])
def test_what_is_no_id_is_refused_before_anything_is_sent(dynamodb_url: str, name: Any) -> None:
    with sessile.open(dynamodb_url) as storage, pytest.raises(InvalidInputError):
        storage.add_run(name)
    assert table_of(dynamodb_url) not in dynamodb_client(dynamodb_url).list_tables()["TableNames"]
