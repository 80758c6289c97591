"""Answers as Sessile reads them, held against what PyMySQL makes of the same ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pymysql
import pytest
from tests.mysql.helpers import driver_of, sql

from sessile import MySQLStorage
from sessile.drivers.mysql.answers import LARGEST, Packets, results
from sessile.drivers.sql.base import Result
from sessile.storage.driver import Deadline
from sessile.storage.faces import step

COLUMNS = """
SELECT 1, -1, 18446744073709551615, TRUE, NULL, 'ä€😀', '', x'00ff', _binary 'b', 1.50, CAST(0.5 AS DOUBLE),
    TIMESTAMP('2026-01-31 12:00:00.123456'), DATE('2026-01-31'), TIME('-12:30:00'), YEAR(NOW()), JSON_ARRAY(1, 'ä'),
    REPEAT('x', 250), REPEAT('x', 251), REPEAT('ä', 40000), REPEAT('x', 70000), b'101'
UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, 'y', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, 'z', NULL, NULL, NULL
"""


def answered(storage: MySQLStorage, statement: str) -> list[tuple[Any, ...]]:
    driver = driver_of(storage)
    return step(driver.port.read("Reading", statement.replace("%", "%%"), {}, Deadline(30))).rows


def test_columns_of_all_types(mysql_url: str) -> None:
    with MySQLStorage(mysql_url) as storage:
        storage.setup()
        assert answered(storage, COLUMNS) == sql(mysql_url, COLUMNS)
        assert answered(storage, "SELECT 1 WHERE FALSE") == []

    async def asynchronously() -> list[tuple[Any, ...]]:
        async with MySQLStorage(mysql_url) as storage:
            await storage.asetup()
            driver = storage._loop_cores[asyncio.get_running_loop()].driver
            return (await driver.port.read("Reading", COLUMNS, {}, Deadline(30))).rows  # type: ignore[attr-defined]

    assert asyncio.run(asynchronously()) == sql(mysql_url, COLUMNS)


def test_an_error_after_some_results(mysql_url: str) -> None:
    """The server says nothing after it; the connection goes on."""
    with MySQLStorage(mysql_url, pool_size=1) as storage:
        storage.setup()
        pool = driver_of(storage).port._pool
        connection = pool.acquire(Deadline(30))
        with pytest.raises(pymysql.err.ProgrammingError, match="nowhere"):
            connection.ask("SELECT 1; SELECT * FROM nowhere; SELECT 2")
        assert connection.ask("SELECT 3; DO 0; SELECT 4") == [Result([(3,)], 1), Result([], 0), Result([(4,)], 1)]
        pool.release(connection)


def packet(body: bytes, number: int) -> bytes:
    return len(body).to_bytes(3, "little") + bytes([number % 256]) + body


OK = bytes([0, 2, 0, 2, 0, 0, 0])
"""Two rows were changed, and nothing follows."""


def test_an_answer_that_comes_byte_by_byte() -> None:
    reading, packets = results(lambda _: None), Packets(1)
    next(reading)
    for byte in packet(OK[:3] + b"\x0a" + OK[4:], 1) + packet(OK, 2)[:-1]:
        packets.add(bytes([byte]))
        if (whole := packets.next()) is not None:
            reading.send(whole)
    packets.add(OK[-1:])
    with pytest.raises(StopIteration) as stop:
        reading.send(packets.next() or b"")
    assert stop.value.value == [Result([], 2), Result([], 2)]


def test_what_is_larger_than_a_packet() -> None:
    body = bytes(range(256)) * (2 * LARGEST // 256 + 1)
    parts = [body[start : start + LARGEST] for start in range(0, len(body), LARGEST)]
    sent = b"".join(packet(part, number) for number, part in enumerate(parts, 255))
    packets, at, chunks = Packets(255), 0, 0
    while (whole := packets.next()) is None:
        chunk = sent[at : at + (packets.wanted or 64 * 1024)]
        packets.add(chunk)
        at, chunks = at + len(chunk), chunks + 1
    assert whole == body
    assert chunks < 10  # what is large is not put together of small pieces


@pytest.mark.parametrize("received", [packet(OK, 2), packet(OK, 0), b""])
def test_an_answer_that_is_none(received: bytes) -> None:
    packets = Packets(1)
    with pytest.raises(pymysql.err.OperationalError, match="Lost connection"):  # noqa: PT012
        packets.add(received)
        packets.next()


def test_a_server_that_asks_for_a_file() -> None:
    reading = results(lambda _: None)
    next(reading)
    with pytest.raises(pymysql.err.OperationalError, match="file"):
        reading.send(b"\xfb/etc/passwd")
