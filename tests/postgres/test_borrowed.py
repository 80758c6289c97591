"""`PostgresStorage` in a transaction of the application's, on connections as applications make them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from sessile import PostgresStorage
from sessile.errors import InvalidInputError, ReadOnlyError, StorageUnavailableError, UnsupportedError
from sessile.storage.core import Core
from sessile.storage.extending import operate


@pytest.fixture
def storage(postgres_url: str) -> Iterator[PostgresStorage]:
    """What others see."""
    with PostgresStorage(postgres_url) as outside:
        outside.setup()
        yield outside


def inputs(storage: PostgresStorage) -> list[Any]:
    return [run.input for run in storage.runs("s")]


@pytest.mark.parametrize(
    "options",
    [{"row_factory": dict_row}, {"cursor_factory": psycopg.RawCursor}, {"cursor_factory": psycopg.ClientCursor}],
    ids=["rows-are-dicts", "raw-cursors", "client-cursors"],
)
def test_a_connection_with_cursors_of_the_applications_choice(
    postgres_url: str, storage: PostgresStorage, options: dict[str, Any]
) -> None:
    with psycopg.connect(postgres_url, **options) as connection:
        PostgresStorage(connection).add_run("s", input="a")
        assert inputs(PostgresStorage(connection)) == ["a"]
        connection.rollback()
        assert inputs(storage) == []
        PostgresStorage(connection).add_run("s", input="b")
    assert inputs(storage) == ["b"]


async def test_an_asynchronous_connection_whose_rows_are_dicts(postgres_url: str, storage: PostgresStorage) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url, row_factory=dict_row) as connection:
        await PostgresStorage(connection).aadd_run("s", input="a")
    assert inputs(storage) == ["a"]


def test_a_connection_that_cannot_carry_all_text_is_refused(postgres_url: str) -> None:
    with (
        psycopg.connect(postgres_url, client_encoding="latin1") as connection,
        pytest.raises(InvalidInputError, match="client_encoding"),
    ):
        PostgresStorage(connection)


def test_a_connection_that_was_closed_is_refused(postgres_url: str) -> None:
    connection = psycopg.connect(postgres_url)
    connection.close()
    with pytest.raises(InvalidInputError, match="closed"):
        PostgresStorage(connection)


async def read_once(core: Core) -> None:
    await core.driver.load("s", 0, core.deadline())


async def write_once(core: Core) -> None:
    await core.driver.put_record("s", "x", "key", b"", core.deadline())


@pytest.mark.parametrize(
    ("operation", "autocommit", "written"),
    [(read_once, True, "no"), (write_once, True, "unknown"), (write_once, False, "no")],
)
def test_what_is_known_of_a_write_whose_connection_is_lost(
    postgres_url: str, storage: PostgresStorage, operation: Any, autocommit: bool, written: str
) -> None:
    """Nothing is there of a transaction that the application has not committed."""
    connection = psycopg.connect(postgres_url, autocommit=autocommit)
    ours = PostgresStorage(connection)
    ours.add_run("s", input="a")
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    with pytest.raises(StorageUnavailableError, match="Roll the transaction back") as caught:
        operate(ours, operation)
    assert (caught.value.written, caught.value.retryable) == (written, False)
    connection.close()
    assert inputs(storage) == (["a"] if autocommit else [])


def test_a_connection_that_is_closed_later(postgres_url: str, storage: PostgresStorage) -> None:
    connection = psycopg.connect(postgres_url)
    ours = PostgresStorage(connection)
    ours.add_run("s", input="a")
    connection.close()
    with pytest.raises(
        StorageUnavailableError, match=r"never opened\. Make a storage with an open connection"
    ) as caught:
        ours.add_run("s", input="b")
    assert (caught.value.written, caught.value.retryable) == ("no", False)


def test_a_connection_in_pipeline_mode_is_used_after_it(postgres_url: str, storage: PostgresStorage) -> None:
    with psycopg.connect(postgres_url) as connection:
        ours = PostgresStorage(connection)
        with connection.pipeline(), pytest.raises(UnsupportedError, match="outside of `with"):
            ours.add_run("s", input="a")
        ours.add_run("s", input="b")
    assert inputs(storage) == ["b"]


def test_a_transaction_that_may_only_read(postgres_url: str, storage: PostgresStorage) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.read_only = True
        ours = PostgresStorage(connection)
        with pytest.raises(ReadOnlyError, match="begin one that may write") as caught:
            ours.add_run("s", input="a")
        assert (caught.value.written, caught.value.retryable) == ("no", False)
        connection.rollback()
        connection.read_only = False
        ours.add_run("s", input="b")
    assert inputs(storage) == ["b"]
