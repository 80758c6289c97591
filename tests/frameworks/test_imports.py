"""What other libraries have stored themselves, at the releases that people have, becomes sessions here."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from traceback import format_exception
from typing import Any

import psycopg
import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.campaigns import TORTURE
from tests.frameworks.helpers import SUITES, program, python_of
from tests.servers.building import kept

from sessile import ANY_USER, Agent, MemoryStorage, Run, SqliteStorage, Storage
from sessile.errors import CorruptDataError, InvalidInputError
from sessile.transfer import import_conversations

KEY = "a key of the tests, long enough to be one"


@cache
def written(environment: str, name: str, *arguments: str) -> Path:
    """A folder with what a library has written, by a program of `suites/`; once for all tests of a process."""
    folder = kept() / f"written-{environment}-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write(environment, name, str(folder), *arguments)
    return folder


def write(environment: str, name: str, *arguments: str) -> None:
    """Let a library write, by a program of `suites/`."""
    quiet = {**os.environ, "AGNO_TELEMETRY": "false", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
    done = subprocess.run(
        [str(python_of(environment)), str(SUITES / name), *arguments],
        capture_output=True, text=True, check=False, env=quiet,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.fixture(scope="module", autouse=True)
def _tidy() -> Any:
    yield
    for folder in kept().glob(f"written-*-{os.getpid()}"):
        shutil.rmtree(folder, ignore_errors=True)
    written.cache_clear()


def told(run: Run) -> tuple[Any, ...]:
    return run.status, run.input, run.output, len(run.messages)


def goes_on(storage: Storage, session_id: str, user_id: str | None) -> str:
    """What an agent's model is sent when it goes on with a session."""
    seen: list[ModelMessage] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(messages)
        return ModelResponse([TextPart("Ours.")])

    agent = Agent(FunctionModel(answer), storage=storage, history="all")
    assert agent.run("And now?", session_id=session_id, user_id=user_id).output == "Ours."
    return str(seen)


# ---------------------------------------------------------------- Agno


@pytest.mark.parametrize("environment", ["agno1", "agno2", "agno"])
def test_sessions_of_agno(environment: str) -> None:
    folder = written(environment, "agno_written.py")
    with MemoryStorage() as storage:
        before = datetime.now(UTC)
        for name in ("agent", "team"):
            done = import_conversations(str(folder / f"{name}.db"), storage, library="agno")
            assert (done.sessions, done.skipped) == (1, [])
            assert import_conversations(str(folder / f"{name}.db"), storage, library="agno").unchanged == 1
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert (session.kind, session.agent, session.state) == ("agent", "guide", {"n": 1, "none": None})
        assert session.updated_at < before
        runs = storage.runs("s1", last=9, user_id="ada")
        assert [told(run) for run in runs[:2]] == [
            ("completed", "Paris?", "answer to Paris?", 2),
            ("completed", "look up Rome", "answer to Rome is a city", 4),
        ]
        assert runs[0].started_at < runs[1].started_at
        if environment != "agno1":  # which does not store a run that fails, and was told no counts
            assert (runs[2].status, runs[2].output) == ("failed", None)
            assert runs[2].error == {"type": "AgnoError", "message": "the provider is down"}
            assert (session.usage.input_tokens, session.usage.requests, session.usage.cost) == (30, 3, None)
        (run,) = storage.runs("t1", last=9, user_id="bob")
        assert (run.agent, run.input, [child.agent for child in run.children]) == (
            "team",
            "please delegate",
            ["helper"],
        )
        for session_id, user_id in (("s1", "ada"), ("t1", "bob")):
            storage.verify(session_id, user_id=user_id)
        assert "Rome is a city" in goes_on(storage, "s1", "ada")


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_files_of_agno(kind: str) -> None:
    with MemoryStorage() as storage:
        done = import_conversations(str(written("agno1", "agno_written.py") / kind), storage, library="agno")
        assert (done.sessions, done.skipped) == (1, [])
        (run,) = storage.runs("f1", user_id="ada")
        assert (run.input, run.output) == ("Yes? 'no': {a: 1}", "answer to Yes? 'no': {a: 1}")


