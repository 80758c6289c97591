"""Servers that speak DynamoDB's protocol: Dynoxide and moto. Neither is DynamoDB itself, which AWS alone runs.

Where the two differ, AWS's reference decides (docs.aws.amazon.com/amazondynamodb/latest/APIReference). moto knows no
`ClientRequestToken`, and its transactions are atomic for one request at a time only. Dynoxide is a program in Rust over
SQLite, built once, in some minutes, and kept in the user's cache.

`TEST_DYNAMODB_URL` names any other endpoint that speaks the protocol, with credentials in the environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, urlsplit

import boto3

from .building import alone, kept
from .process import Server, ServerMissingError, find_program

VERSION = "3.2.0"
# Its releases are optimised as a whole, by one process: that takes minutes, and is for programs that are shipped.
QUICKLY = {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
# One request at a time: with several threads moto's transactions are not atomic.
RUN_MOTO = """\
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
run_simple("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)
"""
REGION = os.environ.get("AWS_REGION", "us-east-1")
GET_DYNOXIDE = (
    f"Dynoxide {VERSION} is not on this machine, and could not be built. Get Rust 1.88 or later with rustup, then: "
    f"cargo install dynoxide-rs --version {VERSION} --locked. Or name a server in TEST_DYNAMODB_URL."
)


def use_test_credentials() -> None:
    """Emulators take any credentials, but clients want some; child processes inherit these."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")


def dynamodb_client(url: str) -> Any:
    """A client of boto3's for a `dynamodb://` URL, or for an endpoint. All tests share it."""
    return _client(endpoint_of(url))


@cache
def _client(endpoint: str) -> Any:
    return boto3.client("dynamodb", region_name=REGION, endpoint_url=endpoint)


def endpoint_of(url: str) -> str:
    """The endpoint that a `dynamodb://` URL names, or that is one itself."""
    parts = urlsplit(url)
    return parse_qs(parts.query)["endpoint"][0] if parts.scheme == "dynamodb" else url


def table_of(url: str) -> str:
    """The table of a `dynamodb://` URL."""
    return urlsplit(url).netloc


def url_of(endpoint: str, table: str) -> str:
    """The URL of a table."""
    return f"dynamodb://{table}?region={REGION}&endpoint={endpoint}"


def drop_tables(endpoint: str, prefix: str) -> None:
    """Delete all tables whose names begin so."""
    client = dynamodb_client(endpoint)
    for page in client.get_paginator("list_tables").paginate():
        for name in page["TableNames"]:
            if name.startswith(prefix):
                client.delete_table(TableName=name)


class Meter:
    """Counts the capacity units that a client's requests consume. A context manager.

    Attributes:
        read, write: since it was made, or reset.
    """

    READS = ("GetItem", "Query", "BatchGetItem")
    WRITES = ("TransactWriteItems", "PutItem", "DeleteItem", "BatchWriteItem")

    def __init__(self, client: Any) -> None:
        self.client = client
        self.reset()

    def reset(self) -> None:
        """Begin at nothing."""
        self.read = self.write = 0.0

    def _ask(self, params: dict[str, Any], **_: Any) -> None:
        params["ReturnConsumedCapacity"] = "TOTAL"

    def _note(self, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        consumed = parsed.get("ConsumedCapacity", [])
        units = sum(each["CapacityUnits"] for each in (consumed if isinstance(consumed, list) else [consumed]))
        if model.name in self.READS:
            self.read += units
        else:
            self.write += units

    def __enter__(self) -> Self:
        for operation in (*self.READS, *self.WRITES):
            self.client.meta.events.register(f"provide-client-params.dynamodb.{operation}", self._ask)
            self.client.meta.events.register(f"after-call.dynamodb.{operation}", self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for operation in (*self.READS, *self.WRITES):
            self.client.meta.events.unregister(f"provide-client-params.dynamodb.{operation}", self._ask)
            self.client.meta.events.unregister(f"after-call.dynamodb.{operation}", self._note)


class _Emulator(Server):
    accounts: ClassVar[tuple[str, ...]] = ("root",)  # whose Python and cache it needs

    @property
    def url(self) -> str:
        """Its endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        use_test_credentials()

    def ping(self) -> str | None:
        try:
            urllib.request.urlopen(self.url, timeout=5).close()
        except urllib.error.HTTPError:
            return None
        except OSError as error:
            return str(error)
        return None


class DynoxideServer(_Emulator):
    """Dynoxide, whose data survive a restart."""

    name: ClassVar[str] = "dynoxide"

    def __init__(self) -> None:
        self.program = dynoxide()
        super().__init__()

    def command(self) -> list[str]:
        return [str(self.program), "--port", str(self.port), "--db-path", str(self.folder / "data.db")]


class MotoServer(_Emulator):
    """moto's server, which keeps everything in memory."""

    name: ClassVar[str] = "moto"

    def command(self) -> list[str]:
        return [sys.executable, "-c", RUN_MOTO, str(self.port)]


def dynoxide() -> Path:
    """The program, built now if it is not there."""
    folder = kept() / f"dynoxide-{VERSION}"
    with alone(folder.name):
        return find_program(["dynoxide"], [folder / "bin"]) or _build_dynoxide(folder)


def _build_dynoxide(folder: Path) -> Path:
    cargo = find_program(["cargo"], [Path.home() / ".cargo" / "bin"])
    if cargo is None:
        raise ServerMissingError(GET_DYNOXIDE)
    crate = ["dynoxide-rs", "--version", VERSION, "--locked"]
    features = ["--no-default-features", "--features", "native-sqlite,http-server,cli"]
    command = [str(cargo), "install", "--quiet", *crate, *features, "--root", str(folder)]
    environment = {**os.environ, **QUICKLY}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ServerMissingError(f"{GET_DYNOXIDE}\n{done.stderr}")
    return folder / "bin" / "dynoxide"
