"""`sessile demo`: an agent answers a question about the conversation that an earlier process had with it.

Runs in a base install: rich only makes it prettier.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from ..drivers.sqlite import SqliteStorage
from ..errors import SessileError, missing_dependency
from ..insight import Index
from ..records import ANY_USER
from ..storage import Storage
from ..terminal import say, say_block, say_text
from ..transcripts import clip, message_lines, moment
from .output import Table, print_heading, print_table
from .sample_talks import fill_samples
from .samples import Filling

SESSION = "demo"
TOLD = ("My name is Ada.", "What is the capital of France?")
ASKED = "What was my last question?"

OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of models: the key that it needs, the model that the demo uses, the library and its extra."""

    key: str
    model: str
    library: str
    extra: str


PROVIDERS = (
    Provider("OPENAI_API_KEY", "openai:gpt-5-mini", "openai", "openai"),
    Provider("ANTHROPIC_API_KEY", "anthropic:claude-haiku-4-5", "anthropic", "anthropic"),
    Provider("GOOGLE_API_KEY", "google:gemini-3.5-flash-lite", "google.genai", "google"),
    Provider("GEMINI_API_KEY", "google:gemini-3.5-flash-lite", "google.genai", "google"),
)


def run_demo(*, db: str | None = None, model: str | None = None) -> int:
    """Show it, and return the exit code: 0 if the second process answered from the history that it found.

    Args:
        db: the file to keep the database in; default: a temporary one, removed at the end.
        model: what to use instead of the provider that the environment has a key of; `offline` for the offline model.

    Raises `SessileError` if a process fails (no network, a wrong key).
    """
    chosen = model or choose_model()
    _say_model(chosen)
    if db is not None:
        return _show(chosen, db, kept=True)
    with tempfile.TemporaryDirectory(prefix="sessile-demo-", ignore_cleanup_errors=True) as folder:
        return _show(chosen, str(Path(folder, "sessions.db")), kept=False)


def show_dashboard(*, port: int = 8000, db: str | None = None) -> int:
    """Show sample sessions in the dashboard, with agents to talk with, until the process is asked to end.

    Args:
        port: where it listens, on this machine alone; 0: a free one.
        db: the file to keep the sessions in; default: a temporary one, removed at the end.

    Raises `MissingDependencyError` without the extra `server`.
    """
    for needed in ("fastapi", "uvicorn"):
        if not installed(needed):
            raise missing_dependency(needed, "server", "sessile demo --dashboard")
    with tempfile.TemporaryDirectory(prefix="sessile-demo-", ignore_cleanup_errors=True) as folder:
        path = db or str(Path(folder, "sessions.db"))
        if not Path(path).exists():
            with SqliteStorage(path) as storage:
                fill_samples(Filling(storage))
        with SqliteStorage(path) as storage:
            _serve(storage, port)
    return 0


def _serve(storage: Storage, port: int) -> None:
    from ..server.app import create_app
    from ..server.uvicorned import listening, serve_app
    from .sample_agents import run_samples, sample_agents

    things = sample_agents(storage)
    if storage.get_session("invoice-curie", user_id="margaret") is None:
        run_samples(things)
    app = create_app(things, storage=storage)
    with listening("127.0.0.1", port) as (socket, address):
        say("The dashboard, with sample sessions: {}", address)
        say("The agents have a small stand-in for a model. Ctrl-C ends it.")
        serve_app(app, "127.0.0.1", port, fd=socket.fileno())


def choose_model() -> str:
    """The model of the first provider that the environment has a key of and whose library is installed, or offline."""
    for provider in PROVIDERS:
        if not os.environ.get(provider.key):
            continue
        if installed(provider.library):
            return provider.model
        install = f'pip install "sessile[{provider.extra}]"'
        say("{} is set, but {} is not installed ({}).", provider.key, provider.library, install)
    return OFFLINE


def installed(library: str) -> bool:
    """Whether a library can be imported."""
    try:
        return find_spec(library) is not None
    except ImportError:  # the package that holds it is not there
        return False


def _say_model(model: str) -> None:
    if model == OFFLINE:
        keys = " or ".join(provider.key for provider in PROVIDERS[:2])
        say("Model: offline, a small stand-in that ships with Sessile, not a language model.")
        say("       Set {} to see it with a real one.", keys)
    else:
        say("Model: {}", model)