def test_runs_of_agno_that_stand_in_two_places(tmp_path: Path) -> None:
    """A file that the second release began and the third went on with: each run once, the older ones first."""
    path = tmp_path / "both.db"
    shutil.copy(written("agno", "agno_written.py") / "agent.db", path)
    with sqlite3.connect(path) as database:
        (newest,) = database.execute("SELECT run_data FROM agno_runs WHERE run_index = 0").fetchone()
        database.execute("ALTER TABLE agno_sessions ADD COLUMN runs JSON")
        old = '{"run_id": "old", "content": "old answer", "created_at": 1000, "status": "COMPLETED"}'
        database.execute("UPDATE agno_sessions SET runs = ?", (f"[{old}, {newest}]",))
    with MemoryStorage() as storage:
        import_conversations(str(path), storage, library="agno")
        runs = storage.runs("s1", last=9, user_id="ada")
        assert [run.output for run in runs] == ["old answer", "answer to Paris?", "answer to Rome is a city", None]


# ---------------------------------------------------------------- OpenAI Agents


def openai_agents(name: str) -> str:
    return str(written("openai_agents", "openai_agents_written.py", KEY) / f"{name}.db")


def test_sessions_of_openai_agents() -> None:
    with MemoryStorage() as storage:
        for name in ("plain", "sqlalchemy"):
            done = import_conversations(openai_agents(name), storage, library="openai-agents", user_id="ada")
            assert (done.sessions, done.skipped) == (1, [])
        assert [told(run) for run in storage.runs("s1", last=9, user_id="ada")] == [
            ("completed", "Paris?", "answer to Paris?", 2),
            ("completed", "look up Rome", "answer to Rome is a city", 4),
        ]
        assert [run.output for run in storage.runs("q1", last=9, user_id="ada")] == ["answer to in SQLAlchemy"]
        assert "Rome is a city" in goes_on(storage, "s1", "ada")


def test_branches_of_openai_agents_are_branches() -> None:
    with MemoryStorage() as storage:
        assert import_conversations(openai_agents("advanced"), storage, library="openai-agents").runs == 5
        assert [run.input for run in storage.runs("b1", last=9)] == ["one", "two", "three", "four"]
        assert sum(run.usage.input_tokens for run in storage.runs("b1", last=9)) == 30, "the last was not counted"
        everything = [storage.get_run("b1", number) for number in range(1, 6)]
        assert sorted(str(run.input) for run in everything if run) == ["four", "one", "three", "two", "two again"]


def test_encrypted_items_are_named_or_opened() -> None:
    with MemoryStorage() as storage:
        for key in (None, "another key"):
            done = import_conversations(openai_agents("encrypted"), storage, library="openai-agents", key=key)
            assert (done.sessions, len(done.skipped)) == (0, 2)
        assert storage.count_sessions(user_id=ANY_USER) == 0
        done = import_conversations(openai_agents("encrypted"), storage, library="openai-agents", key=KEY)
        assert (done.sessions, done.skipped) == (1, [])
        assert [run.input for run in storage.runs("e1", last=9)] == ["hidden"]


# ---------------------------------------------------------------- Google ADK


@pytest.mark.parametrize("environment", ["google_adk1", "google_adk"])
@pytest.mark.parametrize("service", ["database", "sqlite"])
def test_sessions_of_google_adk(environment: str, service: str) -> None:
    path = str(written(environment, "google_adk_written.py") / f"{service}.db")
    with MemoryStorage() as storage:
        assert import_conversations(path, storage, library="google-adk").runs == 4
        assert import_conversations(path, storage, library="google-adk").unchanged == 1
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert session.state["user:home"] == "Rome"
        assert session.state["app:n"] == 1
        current = storage.runs("s1", last=9, user_id="ada")
        assert [told(run) for run in current] == [
            ("completed", "Paris?", "answer to Paris?", 2),
            ("completed", "again", "answer to again", 2),
        ]
        left = [storage.get_run("s1", number, user_id="ada") for number in (2, 3)]
        assert [(run.status, run.input) for run in left if run] == [
            ("completed", "look up Rome"),
            ("failed", "break it"),
        ]
        storage.verify("s1", user_id="ada")
        assert "answer to again" in goes_on(storage, "s1", "ada")


