"""The proxy forwards what it should, cuts where it is told, and knows where messages end."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pymongo
import pymysql
import pytest
import redis
from tests.servers.fixtures import connect_mysql
from tests.servers.redis import redis_client

from sessile.testing.proxy import (
    CuttingProxy,
    Direction,
    Framing,
    http_messages,
    mongodb_messages,
    mongodb_monitoring,
    mysql_messages,
    postgres_messages,
    redis_messages,
)


class Echo(socketserver.BaseRequestHandler):
    """Sends everything back, and notes what it has received."""

    def handle(self) -> None:
        try:
            while chunk := self.request.recv(65536):
                self.server.received += chunk
                self.request.sendall(chunk)
        except ConnectionResetError:
            self.server.resets += 1


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = False  # closing the server waits for its handlers

    def __init__(self, name: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.name = name
        self.received = b""
        self.resets = 0

    def finish_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        if self.name:
            request.sendall(self.name)
        super().finish_request(request, client_address)

    @property
    def port(self) -> int:
        return self.server_address[1]

    def __enter__(self) -> EchoServer:
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Wait until all clients have gone."""
        if self.thread.is_alive():
            self.shutdown()
            self.thread.join()
            self.server_close()


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        yield server


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[CuttingProxy]:
    with CuttingProxy("127.0.0.1", echo.port) as running:
        yield running


