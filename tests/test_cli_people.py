"""The commands by which people follow sessions and decide: show, tail, waiting, approve, deny, send, and the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, SqliteStorage
from sessile.cli import main, tailing
from sessile.records import Entry
from sessile.storage import turns
from sessile.storage.extending import operate
from sessile.storage.vocabulary import EventSent, MessageAdded, RunEnded, StepFailed, StepFinished

pytest.importorskip("typer")

Run = Callable[..., tuple[int, str, str]]

DATA = "iVBORw0KGgo" * 300


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def sessile(capsys: pytest.CaptureFixture[str], path: Path) -> Run:
    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        try:
            code: Any = main([command, f"sqlite:///{path}", *arguments])
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code or 0, printed.out, printed.err

    return run


def paused(
    storage: SqliteStorage,
    session_id: str,
    entries: list[Entry],
    pending: dict[str, Any] | None = None,
    agent: str | None = None,
) -> None:
    """A run that waits, as an agent's or a workflow's would."""
    spec = turns.TurnSpec(session_id, run_id=f"r-{session_id}", input="Go", agent=agent)
    turn = operate(storage, turns.open_turn, spec, 0)
    operate(storage, turns.start_turn, turn)
    for entry in entries:
        entry.run_id = entry.run_id or turn.spec.run_id
    operate(storage, turns.end_turn, turn, entries, RunEnded(status="paused", pending=pending), [])


CALL = {"tool_name": "pay", "tool_call_id": "c1", "args": {"amount": 5}}

# ---------------------------------------------------------------- transcripts


def test_media_are_named_and_never_dumped(sessile: Run, path: Path) -> None:
    parts = [
        {"part_kind": "user-prompt", "content": ["Look:", {"kind": "binary", "media_type": "image/png", "data": DATA}]},
        {"part_kind": "user-prompt", "content": [{"kind": "binary", "media_type": "audio/wav",
                                                  "data": {"$blob": "abc", "size": 7_000_000}}]},
        {"part_kind": "user-prompt", "content": [{"kind": "document-url", "url": "https://x/a.pdf"}]},
    ]  # fmt: skip
    returned = {"part_kind": "tool-return", "tool_name": "draw", "tool_call_id": "c", "content": {"picture": DATA}}
    called = {"part_kind": "tool-call", "tool_name": "draw", "tool_call_id": "c", "args": "{}"}
    theirs = {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{DATA}"}}
    with SqliteStorage(path) as storage:
        messages = [{"kind": "request", "parts": parts}, {"kind": "response", "parts": [called]},
                    {"kind": "request", "parts": [returned]}]  # fmt: skip
        storage.add_run("s", messages=messages, format="pydantic-ai/2")
        storage.add_run("s", messages=[{"role": "user", "content": [theirs]}], format="openai")
    shown = sessile("show", "s")[1]
    assert "user: Look: [image/png, 2,475 bytes]" in shown
    assert "user: [audio/wav, 7,000,000 bytes]" in shown
    assert "user: [document https://x/a.pdf]" in shown
    assert 'tool draw: {} → {"picture": "[data, 3,300 characters]"}' in shown
    assert "user: [image [image/gif, " in shown
    for arguments in (("show", "s"), ("show", "s", "--run", "1"), ("tail", "s")):
        assert "iVBORw0KGgo" not in sessile(*arguments)[1]
    assert DATA in sessile("show", "s", "--raw")[1]


def test_calls_of_tools_are_folded_and_shown_whole_on_request(sessile: Run, path: Path) -> None:
    long = "word " * 100
    calls = [
        {"part_kind": "tool-call", "tool_name": "read", "tool_call_id": one, "args": {"file": one}} for one in "ab"
    ]
    results = [{"part_kind": "tool-return", "tool_name": "read", "tool_call_id": one, "content": f"{one} {long}"}
               for one in "ba"]  # fmt: skip
    again = [{"part_kind": "retry-prompt", "tool_name": "read", "tool_call_id": "c", "content": "No such file"}]
    missing = {"part_kind": "tool-call", "tool_name": "read", "tool_call_id": "c", "args": {"file": "c"}}
    with SqliteStorage(path) as storage:
        rounds = [calls, results, [missing], again, [{"part_kind": "text", "content": "Read."}]]
        messages = [{"kind": "x", "parts": parts} for parts in rounds]
        storage.add_run("s", input="?", messages=messages, format="pydantic-ai/2")
        openai = [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "t", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "t", "content": "done"},
        ]
        storage.add_run("s", input="?", messages=openai, format="openai")
    lines = sessile("show", "s")[1].splitlines()
    folded = [line for line in lines if line.startswith("  tool read: ")]
    assert [line.partition(" → ")[0] for line in folded] == [f'  tool read: {{"file": "{one}"}}' for one in "abc"]
    assert all(len(line) < 200 for line in folded)
    assert [line.partition(" → ")[2][:2] for line in folded[:2]] == ["a ", "b "]
    assert folded[2].endswith("wants another try: No such file")
    assert "  tool f: {} → done" in lines
    whole = sessile("show", "s", "--run", "1")[1]
    assert whole.count("word") == 200
    assert "Run 2" not in whole


def test_members_stand_below_the_call_that_they_answer(sessile: Run, path: Path) -> None:
    with SqliteStorage(path) as storage:
        turn = operate(storage, turns.open_turn, turns.TurnSpec("crew", run_id="r1", input="Go"), 0)
        operate(storage, turns.start_turn, turn)
        member = {"run_id": "m1", "parent_run_id": "r1", "agent": "cook"}
        call = {"part_kind": "tool-call", "tool_name": "delegate", "tool_call_id": "c1", "args": {"to": "cook"}}
        entries = [
            turn.entry(MessageAdded({"kind": "response", "parts": [call]}), "pydantic-ai/2"),
            Entry("run.started", {"input": "Boil", "key": "c1"}, **member),
            Entry("run.ended", {"status": "completed", "output": "Boiled"}, **member),
            turn.entry(MessageAdded({"kind": "response", "parts": [{"part_kind": "text", "content": "Served"}]}),
                       "pydantic-ai/2"),
        ]  # fmt: skip
        operate(storage, turns.end_turn, turn, entries, RunEnded(status="completed", output="Served"), [])
    shown = sessile("show", "crew")[1]
    assert (
        shown.index("tool delegate") < shown.index("Run of cook") < shown.index("input: Boil") < shown.index("Served")
    )


def test_a_workflow_shows_its_journal_and_what_it_waits_for(sessile: Run, path: Path) -> None:
    step = {"started_at": 1_000_000, "ended_at": 3_500_000}
    steps = [
        StepFinished(path="1", name="outline", attempt=1, output={"a": 1}, **step).entry(),
        StepFailed(path="2.1", name="fetch", attempt=1, error={"type": "OSError", "message": "no"}, retry_in=2.0,
                   **step).entry(),
        StepFinished(path="2.1", name="fetch", attempt=2, output="x", cached=True, **step).entry(),
        EventSent(name="early", value=[1]).entry(),
    ]  # fmt: skip
    with SqliteStorage(path) as storage:
        paused(storage, "w", steps, {"waits": ["go"], "until": 1_800_000_000_000_000})
    shown = sessile("show", "w")[1]
    for line in (
        '  step 1 outline, 2.5 s: {"a": 1}',
        "    step 2.1 fetch, 2.5 s: failed: OSError: no; again in 2.0 s",
        "    step 2.1 fetch, 2.5 s, attempt 2: x (cached)",
        "  event early: [1]",
        "  waits for: event go",
        "  waits until: 2027-01-15 08:00:00 UTC",
    ):
        assert f"{line}\n" in shown


# ---------------------------------------------------------------- decisions


def test_decides_and_sends(sessile: Run, path: Path) -> None:
    with SqliteStorage(path) as storage:
        paused(storage, "a", [], {"requests": {"approvals": [CALL], "calls": [{**CALL, "tool_call_id": "e1"}]}})
    assert "approval of pay" in sessile("waiting")[1]
    (asked,) = json.loads(sessile("waiting", "--json")[1])
    seen = ("--run", str(asked["run"]), "--epoch", str(asked["epoch"]))
    assert sessile("approve", "a", "--args", '{"amount": 1}', *seen)[:2][0] == 0
    code, out, _ = sessile("send", "a", "e1", '{"ok": true}', "--json")
    assert (code, json.loads(out)["decided"]["e1"]) == (0, {"ok": True})
    (waits,) = json.loads(sessile("waiting", "--json")[1])
    assert waits["is_decided"]
    assert waits["decided"]["c1"] == {"kind": "tool-approved", "override_args": {"amount": 1}}
    assert "yes, changed" in sessile("waiting")[1]
    assert sessile("deny", "a", "c1", "--reason", "no")[0] == 0
    assert [line.split()[-1] for line in sessile("waiting")[1].splitlines()[2:]] == ["no", "true}"]


def test_approves_for_good_and_takes_it_back(sessile: Run, path: Path) -> None:
    with SqliteStorage(path) as storage:
        paused(storage, "a", [], {"requests": {"approvals": [CALL]}}, "cashier")
    assert sessile("approve", "a", "--always", "session", "--for", "3600", "--by", "bob")[0] == 0
    (one,) = json.loads(sessile("approvals", "--session", "a", "--json")[1])
    assert (one["tool"], one["by"], one["session_id"]) == ("pay", "bob", "a")
    code, out, _ = sessile("approvals", "--session", "a", "--revoke", one["grant_id"], "--by", "eve")
    assert (code, one["grant_id"] in out) == (0, False)
    assert sessile("approvals", "--session", "a", "--revoke", one["grant_id"])[0] == 1
    assert sessile("deny", "a", "--for", "0")[0] == 0
    (waits,) = json.loads(sessile("waiting", "--json")[1])
    assert not waits["is_decided"]
    assert sessile("approvals")[0] == 1


def test_fills_forms_and_reviews_answers(sessile: Run, path: Path) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "meal": {}}, "required": ["name"]}
    form = {"sessile_form": {"question": "Who travels?", "schema": schema, "problem": "no such name"}}
    draft = {"tool_name": "give_output", "tool_call_id": "r1", "args": {"output": "Dear bank"}}
    review = {"sessile_review": {"schema": {"type": "string"}}}
    with SqliteStorage(path) as storage:
        paused(storage, "a", [], {"requests": {"approvals": [CALL], "metadata": {"c1": form}}})
        paused(storage, "b", [], {"requests": {"approvals": [draft], "metadata": {"r1": review}}})
        paused(storage, "w", [], {"waits": ["who"], "forms": {"who": form["sessile_form"]}}, "flow")
    out = sessile("waiting")[1]
    assert "event who: Who travels? [name, meal?]" in " ".join(out.split())
    assert "a form of pay: Who travels? [name, meal?]" in " ".join(out.split())
    assert "the review of Dear bank" in " ".join(out.split())
    code, _, err = sessile("send", "a", "c1", '{"meal": "vegan"}')
    assert (code, "name: it is missing" in err) == (1, True)
    assert sessile("approve", "a", "c1")[0] == 1
    assert sessile("approve", "a")[0] == 1
    assert sessile("deny", "a")[0] == 0
    assert sessile("send", "a", "c1", '{"name": "Ada"}', "--by", "bob")[0] == 0
    assert sessile("approve", "b", "--args", '{"x": 1}')[0] == 1
    assert sessile("approve", "b", "--args", "{}", "--output", "x")[0] == 1
    assert sessile("deny", "b", "--reason", "Be kinder.")[0] == 0
    assert sessile("approve", "b", "--output", "Dear you", "--by", "bob")[0] == 0
    waits = {one["session_id"]: one for one in json.loads(sessile("waiting", "--json")[1])}
    assert waits["a"]["decided"] == {"c1": {"name": "Ada"}}
    assert waits["b"]["decided"]["r1"]["override_args"] == {"output": "Dear you"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["approve", "a", "c9"], "does not wait for c9"),
        (["approve", "nobody"], "There is no session 'nobody'"),
        (["approve", "done"], "no run that waits"),
        (["approve", "a", "--args", "[]"], "a JSON object"),
        (["approve", "a", "--run", "1", "--epoch", "7"], "has gone on since epoch 7"),
        (["deny", "a", "--epoch", "1"], "pass run_number"),
        (["deny", "a", "--user", "eve"], "There is no session 'a'"),
        (["send", "a", "go"], "no run that could receive"),
        (["approve", "a", "--resume", "json:nothing"], "cannot be imported"),
        (["approve", "a", "--resume", "json"], "names nothing"),
        (["rewind", "a", "x"], "is none"),
        (["fork", "nobody"], "There is no session"),
        (["fork", "nobody", "--message", "1"], "There is no session"),
        (["fork", "done", "--message", "1"], "no messages that an agent has stored"),
        (["fork", "done", "--results", "{"], "is no JSON"),
        (["fork", "done", "--results", "[1]"], "a JSON object"),
        (["fork", "done", "--results", '{"c1": 1}', "--message", "1"], "either how many messages"),
    ],
)
def test_what_is_wrong_is_one_clear_error(sessile: Run, path: Path, command: list[str], said: str) -> None:
    with SqliteStorage(path) as storage:
        paused(storage, "a", [], {"requests": {"approvals": [CALL]}})
        storage.add_run("done", input="x", output="y")
    code, out, err = sessile(*command)
    assert (code, out.count("\n") <= 1, said in err) == (1, True, True), err
    assert len(err.splitlines()) <= 2


def test_changes_answer_in_json(sessile: Run, path: Path) -> None:
    with SqliteStorage(path) as storage:
        for text in ("one", "two"):
            storage.add_run("s", input=text, output=text)
    assert json.loads(sessile("rename", "s", "Title", "--json")[1])["name"] == "Title"
    assert json.loads(sessile("fork", "s", "--at", "1", "--to", "t", "--json")[1])["run_count"] == 1
    assert json.loads(sessile("rewind", "s", "1", "--json")[1])["tip"] == 1
    assert json.loads(sessile("erase", "s", "2", "--json")[1])["input"] == {"$erased": True}
    assert json.loads(sessile("stats", "--json")[1])["status"]["completed"] == 2
    for command in ("doctor", "sweep", "migrate", "stats", "waiting", "sessions"):
        json.loads(sessile(command, "--json")[1])
    assert json.loads(sessile("verify", "t", "--json")[1])["session_id"] == "t"
    assert json.loads(sessile("delete", "t", "--json")[1]) == {"deleted": "t"}


# ---------------------------------------------------------------- live


@pytest.mark.parametrize("one", [True, False], ids=["one", "all"])
def test_tail_shows_what_is_committed_meanwhile(path: Path, one: bool) -> None:
    with SqliteStorage(path) as storage:
        storage.add_run("s", input="before", output="x")
        storage.add_run("other", input="elsewhere", output="x")
        command = [sys.executable, "-m", "sessile", "tail", f"sqlite:///{path}", *(["s"] if one else [])]
        with subprocess.Popen(
            [*command, "-n", "1", "--for", "60", "--poll", "0.05"],
            env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            assert running.stdout is not None
            lines = [running.stdout.readline()]  # it has looked, and follows from here
            storage.add_run("new", input="a new one", output="z")
            storage.add_run("s", input="meanwhile", output="y")
            while lines[-1] and "completed: y" not in lines[-1]:
                lines.append(running.stdout.readline())
            running.terminate()
    out = "".join(lines)
    assert out.count("begins: meanwhile") == 1
    assert "begins: before" not in out
    assert ("a new one" in out) is not one


def test_tail_of_all_tells_everything_once_and_remembers_only_what_is_new(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it follows: what cannot change any more is forgotten, and told no second time when it changes."""
    # Commits are on their way for a moment only: the storage's `timeout`, and this.
    monkeypatch.setattr("sessile.storage.tailing.AHEAD", -29_700_000)
    with SqliteStorage(path, timeout=30) as storage:
        for number in range(20):
            storage.add_run(f"s{number}", input="before", user_id="ada")
        following = tailing._Following(storage, ANY_USER)
        told: list[str] = []
        for turn in range(3):
            for number in (1, 7, 20):
                for part in range(150 if (turn, number) == (2, 7) else 2):
                    storage.add_run(f"s{number}", input=f"{turn} {part}", user_id="ada")
                told += [
                    f"{session} {entry.data['input']}" for session, entry in following.news() if "input" in entry.data
                ]
            time.sleep(0.4)
            following.news()
            time.sleep(0.1)
            following.news()
            assert len(following.told) == 0
    wanted = [f"s{number} {turn} {part}" for turn in range(3) for number in (1, 7, 20)
              for part in range(150 if (turn, number) == (2, 7) else 2)]  # fmt: skip
    assert told == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_long_output_goes_to_the_pager_of_a_terminal(path: Path, tmp_path: Path) -> None:
    import pty

    with SqliteStorage(path) as storage:
        for number in range(60):
            storage.add_run("s", input=f"question {number}", output="x")
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho PAGED\nexec cat\n")
    pager.chmod(0o755)
    for runs, paged in (("60", True), ("1", False)):
        ours, theirs = pty.openpty()
        environment = {
            **os.environ,
            "LINES": "30",
            "COLUMNS": "100",
            "TERM": "xterm",
            "PYTHONUTF8": "1",
            "PAGER": f"{pager}",
        }
        with subprocess.Popen(
            [sys.executable, "-m", "sessile", "show", f"sqlite:///{path}", "s", "--runs", runs],
            env=environment, stdout=theirs, stdin=theirs,
        ) as running:  # fmt: skip
            os.close(theirs)
            printed = b""
            while chunk := _read(ours):
                printed += chunk
        os.close(ours)
        assert running.returncode == 0
        assert (b"PAGED" in printed) is paged
        assert b"question 59" in printed


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_completion_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "--install-completion" in capsys.readouterr().out


