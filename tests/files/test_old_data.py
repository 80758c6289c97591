"""Folders that were written before the first release, where an agent was called owner and records told no keys."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.files.folders import HEADS, KINDS, LOGS

from sessile import Storage
from sessile.drivers.files.names import safe_name
from sessile.storage.core import Core
from sessile.storage.extending import operate

JSON_HEAD = """{
  "session_id": "s",
  "incarnation": "04a6c90f2e3c281d",
  "revision": 1,
  "kind": "agent",
  "owner": "support",
  "user_id": "ada",
  "name": null,
  "status": "completed",
  "created_at": 1795877066714544,
  "updated_at": 1795877066714544,
  "expires_at": null,
  "hidden": false,
  "metadata": {},
  "body": {
    "version": 1,
    "writer": "0.1.0",
    "run_count": 1,
    "usage": {},
    "tip": 1,
    "segments": [[0,1]],
    "open_runs": {},
    "ttl": null,
    "forked_from": null,
    "summary": null,
    "hidden": null,
    "state": {}
  }
}
"""
CREATED = (
    '{"kind":"session.created","data":{"session_id":"s","kind":"agent","owner":"support","user_id":"ada",'
    '"incarnation":"04a6c90f2e3c281d"}}'
)
JSON_LOG = (
    '{"sessile_log":1,"session_id":"s","incarnation":"04a6c90f2e3c281d"}\n'
    '{"seq":1,"run":1,"top":1,"time":1795877066714544,"id":"r1","body":{"version":1,"writer":"0.1.0","entries":['
    f'{CREATED},{{"kind":"run.started","run_id":"r1","run":1,"owner":"support","data":{{"input":"question 1"}}}},'
    '{"kind":"message","run_id":"r1","run":1,"owner":"support","data":{"image":"DIGEST"}},'
    '{"kind":"run.ended","run_id":"r1","run":1,"owner":"support","data":{"status":"completed","output":"answer"}}]}}\n'
)
YAML_HEAD = """session_id: s
incarnation: e90b7f50c2f11e4d
revision: 1
kind: agent
owner: support
user_id: ada
name: ~
status: completed
created_at: 1795877066809177
updated_at: 1795877066809177
expires_at: ~
hidden: false
metadata: {}
body:
  version: 1
  writer: 0.1.0
  run_count: 1
  usage: {}
  tip: 1
  segments:
    - - 0
      - 1
  open_runs: {}
  ttl: ~
  forked_from: ~
  summary: ~
  hidden: ~
  state: {}
...
"""
YAML_LOG = """---
sessile_log: 1
session_id: s
incarnation: e90b7f50c2f11e4d
...
---
seq: 1
run: 1
top: 1
time: 1795877066809177
id: r1
body:
  version: 1
  writer: 0.1.0
  entries:
    - kind: session.created
      data:
        session_id: s
        kind: agent
        owner: support
        user_id: ada
        incarnation: e90b7f50c2f11e4d
    - kind: run.started
      run_id: r1
      run: 1
      owner: support
      data:
        input: question 1
    - kind: message
      run_id: r1
      run: 1
      owner: support
      data:
        image: DIGEST
    - kind: run.ended
      run_id: r1
      run: 1
      owner: support
      data:
        status: completed
        output: answer
...
"""
OLD_INDEX = """
CREATE TABLE heads (session_id, incarnation, revision, kind, owner, user_id, name, status, created_at, updated_at,
    expires_at, hidden, metadata, body, folder TEXT NOT NULL, head_stamp TEXT NOT NULL, log_size INTEGER NOT NULL,
    PRIMARY KEY (session_id));
CREATE INDEX heads_owner ON heads (owner, updated_at, session_id) WHERE owner IS NOT NULL;
INSERT INTO heads VALUES ('s', 'i', 1, 'agent', 'support', NULL, NULL, NULL, 1, 1, NULL, 0, '{}', '{}', 'f', 'x', 1);
"""
CONTENT = b"an image"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["json", "yaml"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A storage on a folder of one session of one run, with a lease and an image, and with its index."""
    kind = request.param
    session, local = tmp_path / "sessions" / safe_name("s"), tmp_path / ".sessile"
    (session / "records").mkdir(parents=True)
    (local / "locks").mkdir(parents=True)
    (tmp_path / "sessile.json").write_text(f'{{"sessile":1,"format":"{kind}"}}\n')
    head, log = (JSON_HEAD, JSON_LOG) if kind == "json" else (YAML_HEAD, YAML_LOG)
    (session / HEADS[kind]).write_text(head)
    (session / LOGS[kind]).write_text(log.replace("DIGEST", DIGEST))
    records = {"lease/12": b"{}", f"media/{DIGEST}": b'{"size":8,"parts":1}', f"media/{DIGEST}/0": CONTENT}
    for key, value in records.items():
        (session / "records" / safe_name(key)).write_bytes(value)
    index = sqlite3.connect(local / "index.db")
    index.executescript(OLD_INDEX)
    index.close()
    return KINDS[kind](tmp_path)


def keys(storage: Storage, prefix: str = "") -> list[str]:
    async def read(core: Core) -> Any:
        deadline = core.deadline()
        loaded = await core.driver.load("s", 0, deadline)
        assert loaded is not None
        return await core.driver.record_keys("s", loaded.head.incarnation, prefix, deadline)

    return operate(storage, read)


def test_it_is_read_and_listed_by_agent_and_written_on(old: Storage, tmp_path: Path) -> None:
    with old as storage:
        (item,) = storage.sessions(agent="support", user_id="ada").items
        assert (item.session_id, item.agent, item.run_count) == ("s", "support", 1)
        assert storage.runs("s", user_id="ada")[0].input == "question 1"
        storage.add_run("s", input="question 2", user_id="ada")
        storage.verify("s", user_id="ada")
        assert [run.input for run in storage.runs("s", user_id="ada")] == ["question 1", "question 2"]
    (head,) = (tmp_path / "sessions" / safe_name("s")).glob("head.*")
    assert "agent: support" in head.read_text().replace('"', "")
    assert "owner" not in head.read_text()


def test_a_head_that_is_gone_is_made_anew(old: Storage, tmp_path: Path) -> None:
    (head,) = (tmp_path / "sessions" / safe_name("s")).glob("head.*")
    head.unlink()
    with old as storage:
        assert [item.agent for item in storage.sessions(user_id="ada").items] == ["support"]


def test_records_are_read_and_their_keys_are_found(old: Storage) -> None:
    with old as storage:
        assert storage.media("s", DIGEST, user_id="ada") == CONTENT
        assert keys(storage) == ["lease/12", f"media/{DIGEST}", f"media/{DIGEST}/0"]
        assert keys(storage, "media/") == [f"media/{DIGEST}", f"media/{DIGEST}/0"]


def test_a_record_whose_key_nobody_knows_is_named(
    old: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = tmp_path / "sessions" / safe_name("s") / "records"
    shutil.copy(records / safe_name("lease/12"), records / "unknown")
    with old as storage:
        assert keys(storage, "lease/") == ["lease/12"]
    assert "The keys of 1 records" in caplog.text
