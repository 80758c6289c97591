"""`DynamoDbStorage` when connections break and the server goes away."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import aiohttp
import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError
from tests.servers import DynoxideServer
from tests.servers.dynamodb import REGION, table_of, url_of
from tests.servers.networks import READ_SAMPLES, RESTARTS, SAMPLES, check, dynamodb_network
from urllib3.exceptions import NewConnectionError

from sessile import DynamoDbStorage
from sessile.drivers.dynamodb.errors import translate
from sessile.storage import Storage
from sessile.testing import Scale, run_absent, run_cuts, run_exhausted, run_read_cuts, run_restarts


def test_cuts_anywhere_in_a_commit(dynamodb_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(dynamodb_network(dynamodb_url), scale, samples=SAMPLES and SAMPLES // 2), capsys)


def test_cuts_anywhere_in_a_read(dynamodb_url: str, scale: Scale) -> None:
    run_read_cuts(dynamodb_network(dynamodb_url), scale, samples=READ_SAMPLES and READ_SAMPLES // 2).check()


def test_cuts_in_reads_of_the_applications_own_client(dynamodb_url: str) -> None:
    config = Config(retries={"total_max_attempts": 1, "mode": "standard"})

    def connect(host: str, port: int, **options: Any) -> Storage:
        client = boto3.client("dynamodb", region_name=REGION, endpoint_url=f"http://{host}:{port}", config=config)
        return DynamoDbStorage(table_of(dynamodb_url), client=client, **options)

    network = replace(dynamodb_network(dynamodb_url), connect=connect)
    run_read_cuts(network, Scale(1), samples=4, faces=("sync",)).check()


@pytest.mark.parametrize(
    ("cause", "written"),
    [
        (aiohttp.ClientOSError(104, "Connection reset by peer"), "unknown"),
        (aiohttp.ServerDisconnectedError(), "unknown"),
        (ConnectionRefusedError(), "unknown"),
        (aiohttp.ClientConnectorError(None, OSError(111, "Connection refused")), "no"),  # type: ignore[arg-type]
        (NewConnectionError(None, "refused"), "no"),  # type: ignore[arg-type]
        (socket.gaierror(), "no"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_endpoint_that_cannot_be_reached_or_no_more(cause: Exception, written: str) -> None:
    """aiobotocore calls both the same; a connection that broke may have carried the request."""
    error = EndpointConnectionError(endpoint_url="http://localhost", error=cause)
    translated = translate(error, "Appending", "table", "unknown")
    assert (translated.written, translated.retryable) == (written, True)


def test_a_server_that_is_not_there_at_first_use(dynamodb_url: str) -> None:
    run_absent(dynamodb_network(dynamodb_url))


def test_a_server_that_does_not_answer(dynamodb_url: str) -> None:
    """An attempt ends with the storage's timeout, also for synchronous callers, and connections are made anew."""
    run_exhausted(dynamodb_network(dynamodb_url, pool_size=2, timeout=3.0), pool_size=2)


def test_threads_share_no_more_connections_than_the_pool_may_have(dynamodb_url: str) -> None:
    network = dynamodb_network(dynamodb_url, pool_size=2)
    with network.proxy() as proxy, network.connect("127.0.0.1", proxy.port) as storage, ThreadPoolExecutor(8) as pool:
        storage.create_session("s")
        writers = [pool.submit(storage.add_run, "s", input=number) for number in range(24)]
        while not all(writer.done() for writer in writers):
            assert proxy.connections <= 2
        assert sorted(writer.result().number for writer in writers) == [*range(1, 25)]


def test_restarts_while_many_write(
    own_dynamodb: DynoxideServer, scale: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    """The emulator is killed in the midst of commits, and started again on its data."""
    network = dynamodb_network(url_of(own_dynamodb.url, "sessile"))
    figures = run_restarts(network, own_dynamodb, scale, restarts=RESTARTS)
    check(figures, capsys)
    assert figures.rounds == RESTARTS
