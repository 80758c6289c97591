"""Two servers behind nginx over PostgreSQL, as the documentation has it, and a new version begun under load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from tests.server.test_kill import TEXT, Client, is_ready
from tests.servers.fixtures import running
from tests.servers.nginx import Nginx
from tests.servers.process import private_port

import sessile

ROOT = Path(__file__).parents[2]


def begun(port: int, url: str) -> subprocess.Popen[bytes]:
    """A server on a port of its own, which nobody else holds: who asks while it is away is refused."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        fd = listening.fileno()
        return subprocess.Popen(
            [sys.executable, str(ROOT / "tests/server/worker.py"), str(fd), url],
            pass_fds=[fd],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


@pytest.mark.no_cover
def test_a_new_version_is_begun_behind_nginx_while_clients_ask(postgres_url: str) -> None:
    """One server after the other ends in order and begins anew; every client has its whole answers, each once."""
    ports = [private_port(), private_port()]
    servers = [begun(port, postgres_url) for port in ports]
    try:
        with running(lambda: Nginx(ports)) as nginx:
            for one in servers:
                is_ready(one)
            clients = [Client(nginx.port, f"client{number}") for number in range(6)]
            failed: list[BaseException] = []
            over = threading.Event()

            def work(client: Client) -> None:
                number = 0
                try:
                    while not over.is_set() or number < 2:
                        client.ask(number := number + 1)
                except BaseException as error:  # noqa: BLE001 (told to the test)
                    failed.append(error)

            threads = [threading.Thread(target=work, args=(one,)) for one in clients]
            [one.start() for one in threads]
            for place in range(2):
                time.sleep(1)
                servers[place].send_signal(signal.SIGTERM)
                assert servers[place].wait(60) in (0, -signal.SIGTERM)
                servers[place] = begun(ports[place], postgres_url)
                is_ready(servers[place])
            over.set()
            [one.join() for one in threads]
            assert not failed, failed[0]
            streams_are_not_held_back(nginx.port)
    finally:
        for one in servers:
            one.kill()
            one.communicate()
    with sessile.open(postgres_url) as storage:
        for client in clients:
            runs = storage.runs(client.name, last=1000)
            assert [run.run_id for run in runs] == [answer["run_id"] for answer in client.answers]
            assert all(run.status == "completed" and run.output == TEXT for run in runs)


def streams_are_not_held_back(port: int) -> None:
    """Words come one by one, not all at the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"input": "Go", "session_id": "slowly", "stream": True})
    connection.request("POST", "/agents/slow/runs", body, {"X-Sessile": "1", "Content-Type": "application/json"})
    answer = connection.getresponse()
    times = [time.monotonic() for line in answer if line.startswith(b"event: text")]
    assert len(times) > 10
    assert times[-1] - times[0] > 0.3
    connection.close()