def test_a_source_that_has_grown(tmp_path: Path) -> None:
    full = written("google_adk", "google_adk_written.py") / "database.db"
    earlier = tmp_path / "earlier.db"
    shutil.copy(full, earlier)
    with sqlite3.connect(earlier) as database:
        ids = [row[0] for row in database.execute("SELECT invocation_id FROM events ORDER BY timestamp")]
        database.execute("DELETE FROM events WHERE invocation_id != ?", (ids[0],))
        database.execute("UPDATE sessions SET state = '{\"n\": 1}'")
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        assert import_conversations(str(earlier), storage, library="google-adk").runs == 1
        assert import_conversations(str(full), storage, library="google-adk").runs == 3
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert session.state["n"] is None
        storage.verify("s1", user_id="ada")
        storage.add_run("s1", input="ours", output="ours", user_id="ada")
        assert import_conversations(str(full), storage, library="google-adk").unchanged == 1
        assert import_conversations(str(earlier), storage, library="google-adk").unchanged == 1


def test_one_that_both_have_continued_is_left_alone(tmp_path: Path) -> None:
    full = written("google_adk", "google_adk_written.py") / "database.db"
    earlier = tmp_path / "earlier.db"
    shutil.copy(full, earlier)
    with sqlite3.connect(earlier) as database:
        ids = [row[0] for row in database.execute("SELECT invocation_id FROM events ORDER BY timestamp")]
        database.execute("DELETE FROM events WHERE invocation_id != ?", (ids[0],))
    with MemoryStorage() as storage:
        import_conversations(str(earlier), storage, library="google-adk")
        storage.add_run("s1", input="ours", output="ours", user_id="ada")
        done = import_conversations(str(full), storage, library="google-adk")
        assert done.sessions == 0
        assert "continued here" in done.skipped[0][1]
        assert [run.input for run in storage.runs("s1", last=9, user_id="ada")] == ["Paris?", "ours"]
        assert import_conversations(str(full), storage, library="google-adk", prefix="adk-").sessions == 1


# ---------------------------------------------------------------- LangGraph

PARIS, OTHER = ["Paris?", "answer to Paris?", 2], ["other", "answer to other", 2]
ROME = ["look up Rome", "answer to Rome is a city", 4]
THREADS = {"runs": {"t1": [PARIS, ROME], "t2": [OTHER]}, "unchanged": [0, 1, 1], "apart": True}


@pytest.mark.measured_children
def test_threads_of_langgraph(sqlite_url: str, tmp_path: Path) -> None:
    """Read by its own saver, where that is: an import after each of three turns."""
    assert program("langgraph", "langgraph_written.py", sqlite_url, tmp_path) == THREADS


# ---------------------------------------------------------------- over PostgreSQL


@pytest.fixture
def far_url(postgres_url: str) -> str:
    """An empty database of PostgreSQL, whose times without a zone are not UTC, as SQLAlchemy's users write it."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'")  # pyright: ignore[reportArgumentType]
    return postgres_url.replace("postgresql://", "postgresql+psycopg://")


@pytest.mark.parametrize("environment", ["agno1", "agno2", "agno"] if TORTURE else ["agno"])
def test_agno_over_postgres(environment: str, far_url: str, tmp_path: Path) -> None:
    """It has a schema of its own."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    write(environment, "agno_written.py", str(tmp_path), far_url)
    with MemoryStorage() as storage:
        done = import_conversations(far_url, storage, library="agno")
        assert (done.sessions, done.skipped) == (2, [])
        assert import_conversations(far_url, storage, library="agno").unchanged == 2
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert (session.kind, session.agent, session.state) == ("agent", "guide", {"n": 1, "none": None})
        assert before < session.updated_at < datetime.now(UTC)
        assert [told(run) for run in storage.runs("s1", last=9, user_id="ada")[:2]] == [
            ("completed", "Paris?", "answer to Paris?", 2),
            ("completed", "look up Rome", "answer to Rome is a city", 4),
        ]
        (run,) = storage.runs("t1", last=9, user_id="bob")
        assert [child.agent for child in run.children] == ["helper"]
        assert "Rome is a city" in goes_on(storage, "s1", "ada")


