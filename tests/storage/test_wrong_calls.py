"""What client libraries raise over arguments that they cannot use is never raw: a URL is somebody's setting."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile.errors import InvalidInputError, SessileError, StorageError

LONG = "h" * 300

WRONG = [
    "sqlite:///{folder}/a.db?timeout=x",
    "sqlite:///{folder}/a.db?foo=1",
    "json:///{folder}/j?foo=1",
    "postgresql://u@127.0.0.1:1/db?pool_size=x",
    "postgresql://u@127.0.0.1:1/db?connect_timeout=x",
    "postgresql://u@127.0.0.1:1/d%00b",
    f"mysql://u@{LONG}/db",
    "mysql://u@ex..ample:1/db",
    "mysql://u:%F0%9F%98%80@127.0.0.1:1/db",
    "redis://127.0.0.1:1/0?retry_on_error=1",
    "redis://127.0.0.1:1/0?socket_timeout=x",
    "redis://ex..ample:1/0",
    f"redis://{LONG}:1/0",
    "mongodb://127.0.0.1:1/d%00b",
    "mongodb://127.0.0.1:1/db?maxPoolSize=x",
    "mongodb://127.0.0.1:1/db?tls=true&tlsCAFile=/no/such",
    "dynamodb://t?endpoint=x",
    "s3://b/p?endpoint=x",
    "sqlalchemy+sqlite:///{folder}/b.db?timeout=x",
    "sqlalchemy+mysql+pymysql://u@127.0.0.1:1/db?read_timeout=-1",
    "sqlalchemy+mysql+pymysql://u@127.0.0.1:1/db?charset=nope",
    "sqlalchemy+mysql+pymysql://u@127.0.0.1:1/db?foo=1",
    "sqlalchemy+mysql+aiomysql://u@127.0.0.1:1/db?connect_timeout=x",
]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """With keys in the environment a client goes as far as to a request."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("url", WRONG, ids=lambda url: url.replace(LONG, "hhh"))
def test_it_is_an_error_of_ours(url: str, asynchronous: bool, tmp_path: Path) -> None:
    def ask() -> None:
        with sessile.open(url.format(folder=tmp_path), timeout=2) as storage:
            asyncio.run(storage.aget_session("s")) if asynchronous else storage.get_session("s")

    with pytest.raises(SessileError) as caught:
        ask()
    assert "\U0001f600" not in str(caught.value)


def test_what_can_never_work_is_a_wrong_argument() -> None:
    for url in ("mysql://u@ex..ample:1/db", "redis://127.0.0.1:1/0?retry_on_error=1"):
        with sessile.open(url) as storage, pytest.raises(InvalidInputError, match="refuses how it is called"):
            storage.get_session("s")


class PanicException(BaseException):
    """As obstore's, where its own code cannot go on."""


def test_a_client_that_gives_up_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def put(*args: Any, **kwargs: Any) -> None:
        raise PanicException

    monkeypatch.setattr("obstore.put", put)
    with sessile.open("s3://b/p?endpoint=http://127.0.0.1:1", timeout=2) as storage:
        with pytest.raises(StorageError, match="obstore gives up") as caught:
            storage.get_session("s")
        assert caught.value.written != "yes"
