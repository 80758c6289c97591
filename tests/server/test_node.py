"""JavaScript's clients, in Node: AG-UI's, Vercel's AI SDK, and the one that the documentation shows."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.server.conftest import SLOW_TEXT, TOKENS, Pace
from tests.servers.node import installed, node
from tests.servers.process import ServerFailedError, ServerMissingError

SCRIPTS = Path(__file__).with_name("node")
PAGE = Path(__file__).parents[2] / "docs" / "server.md"


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def had(make: Callable[[], Path]) -> Path:
    """What tests need of Node; what cannot be had is a failure in CI, elsewhere a skip."""
    try:
        return make()
    except (ServerMissingError, ServerFailedError) as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def said(folder: Path, script: str, *arguments: str) -> Any:
    command = [str(had(node)), script, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_ag_uis_client_goes_on_with_a_stored_session(address: str, ada: TestClient) -> None:
    told = said(had(lambda: installed(SCRIPTS)), "ag_ui.mjs", address, TOKENS["ada"])
    assert told["answer"] == "Your name is Ada."
    assert {"RUN_STARTED", "TEXT_MESSAGE_CONTENT", "RUN_FINISHED"} <= set(told["events"])
    assert ada.get("/sessions/s1").json()["run_count"] == 2


def test_vercels_client_goes_on_with_a_stored_session(address: str, ada: TestClient) -> None:
    """What it says that the agent has said is not believed; what is made again follows the same run."""
    told = said(had(lambda: installed(SCRIPTS)), "vercel.mjs", address, TOKENS["ada"])
    assert told == {"answer": "Your name is Ada.", "again": "Your name is Ada."}
    session = ada.get("/sessions/s1").json()
    assert (session["run_count"], session["tip"]) == (3, 3)
    assert [one["number"] for one in ada.get("/sessions/s1/runs").json()["items"]] == [1, 3]


def test_the_client_of_the_page_reads_on_where_its_connection_was_lost(
    address: str, ada: TestClient, pace: Pace, tmp_path: Path
) -> None:
    shown = re.search(r"```js\n(async function readRun.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert shown is not None
    pace.seconds = 0.05
    begun = ada.post("/agents/slow/runs", json={"input": "Go", "session_id": "s1", "background": True}).json()
    lossy = """
let lost = 0;
const fetched = globalThis.fetch;
globalThis.fetch = async (...given) => {
  const answer = await fetched(...given);
  if (lost++ > 1) return answer;
  const reader = answer.body.getReader(); // its first piece, and half of the second
  const parts = [(await reader.read()).value, (await reader.read()).value?.slice(0, 20)];
  await reader.cancel();
  let at = 0;
  const body = new ReadableStream({
    pull(to) { at < parts.length ? to.enqueue(parts[at++]) : to.error(new Error("lost")); },
  });
  return new Response(body, { status: answer.status });
};
"""
    script = f"{shown[1]}\n{lossy}\nconst text = await readRun(process.argv[2], process.argv[3]);\n"
    (tmp_path / "client.mjs").write_text(f"{script}console.log(JSON.stringify({{ text, lost }}));\n")
    told = said(tmp_path, "client.mjs", f"{address}{begun['run']}", TOKENS["ada"])
    assert told["text"] == SLOW_TEXT
    assert told["lost"] >= 3