def connect(proxy: CuttingProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def receive(client: socket.socket, count: int) -> bytes:
    """So many bytes, or as many as come before the end."""
    received = b""
    while len(received) < count and (chunk := client.recv(count - len(received))):
        received += chunk
    return received


def receive_until_reset(client: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := client.recv(65536):
            received += chunk
    except ConnectionResetError:
        return received
    pytest.fail("the connection was closed, not reset")


# ---------------------------------------------------------------- forwarding


def test_it_forwards_both_ways_over_several_connections(proxy: CuttingProxy) -> None:
    texts = [bytes([65 + number]) * 300_000 for number in range(5)]
    clients = [connect(proxy) for _ in texts]
    for client, text in zip(clients, texts, strict=True):
        threading.Thread(target=client.sendall, args=(text,)).start()
    for client, text in zip(clients, texts, strict=True):
        assert receive(client, len(text)) == text
    assert proxy.connections == 5
    for client in clients:
        client.close()


def test_an_end_of_one_direction_is_forwarded(proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 1000) == b"last words"


def test_it_records_bytes_and_chunks(proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"before")
        receive(client, 6)
        recording = proxy.record()
        for text in (b"one", b"three"):
            client.sendall(text)
            receive(client, len(text))
    assert (recording.request.total, recording.answer.total) == (8, 8)
    assert recording.request.chunk_ends == recording.request.boundaries == [3, 8]


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("count", [0, 1, 7, 99_999, 100_000])
def test_a_request_is_cut_after_exactly_so_many_bytes(count: int, echo: EchoServer, proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"before")
        receive(client, 6)
        proxy.cut_after("request", count)
        with suppress(ConnectionError):  # it may be cut while this is sent
            client.sendall(b"x" * 100_000)
        receive_until_reset(client)
    echo.end()
    assert len(echo.received) == 6 + count
    assert echo.resets == 1
    assert proxy.cuts == 1


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("count", [0, 1, 7, 100_000])
def test_an_answer_is_cut_after_exactly_so_many_bytes(
    count: int, reset: bool, echo: EchoServer, proxy: CuttingProxy
) -> None:
    with connect(proxy) as client:
        proxy.cut_after("answer", count, reset=reset)
        client.sendall(b"x" * 100_000)
        got = receive_until_reset(client) if reset else receive(client, 200_000)
    assert len(got) == count
    echo.end()
    assert len(echo.received) == 100_000


def test_bytes_are_counted_over_all_connections_and_all_are_cut(proxy: CuttingProxy) -> None:
    with connect(proxy) as first, connect(proxy) as second, connect(proxy) as idle:
        for each in (first, second, idle):
            each.sendall(b".")
            receive(each, 1)
        proxy.cut_after("answer", 8)
        first.sendall(b"12345")
        assert receive(first, 5) == b"12345"
        second.sendall(b"12345")
        assert receive_until_reset(second) == b"123"
        assert receive_until_reset(first) == receive_until_reset(idle) == b""
    assert proxy.connections == 0


def test_after_a_cut_new_connections_work(proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        proxy.cut_after("answer", 1)
        client.sendall(b"hello")
        assert receive_until_reset(client) == b"h"
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert receive(client, 5) == b"hello"


def test_a_cut_may_refuse_new_connections_until_healed(proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        proxy.cut_after("request", 2, refuse=True)
        client.sendall(b"hello")
        receive_until_reset(client)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.heal()
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert receive(client, 5) == b"hello"


def test_a_cut_now_ends_idle_connections(proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        receive(client, 5)
        proxy.cut()
        assert receive_until_reset(client) == b""


def test_healing_takes_back_a_cut_that_has_not_happened(proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        proxy.cut_after("request", 3)
        client.sendall(b"he")
        assert receive(client, 2) == b"he"
        assert proxy.bytes_left == 1
        proxy.heal()
        assert proxy.bytes_left == 0
        client.sendall(b"llo")
        assert receive(client, 3) == b"llo"
    assert proxy.cuts == 0


def test_healing_takes_back_a_cut_that_is_about_to_happen(proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes have been forwarded, and are being waited for."""
    begun, healed = threading.Event(), threading.Event()

    async def received(_: socket.socket) -> None:
        begun.set()
        await asyncio.to_thread(healed.wait, 30)

    monkeypatch.setattr("sessile.testing.proxy._received", received)
    with connect(proxy) as client:
        proxy.cut_after("request", 2, refuse=True)
        client.sendall(b"hello")
        assert begun.wait(30)
        proxy.heal()
        healed.set()
        assert receive(client, 5) == b"hello"
    connect(proxy).close()
    assert proxy.cuts == 0


def test_refusing_leaves_open_connections_alone(proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        receive(client, 5)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        client.sendall(b"hello")
        assert receive(client, 5) == b"hello"


def test_stalled_bytes_arrive_when_healed(echo: EchoServer, proxy: CuttingProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"1")
        receive(client, 1)
        proxy.stall()
        client.sendall(b"2")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert echo.received == b"1"
        with connect(proxy) as second:  # connections can be made
            proxy.heal()
            client.settimeout(30)
            assert receive(client, 1) == b"2"
            second.sendall(b"3")
            assert receive(second, 1) == b"3"


def test_retargeting_leads_new_connections_elsewhere(proxy: CuttingProxy) -> None:
    with EchoServer(b"second: ") as second, connect(proxy) as before:
        before.sendall(b"hello")
        receive(before, 5)
        proxy.retarget("127.0.0.1", second.port)
        before.sendall(b"hello")
        assert receive(before, 5) == b"hello"
        with connect(proxy) as after:
            after.sendall(b"hello")
            assert receive(after, 13) == b"second: hello"


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with EchoServer() as gone:
        pass
    with CuttingProxy("127.0.0.1", gone.port) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


def test_leaving_ends_connections_and_the_thread(echo: EchoServer) -> None:
    with CuttingProxy("127.0.0.1", echo.port) as proxy:
        client = connect(proxy)
        client.sendall(b"hello")
        receive(client, 5)
    with client:
        assert receive_until_reset(client) == b""
    assert "cutting proxy" not in {thread.name for thread in threading.enumerate()}


# ---------------------------------------------------------------- messages


def ends(framing: Framing, direction: Direction, stream: bytes, chunk: int) -> list[int]:
    """Where the messages of a stream end that arrives in chunks of a size, as a recording has them."""
    with EchoServer() as echo, CuttingProxy("127.0.0.1", echo.port, framing=framing) as proxy:
        recording = proxy.record()
        with connect(proxy) as client:
            for start in range(0, len(stream), chunk):
                part = stream[start : start + chunk]
                client.sendall(part)
                assert receive(client, len(part)) == part
        return recording.track(direction).boundaries


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_messages_of_postgres_are_found_in_any_chunks(chunk: int) -> None:
    encryption = bytes.fromhex("00000008 04d2162f")
    startup = bytes.fromhex("0000000c 00030000 75007600")
    query = b"Q\x00\x00\x00\x0dSELECT 1\x00"
    assert ends(postgres_messages, "request", encryption + startup + query + query, chunk) == [8, 20, 34, 48]


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_messages_of_mysql_are_found_in_any_chunks(chunk: int) -> None:
    stream = b"\x05\x00\x00\x00hello" + b"\x00\x00\x00\x01" + b"\x2c\x01\x00\x02" + b"x" * 300
    assert ends(mysql_messages, "request", stream, chunk) == [9, 13, 317]


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_messages_of_redis_are_found_in_any_chunks(chunk: int) -> None:
    command = b"*3\r\n$3\r\nSET\r\n$2\r\n\r\n\r\n$0\r\n\r\n"  # whose key is the end of a line
    nested = b"*4\r\n*2\r\n$-1\r\n:7\r\n*0\r\n*-1\r\n+OK\r\n"
    other = b"%1\r\n$1\r\na\r\n#t\r\n" + b"-ERR no\r\n" + b"$300\r\n" + b"x" * 300 + b"\r\n"
    lengths = [len(command), len(nested), 15, 9, 308]
    assert ends(redis_messages, "answer", command + nested + other, chunk) == list(accumulate(lengths))


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_messages_of_http_are_found_in_any_chunks(chunk: int) -> None:
    """Heads and bodies each; what has no body is a head alone."""
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
    stream = head + b"hello" + b"GET / HTTP/1.1\r\n\r\n" + head.lower() + b"hello"
    size = len(head)
    assert ends(http_messages, "request", stream, chunk) == [size, size + 5, size + 23, 2 * size + 23, 2 * size + 28]


@pytest.mark.parametrize("chunk", [1, 2, 5, 1000])
def test_messages_of_mongodb_are_found_in_any_chunks(chunk: int) -> None:
    """Each begins with its whole length."""
    stream = b"\x15\x00\x00\x00" + b"h" * 17 + b"\x2c\x01\x00\x00" + b"x" * 296
    assert ends(mongodb_messages, "answer", stream, chunk) == [21, 321]


def mongodb_proxy(host: str, port: int) -> CuttingProxy:
    return CuttingProxy(host, port, framing=mongodb_messages, monitoring=mongodb_monitoring)


def test_what_a_client_sends_to_watch_its_server_does_not_count(mongodb_url: str) -> None:
    parts = urlsplit(mongodb_url)
    with mongodb_proxy(parts.hostname or "", parts.port or 0) as proxy:
        recording = proxy.record()
        proxy.cut_after("request", 0)
        address = parts._replace(netloc=proxy.address, query="heartbeatFrequencyMS=500").geturl()
        heartbeats = Heartbeats()
        with pymongo.MongoClient[Any](address, event_listeners=[heartbeats]) as client:
            for _ in range(2):
                assert heartbeats.answered.acquire(timeout=30)
            assert (recording.request.total, recording.answer.total, proxy.cuts) == (0, 0, 0)
            with pytest.raises(pymongo.errors.AutoReconnect):
                client.get_default_database()["t"].insert_one({"_id": 0})
            assert proxy.cuts == 1


class Heartbeats(pymongo.monitoring.ServerHeartbeatListener):
    """Counts the answers of a server that is watched."""

    def __init__(self) -> None:
        self.answered = threading.Semaphore(0)

    def started(self, event: object) -> None:
        pass

    def succeeded(self, event: object) -> None:
        self.answered.release()

    def failed(self, event: object) -> None:
        pass


def test_it_stands_between_pymongo_and_its_server(mongodb_url: str) -> None:
    parts = urlsplit(mongodb_url)
    with mongodb_proxy(parts.hostname or "", parts.port or 0) as proxy:
        address = parts._replace(netloc=proxy.address).geturl()
        with pymongo.MongoClient[dict[str, Any]](address) as client, pymongo.MongoClient[Any](mongodb_url) as direct:
            client.get_default_database()["t"].insert_one({"_id": 0})
            recording = proxy.record()
            client.get_default_database()["t"].insert_one({"_id": 1})
            proxy.record()  # so that it is complete
            assert recording.request.message_ends == [recording.request.total]
            assert recording.answer.message_ends == [recording.answer.total]
            proxy.cut_after("answer", 0)
            with pytest.raises(pymongo.errors.AutoReconnect):
                client.get_default_database()["t"].insert_one({"_id": 2})
            found = direct.get_default_database()["t"].find(sort=[("_id", 1)])
            assert [document["_id"] for document in found] == [0, 1, 2], "only the answer was lost"


def test_it_stands_between_psycopg_and_postgres(postgres_url: str) -> None:
    info = psycopg.conninfo.conninfo_to_dict(postgres_url)
    target = str(info["host"]), int(info.get("port") or 5432)
    with CuttingProxy(*target, framing=postgres_messages) as proxy:
        start = proxy.record()
        address = {"host": "127.0.0.1", "port": proxy.port, "sslmode": "disable"}
        with psycopg.connect(postgres_url, **address, autocommit=True) as connection:
            assert start.request.boundaries[-1] == start.request.total, "the start ends with a message"
            assert start.answer.boundaries[-1] == start.answer.total
            connection.execute("CREATE TABLE t (n int)")
            recording = proxy.record()
            connection.execute("INSERT INTO t VALUES (1)")
            proxy.record()  # so that it is complete
            assert recording.request.message_ends == [recording.request.total], "one Query"
            sizes = recording.answer.message_ends
            assert len(sizes) == 2, "CommandComplete and ReadyForQuery"
            proxy.cut_after("answer", sizes[0])
            with pytest.raises(psycopg.OperationalError):
                connection.execute("INSERT INTO t VALUES (2)")
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT n FROM t ORDER BY n").fetchall() == [(1,), (2,)], "only the answer was lost"


def test_it_knows_the_answer_to_the_question_for_encryption(postgres_url: str) -> None:
    info = psycopg.conninfo.conninfo_to_dict(postgres_url)
    with CuttingProxy(str(info["host"]), int(info.get("port") or 5432), framing=postgres_messages) as proxy:
        recording = proxy.record()
        address = {"host": "127.0.0.1", "port": proxy.port, "sslmode": "prefer", "gssencmode": "disable"}
        with psycopg.connect(postgres_url, **address):
            assert recording.answer.message_ends[0] == 1
            assert recording.answer.message_ends[-1] == recording.answer.total


def test_it_stands_between_pymysql_and_mariadb(mysql_url: str) -> None:
    with connect_mysql(mysql_url) as direct, CuttingProxy(direct.host, direct.port, framing=mysql_messages) as proxy:
        through = urlsplit(mysql_url)
        address = through._replace(netloc=f"{through.netloc.rpartition('@')[0]}@{proxy.address}").geturl()
        with connect_mysql(address) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE t (n int) ENGINE=InnoDB")
            recording = proxy.record()
            cursor.execute("INSERT INTO t VALUES (1)")
            proxy.record()  # so that it is complete
            assert recording.request.message_ends == [recording.request.total]
            assert recording.answer.message_ends == [recording.answer.total]
            proxy.cut_after("answer", 0)
            with pytest.raises(pymysql.OperationalError):
                cursor.execute("INSERT INTO t VALUES (2)")
        with direct.cursor() as cursor:
            cursor.execute("SELECT n FROM t ORDER BY n")
            assert cursor.fetchall() == ((1,), (2,)), "only the answer was lost"


def test_it_stands_between_redis_py_and_redis(redis_url: str) -> None:
    direct = redis_client(redis_url)
    address = direct.connection_pool.connection_kwargs
    key = redis_url.rpartition("=")[2] + "n"
    with (
        CuttingProxy(address["host"], address["port"], framing=redis_messages) as proxy,
        redis.Redis(port=proxy.port, db=address["db"], retry=None) as client,
    ):
        client.incr(key)
        recording = proxy.record()
        client.pipeline(transaction=False).incr(key).incr(key).execute()
        for track in (recording.request, recording.answer):
            assert len(track.message_ends) == 2
            assert track.message_ends[-1] == track.total
        proxy.cut_after("answer", 0)
        with pytest.raises(redis.ConnectionError):
            client.incr(key)
    assert direct.get(key) == b"4", "only the answer was lost"
    direct.close()
