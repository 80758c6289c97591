"""What storage costs over HTTP: a run in a session, next to the same route that calls Pydantic AI and keeps nothing.

Both are FastAPI applications in processes of their own, with uvicorn, asked in turns by one client that keeps its
connections; the model answers at once. Also over two processes behind one port, the first event of a stream, lists,
search and usage beside the same call of the storage, and the memory of a server that runs and runs.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .measure import Stats, interleave, ms, timed
from .peers.environments import environment
from .tables import Table, verdict

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "bench" / "peers" / "requirements"
SESSIONS, REQUESTS, MANY, PEER_REQUESTS = 1_000, 300, 5_000, 200
KEPT = {"kept": "one durable commit", "kept twice": "two durable commits"}
"""Routes that keep by hand what was said, at the end, and at the beginning as well."""

P50, P99, FIRST_BYTE, LOOKING = 1.4, 2.0, 0.005, 0.002
HEADERS = {"Content-Type": "application/json", "X-Sessile": "1"}


def serve(kind: str, fd: int, path: str) -> None:
    """One process of a server; `python -m bench.server KIND FD PATH` runs it."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic_ai.models.test import TestModel

    from sessile import Agent, SqliteStorage
    from sessile.server import create_app
    from sessile.server.uvicorned import with_room

    app: FastAPI
    if kind == "sessile":
        storage = SqliteStorage(path)
        agent = Agent(TestModel(call_tools=[]), name="bench", storage=storage)
        app = create_app([agent])
    else:
        app = bare(path if kind in KEPT else None, begun=kind == "kept twice")
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=600)
    server, sockets = uvicorn.Server(config), [socket.socket(fileno=fd)]  # its own fd= makes each answer 40 ms later
    with_room(lambda: server.run(sockets))  # for both: by chance either might pay for that otherwise


def bare(path: str | None = None, *, begun: bool = False) -> Any:
    """The same route without a storage; with `path`, each answer waits for one durable commit of what was said.

    With `begun`, the model is asked when what the user says is durable, too.
    """
    import pydantic_ai
    from fastapi import FastAPI
    from pydantic import BaseModel
    from pydantic_ai.models.test import TestModel
    from starlette.responses import StreamingResponse

    app, agent = FastAPI(), pydantic_ai.Agent(TestModel(call_tools=[]))
    keep = None if path is None else keeper(path)

    class Asked(BaseModel):
        input: str
        session_id: str
        stream: bool = False

    async def run(body: Asked) -> Any:
        if not body.stream:
            if keep is not None and begun:
                await asyncio.to_thread(keep, body.session_id, body.input.encode())
            result = await agent.run(body.input)
            if keep is not None:
                await asyncio.to_thread(keep, body.session_id, result.new_messages_json())
            return {"output": result.output}

        async def pieces() -> Any:
            async with agent.run_stream(body.input) as stream:
                async for text in stream.stream_text(delta=True):
                    yield f"data: {json.dumps(text)}\n\n"

        return StreamingResponse(pieces(), media_type="text/event-stream")

    run.__annotations__ = {"body": Asked}
    app.post("/agents/bench/runs")(run)
    return app


def keeper(path: str) -> Callable[[str, bytes], None]:
    """Appends the messages of a run to a table, durably: no session, no state, no number, nobody else who writes."""
    database = sqlite3.connect(f"{path}.kept", check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, session_id TEXT, messages BLOB)")
    lock = threading.Lock()

    def keep(session_id: str, messages: bytes) -> None:
        with lock:
            database.execute("INSERT INTO runs (session_id, messages) VALUES (?, ?)", (session_id, messages))

    return keep


class Client:
    """Asks a server over one connection, in a session by chance."""

    def __init__(self, port: int, pids: list[int]) -> None:
        self.pids = pids
        self.connection = http.client.HTTPConnection("localhost", port, timeout=60)
        self.rng = random.Random(1)

    def get(self, path: str) -> None:
        """Ask for what is stored."""
        self.connection.request("GET", path, headers=HEADERS)
        answer = self.connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status

    def request(self, session_id: str, *, stream: bool) -> tuple[str, str, dict[str, str]]:
        """The address, the body and the headers of a run."""
        body = json.dumps({"input": "Hello", "session_id": session_id, "stream": stream})
        return "/agents/bench/runs", body, HEADERS

    def ask(self, *, stream: bool = False) -> float:
        """Seconds to the whole answer, or to the first byte of a stream's first event."""
        path, body, headers = self.request(f"s{self.rng.randrange(SESSIONS)}", stream=stream)
        began = time.perf_counter()
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        if stream:
            line = b""
            while not line.startswith(b"data:"):
                line = answer.readline()
            seconds = time.perf_counter() - began
        answer.read()
        assert answer.status == 200, answer.status
        return seconds if stream else time.perf_counter() - began


