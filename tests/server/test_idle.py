"""What a server keeps for streams in which nothing happens: a process of its own, whose memory is looked at."""

from __future__ import annotations

import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from tests.campaigns import TORTURE
from tests.server.test_kill import is_ready, started

STREAMS = 10_000 if TORTURE else 300
AT_ONCE = 100
BYTES_EACH = 80_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc says what a process takes")


@pytest.fixture
def files() -> Iterator[None]:
    """As many open files as this process may have; its children, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < STREAMS + 200:
        pytest.skip(f"a process may have {hard} open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, STREAMS + 200), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024


def asked(address: tuple[str, int], path: str) -> socket.socket:
    connection = socket.create_connection(address, timeout=60)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Sessile: 1\r\n\r\n".encode())
    return connection


def counted(address: tuple[str, int]) -> str:
    """What the server counts."""
    text = ""
    with asked(address, "/metrics") as connection:
        while "sessile_streams " not in text or not text.endswith("\n"):
            text += connection.recv(65536).decode()
    return text


def idle(address: tuple[str, int], stack: ExitStack, count: int) -> None:
    """So many streams, each of which has begun."""
    for begin in range(0, count, AT_ONCE):
        some = [stack.enter_context(asked(address, "/changes")) for _ in range(min(AT_ONCE, count - begin))]
        for one in some:
            assert b" 200 " in one.recv(4096)


def test_idle_streams_take_little_memory_and_give_it_back(files: None, tmp_path: Path) -> None:
    """A second wave of as many finds room where the first one was: nothing is left of that."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        address = listening.getsockname()
        server = started(listening, f"sqlite:///{tmp_path / 'sessions.db'}")
        try:
            is_ready(server)
            sizes: list[int] = []
            with ExitStack() as stack:
                idle(address, stack, AT_ONCE)
            for _ in range(2):
                gone(address)
                before = resident(server.pid)
                with ExitStack() as stack:
                    idle(address, stack, STREAMS)
                    assert f"sessile_streams {STREAMS}\n" in counted(address)
                    sizes.append(resident(server.pid))
                    assert (sizes[-1] - before) / STREAMS < BYTES_EACH
            assert sizes[1] < sizes[0] + 0.2 * STREAMS * BYTES_EACH
        finally:
            server.send_signal(signal.SIGTERM)
            server.communicate()


def gone(address: tuple[str, int]) -> None:
    """Wait until the server knows that nobody reads any more."""
    until = time.monotonic() + 120
    while "sessile_streams 0\n" not in counted(address):
        assert time.monotonic() < until, "there are streams whose readers have gone"
        time.sleep(0.1)
