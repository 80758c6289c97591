"""A TCP proxy that cuts connections where a test wants it: after an exact number of bytes, or now.

```python
from sessile.testing.proxy import CuttingProxy, postgres_messages

with CuttingProxy("127.0.0.1", 5432, framing=postgres_messages) as proxy:
    storage = PostgresStorage(f"postgresql://{proxy.address}/app")
    recording = proxy.record()
    storage.add_run("s1", input="Hello")
    boundaries = recording.answer.boundaries     # after how many bytes each message of the answer ended

    proxy.cut_after("answer", boundaries[0])
    storage.add_run("s1", input="Hello again")   # loses its connection after the first message of the answer
```

One thread serves all connections, and every method has taken effect when it returns.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

T = TypeVar("T")

Direction = Literal["request", "answer"]
"""`request`: from the client to the server. `answer`: from the server to the client."""

Framer = Callable[[bytes], int | None]
"""The length of the message that begins with these bytes (at least one), None if more of them are needed."""

Framing = Callable[[Direction], Framer]
"""Makes the framer for one direction of a new connection; it is called once for each message and each wait for more."""

HERE = "127.0.0.1"

CHUNK = 64 * 1024
"""How much is forwarded at once, in bytes."""


# ---------------------------------------------------------------- messages of protocols


def postgres_messages(direction: Direction) -> Framer:
    """Frames version 3 of PostgreSQL's protocol, without TLS.

    A message is a type byte, and a length that counts itself. The first ones of the client have no type; the answer
    to its question for encryption is a single letter (postgresql.org/docs/current/protocol-message-formats.html).
    """
    greeted = direction == "request"

    def length(head: bytes) -> int | None:
        nonlocal greeted
        if head[0] == 0:
            return int.from_bytes(head[:4]) if len(head) >= 4 else None
        if not greeted and head[:1] in (b"N", b"S"):
            return 1
        greeted = True
        return 1 + int.from_bytes(head[1:5]) if len(head) >= 5 else None

    return length


def mysql_messages(direction: Direction) -> Framer:
    """Frames the packets of MySQL's protocol, without TLS and compression.

    A packet is a length of three bytes, lowest first, a number, and so many bytes
    (dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_basic_packets.html).
    """
    del direction
    return lambda head: 4 + int.from_bytes(head[:3], "little") if len(head) >= 3 else None


def redis_messages(direction: Direction) -> Framer:
    """Frames the commands and answers of Redis and Valkey, version 2 or 3 of their protocol, without TLS.

    A value is a line, after which come so many bytes (texts), or so many further values (arrays, maps)
    (redis.io/docs/latest/develop/reference/protocol-spec).
    """
    del direction
    at, missing = 0, 1  # how far this message was read, and how many of its values are still to come

    def length(head: bytes) -> int | None:
        nonlocal at, missing
        while missing:
            end = head.find(b"\r\n", at)
            if end < 0:
                return None
            kind, count = head[at : at + 1], head[at + 1 : end]
            at, missing = end + 2, missing - 1
            if kind in (b"$", b"=", b"!") and count != b"-1":
                at += int(count) + 2
            elif kind in (b"*", b"~", b">", b"%"):
                missing += max(0, int(count)) * (2 if kind == b"%" else 1)
        found, at, missing = at, 0, 1
        return found

    return length


def http_messages(direction: Direction) -> Framer:
    """Frames HTTP/1.1 without TLS: the head of each request and answer, and its body, whose length the head tells.

    Bodies in chunks are not known (RFC 9112, section 6).
    """
    del direction
    body = 0

    def length(head: bytes) -> int | None:
        nonlocal body
        if body:
            whole, body = body, 0
            return whole
        lines, blank, _ = head.partition(b"\r\n\r\n")
        if not blank:
            return None
        found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", lines)
        body = int(found[1]) if found else 0
        return len(lines) + len(blank)

    return length


def mongodb_messages(direction: Direction) -> Framer:
    """Frames the messages of MongoDB's protocol, without TLS.

    A message begins with its length, header included, of four bytes, lowest first
    (mongodb.com/docs/manual/reference/mongodb-wire-protocol/#standard-message-header).
    """
    del direction
    return lambda head: int.from_bytes(head[:4], "little") if len(head) >= 4 else None


def mongodb_monitoring(chunk: bytes) -> bool:
    """Whether a client of MongoDB greets or watches its server with this: a `hello`, in its new or its old form."""
    return re.match(rb"(?s).{16}(.{10}|.{4}admin\.\$cmd\0.{13})(hello|is[mM]aster)\0", chunk) is not None


class _Messages:
    """Finds where messages end in the chunks of one direction of one connection."""

    def __init__(self, framer: Framer) -> None:
        self._framer = framer
        self._head = b""
        self._left = 0  # bytes of the current message that are still to come

    def ends(self, chunk: bytes) -> list[int]:
        """After how many bytes of the next chunk a message ends."""
        found: list[int] = []
        at = 0
        while at < len(chunk):
            if not self._left:
                known = len(self._head)
                self._head += chunk[at : at + 16]
                length = self._framer(self._head)
                if length is None:
                    at += len(self._head) - known
                    continue
                self._head = b""
                self._left = length - known
            step = min(self._left, len(chunk) - at)
            at += step
            self._left -= step
            if not self._left:
                found.append(at)
        return found


# ---------------------------------------------------------------- what passed


@dataclass(slots=True)
class Track:
    """What passed in one direction, over all connections. Positions are counted in bytes from the beginning.

    Attributes:
        total: how many bytes.
        chunk_ends: where each chunk ended, as it came from the network.
        message_ends: where each message ended; empty for a proxy without framing.
    """

    total: int = 0
    chunk_ends: list[int] = field(default_factory=list[int])
    message_ends: list[int] = field(default_factory=list[int])

    @property
    def boundaries(self) -> list[int]:
        """The ends of messages, or those of chunks where messages are not known."""
        return self.message_ends or self.chunk_ends


@dataclass(slots=True)
class Recording:
    """What passed in both directions since `CuttingProxy.record`."""

    request: Track = field(default_factory=Track)
    answer: Track = field(default_factory=Track)

    def track(self, direction: Direction) -> Track:
        """One of the two directions."""
        return self.request if direction == "request" else self.answer


@dataclass(slots=True)
class _Cut:
    """A cut that is to come, after `left` more bytes of a direction."""

    direction: Direction
    left: int
    reset: bool
    refuse: bool
    due: bool = False
    """All its bytes have passed; until it has happened, nothing else does, in no direction."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Until it has happened, the chunks of all connections pass one after the other, so that the bytes are exact."""


# ---------------------------------------------------------------- the proxy


class CuttingProxy:
    """Listens on a port of 127.0.0.1 and forwards each connection to a server. A context manager.

    Args:
        host, port: the server.
        framing: finds the messages of its protocol, for recordings.
        monitoring: tells what clients send by themselves, at any time, to watch the server. A connection counts, for
            recordings and cuts, from its first other bytes on.

    Attributes:
        port: where it listens.
        cuts: how often connections were cut.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        framing: Framing | None = None,
        monitoring: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._target = (host, port)
        self._framing = framing
        self._monitoring = monitoring
        self._recording = Recording()
        self._cut: _Cut | None = None
        self._flowing = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._listener = _bound(0)
        self._accepting: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cutting proxy", daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0

    @property
    def address(self) -> str:
        """Where it listens, as `127.0.0.1:port`."""
        return f"{HERE}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._in_loop(len, self._connections)

    @property
    def bytes_left(self) -> int:
        """How many bytes must still pass until the cut that is to come; 0 if none is, or if they have passed."""
        return self._in_loop(lambda: 0 if self._cut is None else self._cut.left)

    def __enter__(self) -> Self:
        self._thread.start()
        self.heal()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def record(self) -> Recording:
        """Count from now on; the recording grows until the next call."""
        return self._in_loop(self._record)

    def cut_after(self, direction: Direction, n_bytes: int, *, reset: bool = True, refuse: bool = False) -> None:
        """Cut all connections as soon as exactly so many more bytes of a direction were forwarded, over all of them.

        With 0 bytes that is when the next one arrives. It happens once; new connections work again then.

        Args:
            direction: which bytes count; those of the other direction pass as they come.
            n_bytes: how many are forwarded.
            reset: end both sides with a TCP reset; else close them in an orderly way.
            refuse: refuse new connections from the cut on.
        """
        self._in_loop(self._arm, _Cut(direction, n_bytes, reset, refuse))

    def cut(self, *, reset: bool = True) -> None:
        """Cut all connections now."""
        self._in_loop(self._end_all, reset)

    def refuse(self) -> None:
        """Refuse new connections, as if nothing listened there; those that are open go on."""
        self._in_loop(self._stop_listening)

    def stall(self) -> None:
        """Forward nothing, while connections stay open and new ones can be made."""
        self._in_loop(self._flowing.clear)

    def retarget(self, host: str, port: int) -> None:
        """Lead new connections to another server; those that are open stay with theirs."""
        self._in_loop(self._aim, (host, port))

    def heal(self) -> None:
        """Undo `refuse` and `stall`, and a cut that has not happened yet."""
        self._in_loop(self._heal)

    # ------------------------------------------------------------ in the thread of the loop

    def _in_loop(self, action: Callable[..., T], *arguments: Any) -> T:
        async def act() -> T:
            return action(*arguments)

        return asyncio.run_coroutine_threadsafe(act(), self._loop).result()

    def _record(self) -> Recording:
        self._recording = Recording()
        return self._recording

    def _arm(self, cut: _Cut) -> None:
        self._cut = cut

    def _aim(self, target: tuple[str, int]) -> None:
        self._target = target

    def _heal(self) -> None:
        self._cut = None
        self._flowing.set()
        if self._accepting is None:
            self._listener.listen(128)
            self._accepting = self._loop.create_task(self._accept(self._listener))

    def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None
            self._listener.close()
            self._listener = _bound(self.port)  # so that nobody else is given the port meanwhile

    def _end_all(self, reset: bool) -> None:
        self.cuts += 1
        for connection in list(self._connections):
            connection.end(reset=reset)

    async def _shut_down(self) -> None:
        self._stop_listening()
        self._end_all(True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            connection = _Connection(self, client, self._monitoring)
            self._connections.add(connection)
            connection.start(self._target, self._framing)

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)

    async def forward_uncounted(self, chunk: bytes, to: socket.socket) -> None:
        """Forward a chunk that no recording and no cut sees."""
        await self._flowing.wait()
        await self._loop.sock_sendall(to, chunk)

    async def forward(self, direction: Direction, chunk: bytes, messages: _Messages | None, to: socket.socket) -> None:
        """Forward a chunk, or what of it comes before the cut."""
        await self._flowing.wait()
        cut = self._cut
        if cut is None or (cut.direction != direction and not cut.due):
            self._note(direction, chunk, messages)
            await self._loop.sock_sendall(to, chunk)
            return
        async with cut.lock:
            if self._cut is cut:
                chunk = await self._forward_until(cut, chunk, messages, to)
        if chunk:
            await self.forward(direction, chunk, messages, to)

    async def _forward_until(self, cut: _Cut, chunk: bytes, messages: _Messages | None, to: socket.socket) -> bytes:
        """Returns what is still to be forwarded, which is nothing unless the cut was taken back meanwhile."""
        part, rest = chunk[: cut.left], chunk[cut.left :]
        cut.left -= len(part)
        cut.due = not cut.left
        if part:
            self._note(cut.direction, part, messages)
            with suppress(OSError):  # the receiver has gone by itself; the others are cut all the same
                await self._loop.sock_sendall(to, part)
                if cut.reset:  # which would take back what has not arrived yet
                    await _received(to)
        if self._cut is not cut:
            return rest
        if cut.due:
            self._cut = None
            if cut.refuse:
                self._stop_listening()
            self._end_all(cut.reset)
        return b""

    def _note(self, direction: Direction, part: bytes, messages: _Messages | None) -> None:
        track = self._recording.track(direction)
        if messages is not None:
            track.message_ends.extend(track.total + end for end in messages.ends(part))
        track.total += len(part)
        track.chunk_ends.append(track.total)


class _Connection:
    """The two sockets of one connection, each read by a task of its own."""

    def __init__(self, proxy: CuttingProxy, client: socket.socket, monitoring: Callable[[bytes], bool] | None) -> None:
        self._proxy = proxy
        self._monitoring = monitoring  # None as soon as the connection counts
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._server = socket.socket()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = False
        for each in (self._client, self._server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self, target: tuple[str, int], framing: Framing | None) -> None:
        """Connect to the server, and forward."""
        self._spawn(self._serve(target, framing))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.append(task)
        return task

    async def _serve(self, target: tuple[str, int], framing: Framing | None) -> None:
        try:
            await self._loop.sock_connect(self._server, target)
        except OSError:
            self.end(reset=True)
            return
        client, server = self._client, self._server
        pumps = [
            self._spawn(self._pump("request", client, server, framing)),
            self._spawn(self._pump("answer", server, client, framing)),
        ]
        await asyncio.wait(pumps)
        self.end(reset=False)

    async def _pump(
        self, direction: Direction, source: socket.socket, to: socket.socket, framing: Framing | None
    ) -> None:
        messages = None if framing is None else _Messages(framing(direction))
        try:
            while not self._ended and (chunk := await self._loop.sock_recv(source, CHUNK)):
                if self._is_monitoring(direction, chunk):
                    await self._proxy.forward_uncounted(chunk, to)
                else:
                    await self._proxy.forward(direction, chunk, messages, to)
            if not self._ended:
                to.shutdown(socket.SHUT_WR)
        except OSError:
            self.end(reset=True)

    def _is_monitoring(self, direction: Direction, chunk: bytes) -> bool:
        if self._monitoring is not None and direction == "request" and not self._monitoring(chunk):
            self._monitoring = None
        return self._monitoring is not None

    def end(self, *, reset: bool) -> None:
        """End both sides. Idempotent."""
        if self._ended:
            return
        self._ended = True
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for each in (self._client, self._server):
            if reset:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        self._proxy.forget(self)


def _bound(port: int) -> socket.socket:
    """A socket that has a port of this machine, and does not listen yet."""
    bound = socket.socket()
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HERE, port))
    return bound


async def _received(to: socket.socket) -> None:
    """Wait until the other side's system has acknowledged all that was sent, where ours can tell; up to 40 ms."""
    if sys.platform != "linux":
        return
    import fcntl  # not on all systems
    import termios

    # The system tells it to who asks, and only so.
    while struct.unpack("i", fcntl.ioctl(to, termios.TIOCOUTQ, bytes(4)))[0]:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