class AgnoClient(Client):
    """Asks AgentOS, which takes a form."""

    def request(self, session_id: str, *, stream: bool) -> tuple[str, str, dict[str, str]]:
        form = {"message": "Hello", "session_id": session_id, "user_id": "ada", "stream": str(stream).lower()}
        return "/agents/bench/runs", urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"}


class AdkClient(Client):
    """Asks what `adk api_server` serves."""

    def request(self, session_id: str, *, stream: bool) -> tuple[str, str, dict[str, str]]:
        message = {"role": "user", "parts": [{"text": "Hello"}]}
        asked = {"app_name": "bench", "user_id": "ada", "session_id": session_id, "new_message": message}
        return "/run", json.dumps(asked), {"Content-Type": "application/json"}


PEERS: dict[str, type[Client]] = {"agno_os": AgnoClient, "google_adk": AdkClient}
"""By the name of what they need, which is installed in an environment of its own."""


def peers(data: Path, cache: Path) -> Table:
    """A run over HTTP of servers of other libraries, in turn with ours and with the route that keeps nothing."""
    columns = ("", "p50", "p99", "p50 / bare", "p50 / ours")
    table = Table(f"A run over HTTP (ms), {PEER_REQUESTS} requests each, SQLite, one process", columns)
    with ExitStack() as stack:
        clients = {kind: started(kind, 1, data, stack) for kind in ("sessile", "bare")}
        for kind, client in PEERS.items():
            try:
                python = environment(REQUIREMENTS / f"{kind}.txt", cache)
                command = (str(python), "-m", "bench.peers.serving")
                clients[kind] = started(kind, 1, data / kind, stack, command, client)
            except (RuntimeError, OSError, AssertionError) as error:
                table.notes.append(f"{kind}: not measured: {error!r}")
        calls: dict[str, Callable[[], float]] = {kind: client.ask for kind, client in clients.items()}
        interleave(calls, 20)
        found = {kind: sorted(times) for kind, times in interleave(calls, PEER_REQUESTS).items()}
    for kind, times in found.items():
        middle = at(times, 0.5)
        ratios = (f"{middle / at(found[other], 0.5):.2f}" for other in ("bare", "sessile"))
        table.rows.append((kind, ms(middle), ms(at(times, 0.99)), *ratios))
    return table


def run(data: Path) -> Table:
    """Measure."""
    columns = ("", "p50", "p99", "bare p50", "bare p99", "p50 ratio", "p99 ratio", "")
    table = Table(f"A run over HTTP (ms), {SESSIONS:,} sessions, SQLite", columns)
    for processes in (1, 2):
        with ExitStack() as stack:
            clients = {kind: started(kind, processes, data, stack) for kind in ("sessile", "bare", *KEPT)}
            calls: dict[str, Callable[[], float]] = {kind: client.ask for kind, client in clients.items()}
            interleave(calls, 50)
            times = interleave(calls, REQUESTS)
            ours, floor = (sorted(times[kind]) for kind in ("sessile", "bare"))
            figures = [at(one, share) for one in (ours, floor) for share in (0.5, 0.99)]
            p50, p99 = figures[0] / figures[2], figures[1] / figures[3]
            good = "ok" if p50 <= P50 and p99 <= P99 else "OVER"
            name = f"POST, {processes} process{'es' if processes > 1 else ''}"
            table.rows.append((name, *map(ms, figures), f"{p50:.2f}", f"{p99:.2f}", good))
            for kind, named in KEPT.items():
                kept = [at(sorted(times[kind]), share) for share in (0.5, 0.99)]
                over = (f"{one / two:.2f}" for one, two in zip(figures[:2], kept, strict=True))
                table.rows.append((f"beside {named} by hand", *map(ms, [*figures[:2], *kept]), *over, ""))
            if processes == 1:
                pair = {kind: clients[kind] for kind in ("sessile", "bare")}
                first = interleave({kind: lambda c=one: c.ask(stream=True) for kind, one in pair.items()}, 300)
                mine, other = Stats.of(first["sessile"]).median, Stats.of(first["bare"]).median
                table.notes += looked(clients["sessile"], data / "server-1.db")
                table.notes.append(
                    f"First event of a stream: {ms(mine)} ms, bare {ms(other)} ms; wanted: {ms(FIRST_BYTE)} ms later "
                    f"at most: {verdict(mine - other, FIRST_BYTE)}."
                )
    table.notes.append(processor(data / "processor.db"))
    table.notes.append(memory(data))
    table.notes.append(
        f"Wanted: {P50} x at the middle, {P99} x at the 99th percentile. One client, {REQUESTS} requests."
    )
    return table


