"""What a server answers to statements, read without the objects that the clients make of each packet and column.

That is half of the processor time of a load with PyMySQL, and of one with aiomysql. The protocol is described at
dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response.html; the clients have negotiated its form
of version 4.1, in which rows come as text and end with a packet of their own (no CLIENT_DEPRECATE_EOF).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pymysql
from pymysql.connections import TEXT_TYPES
from pymysql.constants import CR, FIELD_TYPE, SERVER_STATUS
from pymysql.converters import decoders

from ..sql.base import Result

OK, LOCAL_FILE, END, FAILED = 0x00, 0xFB, 0xFE, 0xFF
"""How packets begin. A row may begin like `END`, if its first column has 16 MB; it has more than eight bytes then."""

NULL = 0xFB
BINARY = 63
"""The character set of bytes."""

LARGEST = 0xFFFFFF
"""The size of a packet that goes on in the next one."""

AT_ONCE = 64 * 1024
"""How many bytes are received at once; of what is larger, as many as are missing."""

Read = Callable[[bytes], Any]
"""Makes of what was sent of a column what it means."""

INTEGERS = {FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG, FIELD_TYPE.INT24, FIELD_TYPE.YEAR}


class Packets:
    """Takes what is received of an answer apart.

    Args:
        number: that of the answer's first packet.
    """

    __slots__ = ("_at", "_number", "_parts", "_received", "wanted")

    def __init__(self, number: int) -> None:
        self._number = number
        self._received, self._at = b"", 0
        self._parts: list[bytes] = []
        self.wanted = 0
        """How many bytes to receive, exactly, before the next packet is whole; 0: as many as there are."""

    def add(self, received: bytes) -> None:
        """Take what was received; nothing means that the connection is lost."""
        if not received:
            raise lost()
        self._received = self._received[self._at :] + received
        self._at = 0

    def next(self) -> bytes | None:
        """The next packet, if it is whole."""
        received, at = self._received, self._at
        there = len(received) - at - 4
        if there < 0:
            self.wanted = 0
            return None
        size = received[at] | received[at + 1] << 8 | received[at + 2] << 16
        if there < size:
            self.wanted = size - there if size > AT_ONCE else 0
            return None
        if received[at + 3] != self._number:  # some are missing; or the server says by itself that it stops (number 0)
            raise lost()
        self._number = (self._number + 1) % 256
        self._at = end = at + 4 + size
        packet = received[at + 4 : end]
        if size == LARGEST:
            self._parts.append(packet)
            return self.next()
        if self._parts:
            packet = b"".join((*self._parts, packet))
            self._parts.clear()
        return packet


def lost(why: object = "it ended in the middle of an answer") -> pymysql.err.OperationalError:
    """The error of a connection that is of no use any more."""
    return pymysql.err.OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server during query ({why})")


def results(note: Callable[[int], None]) -> Generator[None, bytes, list[Result]]:
    """Reads the results of all statements of one text; is sent one packet after the other, without headers.

    Raises PyMySQL's error for the one that the server tells, after which it says nothing more.

    Args:
        note: is told the server's status after each result.
    """
    found: list[Result] = []
    while True:
        packet = yield
        kind = packet[0]
        if kind == OK:
            affected, at = _number(packet, 1)
            _, at = _number(packet, at)  # the number of a row that was made
            found.append(Result([], affected))
        elif kind in (FAILED, LOCAL_FILE):
            _fail(packet)
            return found
        else:
            reads: list[Read] = []
            for _ in range(_number(packet, 0)[0]):
                reads.append(_read_of((yield)))
            yield
            rows: list[tuple[Any, ...]] = []
            while True:
                packet = yield
                kind = packet[0]
                if kind == END and len(packet) < 9:
                    break
                if kind == FAILED:
                    _fail(packet)
                rows.append(_row(packet, reads))
            found.append(Result(rows, len(rows)))
            at = 3  # behind the number of warnings
        status = packet[at] | packet[at + 1] << 8
        note(status)
        if not status & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS:
            return found


def _fail(packet: bytes) -> None:
    if packet[0] == LOCAL_FILE:  # to send a file of the client's
        raise lost("it asks for a file")
    pymysql.err.raise_mysql_exception(packet)


def _number(packet: bytes, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    first = packet[at]
    if first < NULL:
        return first, at + 1
    end = at + (3, 4, 9)[first - 0xFC]
    return int.from_bytes(packet[at + 1 : end], "little"), end


def _row(packet: bytes, reads: list[Read]) -> tuple[Any, ...]:
    row: list[Any] = []
    at = 0
    for read in reads:
        size = packet[at]
        if size == NULL:
            row.append(None)
            at += 1
            continue
        if size < NULL:
            at += 1
        else:
            size, at = _number(packet, at)
        end = at + size
        row.append(read(packet[at:end]))
        at = end
    return tuple(row)


def _read_of(column: bytes) -> Read:
    """How a column is read, as PyMySQL reads it. Its description ends with 12 bytes of which each has its place."""
    kind, charset = column[-6], column[-12] | column[-11] << 8
    if kind in INTEGERS:
        return int
    if kind in TEXT_TYPES:
        return bytes if charset == BINARY else bytes.decode
    if kind == FIELD_TYPE.JSON:
        return bytes.decode
    decoder = decoders.get(kind)
    return bytes.decode if decoder is None else lambda data: decoder(data.decode())
