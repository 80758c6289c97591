"""Sockets that are waited for in steps: plain ones and with TLS."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.certificates import write_certificate

from sessile.drivers.sql.sockets import PatientReader, PatientSocket
from sessile.storage.driver import Deadline
from sessile.storage.threads import Hurry, hurry

LARGE = bytes(range(256)) * 64 * 1024
"""More than two sockets hold."""


@pytest.fixture(params=["plain", "TLS"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets: the client's, and a server's that blocks."""
    client, server = socket.socketpair()
    if request.param == "TLS":
        write_certificate(tmp_path)
        mine = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        mine.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        made: list[socket.socket] = []
        greeting = threading.Thread(target=lambda: made.append(mine.wrap_socket(server, server_side=True)))
        greeting.start()
        client = ssl.create_default_context(cafile=tmp_path / "cert.pem").wrap_socket(
            client, server_hostname="127.0.0.1"
        )
        greeting.join()
        (server,) = made
    yield client, server
    client.close()
    server.close()


def read_all(server: socket.socket, size: int) -> bytes:
    parts: list[bytes] = []
    while sum(map(len, parts)) < size:
        parts.append(server.recv(64 * 1024))
    return b"".join(parts)


def test_what_is_large_and_slow_arrives_whole(ends: tuple[socket.socket, socket.socket]) -> None:
    """The other side pauses for longer than a step, in both directions."""
    client, server = ends
    patient = PatientSocket(client, Deadline(60))
    echoed = threading.Event()

    def echo() -> None:
        time.sleep(0.3)
        received = read_all(server, len(LARGE))
        time.sleep(0.3)
        server.sendall(received)
        echoed.set()

    threading.Thread(target=echo).start()
    patient.sendall(LARGE)
    assert io.BufferedReader(PatientReader(patient)).read(len(LARGE)) == LARGE
    assert echoed.wait(60)


def test_waiting_ends_with_the_deadline(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    patient = PatientSocket(client, Deadline(0.2))
    with pytest.raises(TimeoutError):
        patient.recv(1)
    with pytest.raises(TimeoutError):
        patient.sendall(LARGE)
    patient.deadline = Deadline(60)
    server.sendall(b"late")
    assert patient.recv(4) == b"late"


def test_whoever_is_interrupted_waits_a_little_longer(ends: tuple[socket.socket, socket.socket]) -> None:
    client, server = ends
    told = Hurry()
    before = hurry.set(told)
    patient = PatientSocket(client, Deadline(60))
    hurry.reset(before)
    told.tell()
    assert patient.deadline.remaining() == 0
    server.sendall(b"soon")
    assert patient.recv(4) == b"soon"
    with pytest.raises(TimeoutError):
        patient.recv(1)
    assert patient.deadline.for_answer() == 0
