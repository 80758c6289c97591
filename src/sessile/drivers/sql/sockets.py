"""Sockets that are waited for in short steps.

A client that blocks in a socket sees nothing until the server speaks or its time limit is over: a signal's handler that
only notes something does not wake it. Here it looks ten times a second whether there is still time.
"""

from __future__ import annotations

import io
from socket import socket
from typing import TYPE_CHECKING

from ...storage.driver import Deadline

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STEP_SECONDS = 0.1
"""How often who waits looks at its deadline."""


class PatientSocket:
    """A connected socket, plain or with TLS, as clients use one; waiting for it ends by a deadline.

    That is `Deadline.for_answer`: after an interruption, what is on its way has a second. `TimeoutError` is raised
    within `STEP_SECONDS` of its end. To set another time limit has no effect.
    """

    __slots__ = ("_socket", "deadline")

    def __init__(self, connected: socket, deadline: Deadline) -> None:
        connected.settimeout(STEP_SECONDS)
        self._socket = connected
        self.deadline = deadline
        """That of what is sent and received now."""

    def recv_into(self, buffer: WriteableBuffer) -> int:
        while True:
            try:
                return self._socket.recv_into(buffer)
            except TimeoutError:
                self._check()

    def recv(self, size: int) -> bytes:
        while True:
            try:
                return self._socket.recv(size)
            except TimeoutError:
                self._check()

    def recv_exactly(self, size: int) -> bytes:
        """So many bytes; less if the connection ends before."""
        received = bytearray(size)
        rest = memoryview(received)
        while rest and (got := self.recv_into(rest)):
            rest = rest[got:]
        return bytes(received[: size - len(rest)])

    def sendall(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)  # nearly always all of it
        except TimeoutError:
            self._check()
            sent = 0
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:])

    def _send_rest(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except TimeoutError:
                self._check()

    def _check(self) -> None:
        if self.deadline.for_answer() <= 0:
            raise TimeoutError("no answer in time")

    def settimeout(self, seconds: float | None) -> None:
        """Nothing: the deadline is the time limit."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def shutdown(self, how: int) -> None:
        self._socket.shutdown(how)

    def close(self) -> None:
        self._socket.close()


class PatientReader(io.RawIOBase):
    """What a socket receives, as a stream without a buffer."""

    def __init__(self, patient: PatientSocket) -> None:
        self._patient = patient

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return self._patient.recv_into(buffer)
