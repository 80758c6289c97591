"""Two servers behind one port, and one of them killed again and again: every client gets its whole answer, once."""

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
from typing import Any

import pytest

pytest.importorskip("fastapi")

from tests.campaigns import TORTURE
from tests.server.worker import WORDS

import sessile

CLIENTS, SECONDS = (50, 300.0) if TORTURE else (8, 5.0)
TEXT = "".join(f"word{number} " for number in range(WORDS))
LONGEST = 120.0


class Client:
    """Asks for runs, one after the other, and reads each to its end, however often the connection is lost."""

    def __init__(self, port: int, name: str) -> None:
        self.port, self.name = port, name
        self.answers: list[dict[str, Any]] = []
        self.lost = self.restarts = 0

    def ask(self, number: int) -> None:
        key = f"{self.name}-{number}"
        address, last, self.text = None, None, ""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                sent = {"X-Sessile": "1", "Content-Type": "application/json", "Idempotency-Key": key}
                if address is None:
                    body = json.dumps({"input": "Go", "session_id": self.name, "stream": True})
                    connection.request("POST", "/agents/slow/runs", body, sent)
                else:
                    headers = sent if last is None else {**sent, "Last-Event-ID": last}
                    connection.request("GET", f"{address}/events", headers=headers)
                answer = connection.getresponse()
                if answer.status != 200:
                    raise ConnectionError(answer.status)
                address = address or answer.headers["Content-Location"]
                for place, event, data in events(answer):
                    last = place
                    self.take(event, data)
                    if event == "run.ended":
                        assert data["status"] == "completed", data
                        assert self.text == data["output"] == TEXT
                        self.answers.append(data)
                        return
            except (OSError, http.client.HTTPException):
                pass
            self.lost += 1
            time.sleep(0.1)
        raise AssertionError(f"No end of {address}")

    def take(self, event: str, data: dict[str, Any]) -> None:
        if event == "text":
            self.text += data["text"]
        elif event == "text.restarted":
            self.restarts += 1
            self.text = self.text[: data["keep"]]
        assert TEXT.startswith(self.text), (event, self.text)

    def work(self, until: float, failed: list[BaseException]) -> None:
        number = 0
        try:
            while time.monotonic() < until:
                self.ask(number := number + 1)
        except BaseException as error:  # noqa: BLE001 (told to the test)
            failed.append(error)


def events(answer: Any) -> Any:
    fields: dict[str, str] = {}
    for raw in answer:
        line = raw.decode().rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "event" in fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])
            fields = {}
        else:
            fields = {}


def started(listening: socket.socket, url: str) -> subprocess.Popen[bytes]:
    fd = listening.fileno()
    worker = Path(__file__).with_name("worker.py")
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, str(worker), str(fd), url],
        pass_fds=[fd],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )


def campaign(url: str, count: int, seconds: float) -> None:
    """Clients ask for so long, while one server after the other is killed as soon as the one before is there again."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    clients = [Client(listening.getsockname()[1], f"client{number}") for number in range(count)]
    failed: list[BaseException] = []
    servers = [started(listening, url) for _ in range(2)]
    kills = 0
    try:
        for one in servers:
            is_ready(one)
        until = time.monotonic() + seconds
        threads = [threading.Thread(target=one.work, args=(until, failed)) for one in clients]
        [one.start() for one in threads]
        while time.monotonic() < until or kills < 2:
            time.sleep(1)
            servers[kills % 2].kill()
            servers[kills % 2].wait()
            servers[kills % 2] = started(listening, url)
            is_ready(servers[kills % 2])
            kills += 1
        [one.join() for one in threads]
    finally:
        for one in servers:
            one.send_signal(signal.SIGTERM)
        for one in servers:
            one.communicate()
        listening.close()
    assert not failed, failed[0]
    assert sum(one.lost for one in clients) > 0
    with sessile.open(url) as storage:
        for one in clients:
            runs = storage.runs(one.name, last=1000)
            assert [run.run_id for run in runs] == [answer["run_id"] for answer in one.answers]
            assert all(run.status == "completed" and run.output == TEXT for run in runs)
            storage.verify(one.name)
    print(f"{kills} kills, {sum(len(one.answers) for one in clients)} answers, {sum(one.lost for one in clients)} lost "
          f"connections, {sum(one.restarts for one in clients)} restarts")  # fmt: skip


def is_ready(server: subprocess.Popen[bytes]) -> None:
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"


@pytest.mark.no_cover
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_every_client_gets_its_answer_once(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if database == "postgres" and not TORTURE:
        pytest.skip("SQLite stands for both in the short form")
    url = f"sqlite:///{tmp_path}/sessions.db" if database == "sqlite" else request.getfixturevalue("postgres_url")
    campaign(url, CLIENTS, SECONDS)