def looked(client: Client, path: Path) -> list[str]:
    """Lists, search and usage over HTTP, beside the same call of the storage."""
    from sessile import ANY_USER, SqliteStorage
    from sessile.insight import Index

    notes: list[str] = []
    with SqliteStorage(path) as storage, Index(storage) as index:
        index.update()
        asked: dict[str, tuple[str, Callable[[], Any]]] = {
            "List of 20 sessions": ("/sessions?limit=20", lambda: storage.sessions(user_id=ANY_USER, limit=20)),
            "Search, 20 hits": ("/search?text=hello", lambda: index.search("hello", user_id=ANY_USER, limit=20)),
            "Usage by day": ("/usage?by=day", lambda: index.usage(user_id=ANY_USER, by="day")),
        }
        for name, (address, call) in asked.items():
            calls: dict[str, Callable[[], float]] = {
                "http": lambda a=address: timed(lambda: client.get(a)),
                "call": lambda one=call: timed(one),
            }
            interleave(calls, 10)
            times = interleave(calls, 100)
            ours, own = Stats.of(times["http"]).median, Stats.of(times["call"]).median
            notes.append(
                f"{name}: {ms(ours)} ms, the call {ms(own)} ms; wanted: {ms(LOOKING)} ms more at most: "
                f"{verdict(ours - own, LOOKING)}."
            )
    return notes


def at(ordered: list[float], share: float) -> float:
    """A percentile."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def processor(path: Path) -> str:
    """Processor time, threads included, of requests without sockets and of the runs in them; the lowest tenth.

    That is what other programs on the machine disturb least.
    """
    import pydantic_ai
    from pydantic_ai.models.test import TestModel

    from sessile import Agent, SqliteStorage
    from sessile.server import create_app

    async def measured() -> dict[str, float]:
        with SqliteStorage(path) as storage:
            agent = Agent(TestModel(call_tools=[]), name="bench", storage=storage)
            alone = pydantic_ai.Agent(TestModel(call_tools=[]))
            served, floor = create_app([agent]), bare()  # nothing begins their lives: no work of their own
            kept = bare(str(path))
            said: list[Any] = []
            for _ in range(3):
                said = (await alone.run("Hello", message_history=said)).all_messages()
            ways: dict[str, Callable[[str], Any]] = {
                "served": lambda session: asked(served, session),
                "bare route": lambda session: asked(floor, session),
                "bare route with one durable commit": lambda session: asked(kept, session),
                "agent.arun": lambda session: agent.arun("Hello", session_id=f"own-{session}"),
                "Pydantic AI": lambda _: alone.run("Hello"),
                "Pydantic AI with three runs before": lambda _: alone.run("Hello", message_history=list(said)),
            }
            times: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(REQUESTS + 50):
                for name, way in ways.items():
                    began = time.process_time()
                    await way(f"s{number % SESSIONS}")
                    if number >= 50:
                        times[name].append(time.process_time() - began)
            return {name: at(sorted(some), 0.1) for name, some in times.items()}

    found = asyncio.run(measured())
    return "Processor time, lowest tenth: " + ", ".join(f"{name} {ms(one)} ms" for name, one in found.items()) + "."


async def asked(app: Any, session_id: str) -> None:
    """One run, asked of an application itself."""
    body = json.dumps({"input": "Hello", "session_id": session_id}).encode()
    address = "/agents/bench/runs"
    headers = {**HEADERS, "host": "localhost", "content-length": str(len(body))}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": address,
        "raw_path": address.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> Any:
        return parts.pop() if parts else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    assert statuses == [200], statuses


def memory(data: Path) -> str:
    """What a server's memory grows by over many runs; `BENCH_RUNS` says how many."""
    runs = int(os.environ.get("BENCH_RUNS", MANY))
    with ExitStack() as stack:
        client = started("sessile", 1, data / "memory", stack)
        sizes: list[int] = []
        for _ in range(5):
            for _ in range(runs // 5):
                client.ask()
            sizes.append(resident(client.pids[0]))
    shown = ", ".join(f"{size / 1024:.0f}" for size in sizes)
    return f"Memory of a server after each fifth of {runs:,} runs: {shown} MB."


def resident(pid: int) -> int:
    """Memory of a process, KB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def started(
    kind: str,
    processes: int,
    data: Path,
    stack: ExitStack,
    program: Sequence[str] = (sys.executable, "-m", "bench.server"),
    client: type[Client] = Client,
) -> Client:
    """Server processes behind one port, and a client."""
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
    data.mkdir(parents=True, exist_ok=True)
    fd, path, pids = listening.fileno(), data / f"server-{processes}.db", list[int]()
    for _ in range(processes):
        env = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([*program, kind, str(fd), str(path)], pass_fds=[fd], env=env)
        pids.append(process.pid)
        stack.callback(process.wait)
        stack.callback(process.terminate)
    asking = client(listening.getsockname()[1], pids)
    stack.callback(asking.connection.close)
    asking.ask()
    return asking


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