def test_a_fork_ends_inside_of_a_run(sessile: Run, path: Path) -> None:
    """The copy is what the storage and the server make of the same point, and the agent goes on from there."""
    from pydantic_ai.models.test import TestModel

    from sessile import Agent

    def weather(city: str) -> str:
        return "rain"

    with SqliteStorage(path) as storage:
        guide = Agent(TestModel(), name="guide", storage=storage, tools=[weather], durability="step")
        first = guide.run("Where to?", session_id="s", user_id="ada")
        (call,) = [part for part in first.new_messages()[1].parts if part.part_kind == "tool-call"]
        whole = storage.get_session("s", user_id="ada")
    results = json.dumps({call.tool_call_id: "sun"})
    assert "is a copy of s" in sessile("fork", "s", "--results", results, "--to", "sunny")[1]
    made = json.loads(sessile("fork", "s", "--at", "1", "--message", "2", "--to", "again", "--name", "N", "--json")[1])
    assert (made["session_id"], made["name"], made["user_id"]) == ("again", "N", "ada")
    with SqliteStorage(path) as storage:
        guide = Agent(TestModel(), name="guide", storage=storage, tools=[weather], durability="step")
        assert storage.get_session("s", user_id="ada") == whole
        assert "sun" in guide.resume("sunny", user_id="ada").output
        assert "rain" in guide.resume("again", user_id="ada").output
    code, _, err = sessile("fork", "s", "--message", "9")
    assert (code, "has 4 messages, not 9" in err) == (1, True), err