def _show(model: str, path: str, *, kept: bool) -> int:
    say("Database: {}", path)
    print_heading("1. A process talks with an agent, and ends.")
    _run_process(model, path, *TOLD)
    print_heading("2. Before: in another process, an agent without a storage.")
    _run_process(model, "", ASKED)
    print_heading("3. After: in yet another process, an agent with the same storage.")
    answer = _run_process(model, path, ASKED)
    with SqliteStorage(path) as storage:
        _show_database(storage)
        _show_insight(storage)
    _say_where(path, kept=kept)
    if model == OFFLINE and TOLD[-1] not in answer:
        say(err=True)
        say("The last process did not answer from the stored history.", err=True)
        return 1
    return 0


def _run_process(model: str, path: str, *questions: str) -> str:
    """Ask the questions in a process of their own, print what is said, and return the last answer."""
    isolated = [] if {"", os.getcwd()} & set(sys.path) else ["-P"]  # import what this process would import
    command = [sys.executable, *isolated, "-m", "sessile.cli.demo_turn", model, path, *questions]
    done = subprocess.run(  # noqa: S603 (our own module)
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8", check=False
    )
    turns = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for number, turn in enumerate(turns):
        if number == 0:
            say("   process {}: {}", turn["process"], _code(path))
        say("     user:  {}", turn["question"])
        say_block("agent", turn["answer"], "     ")
    if done.returncode != 0:
        raise _failed(done.stderr, model)
    return turns[-1]["answer"]


def _code(path: str) -> str:
    """How the process makes its agent."""
    return f"Agent(model, storage=SqliteStorage({path!r}))" if path else "Agent(model)"


def _failed(stderr: str, model: str) -> SessileError:
    reason = next((line for line in reversed(stderr.splitlines()) if line.strip()), "it said nothing")
    hint = "Check the key and the network, or see it offline: sessile demo --model offline."
    return SessileError(f"The process failed: {reason}", hint="" if model == OFFLINE else hint)


def _show_database(storage: Storage) -> None:
    print_heading("The sessions in the database")
    rows = [
        [
            head.session_id,
            head.agent or "",
            head.user_id or "",
            str(head.run_count),
            head.status or "",
            moment(head.updated_at),
        ]
        for head in storage.sessions(user_id=ANY_USER)
    ]
    print_table(Table(("session", "agent", "user", "runs", "status", "updated (UTC)"), rows))
    print_heading("The messages of session {}", SESSION)
    print_table(Table(("run", "who", "text"), _message_rows(storage)))


def _message_rows(storage: Storage) -> Sequence[Sequence[str]]:
    return [
        [str(message.run), who, clip(text, 80)]
        for message in storage.messages(SESSION, last_runs=3, user_id=ANY_USER)
        for who, text in message_lines(message)
    ]


def _show_insight(storage: Storage) -> None:
    """Find a run by its words, rate it, and make an example of it."""
    with Index(storage) as index:
        print_heading("Found: where was the capital mentioned?")
        hits = index.search("capital france", user_id=ANY_USER, order="best", limit=3, session_id=SESSION)
        for hit in hits:
            if hit.run is not None:
                say("{} run {}: {}", hit.session_id, hit.run.number, clip(hit.snippets[0].text, 80))
        told = next((hit.run for hit in hits if hit.run is not None), None)
        if told is None:
            return
        print_heading("Rated: the answer of run {} was right", told.number)
        said = storage.rate(SESSION, told.run_id, score=True, comment="Exactly.", by="ada", user_id=ANY_USER)
        say("score {}, by {}: {}", said.score, said.by or "", said.comment or "")
        print_heading("An example of a good answer, for the next prompt")
        say_text(index.examples(user_id=ANY_USER, min_score=1, limit=1).prompt())


def _say_where(path: str, *, kept: bool) -> None:
    if kept:
        say()
        say("Look into it: sessile show sqlite:///{} {}", quote(path), SESSION)
    else:
        say()
        say("The database was a temporary file. Keep it with: sessile demo --db demo.db")
    say("See sample sessions in a browser: sessile demo --dashboard")