@pytest.mark.parametrize("environment", ["google_adk1", "google_adk"] if TORTURE else ["google_adk"])
def test_google_adk_over_postgres(environment: str, far_url: str, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    write(environment, "google_adk_written.py", str(tmp_path), far_url)
    with MemoryStorage() as storage:
        assert import_conversations(far_url, storage, library="google-adk").runs == 4
        assert import_conversations(far_url, storage, library="google-adk").unchanged == 1
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert (session.state["user:home"], session.state["app:n"], session.state["plan"]) == ("Rome", 1, None)
        assert [told(run) for run in storage.runs("s1", last=9, user_id="ada")] == [
            ("completed", "Paris?", "answer to Paris?", 2),
            ("completed", "again", "answer to again", 2),
        ]
        assert before < session.created_at < session.updated_at < datetime.now(UTC)
        assert "answer to again" in goes_on(storage, "s1", "ada")


def test_openai_agents_over_postgres(far_url: str, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    write("openai_agents", "openai_agents_written.py", str(tmp_path), KEY, far_url)
    with MemoryStorage() as storage:
        done = import_conversations(far_url, storage, library="openai-agents", user_id="ada")
        assert (done.sessions, done.runs, done.skipped) == (1, 2, [])
        assert import_conversations(far_url, storage, library="openai-agents", user_id="ada").unchanged == 1
        assert [told(run) for run in storage.runs("s1", last=9, user_id="ada")] == [
            ("completed", "Paris?", "answer to Paris?", 2),
            ("completed", "look up Rome", "answer to Rome is a city", 4),
        ]
        session = storage.get_session("s1", user_id="ada")
        assert session is not None
        assert before < session.created_at < datetime.now(UTC)
        assert "Rome is a city" in goes_on(storage, "s1", "ada")


@pytest.mark.measured_children
def test_langgraph_over_postgres(sqlite_url: str, far_url: str) -> None:
    found = program("langgraph", "langgraph_written.py", sqlite_url, far_url.replace("+psycopg", ""))
    assert found == THREADS


def test_a_database_that_cannot_be_read(postgres_url: str) -> None:
    """The error is one of ours, and has no password."""
    secret = postgres_url.replace("postgresql://", "postgresql+asyncpg://", 1)
    with MemoryStorage() as storage:
        with pytest.raises(InvalidInputError, match=r"^The postgresql\+asyncpg database has no table"):
            import_conversations(secret, storage, library="agno")
        nobody = "postgresql://ada:swordfish@127.0.0.1:9/none"
        with pytest.raises(CorruptDataError, match="cannot be read") as raised:
            import_conversations(nobody, storage, library="agno")
        assert "swordfish" not in "".join(format_exception(raised.value))


# ---------------------------------------------------------------- what is none


@pytest.mark.parametrize("library", ["agno", "openai-agents", "google-adk"])
def test_what_is_no_database_of_that_library(library: Any, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("CREATE TABLE notes (session_id TEXT)")
    (tmp_path / "text.db").write_text("This is no database at all, however long it may be." * 100)
    with MemoryStorage() as storage:
        with pytest.raises(InvalidInputError):
            import_conversations(str(tmp_path / "other.db"), storage, library=library)
        with pytest.raises(CorruptDataError, match="no database of SQLite's"):
            import_conversations(str(tmp_path / "text.db"), storage, library=library)
        with pytest.raises(InvalidInputError, match="There is no file"):
            import_conversations(str(tmp_path / "nothing.db"), storage, library=library)
        assert storage.count_sessions(user_id=ANY_USER) == 0


def test_the_first_schema_of_adk_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as database:
        database.execute("CREATE TABLE sessions (app_name, user_id, id, state, create_time, update_time)")
        database.execute("CREATE TABLE events (id, app_name, user_id, session_id, invocation_id, actions BLOB)")
    with MemoryStorage() as storage, pytest.raises(InvalidInputError, match="pickled"):
        import_conversations(str(tmp_path / "old.db"), storage, library="google-adk")
