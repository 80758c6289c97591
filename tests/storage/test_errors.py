"""Every error says what happened, what to do, whether a retry helps and whether the write happened."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest

from sessile import MemoryStorage, Storage, errors
from sessile.drivers.memory import MemoryDriver
from sessile.errors import NotStoredError, SessileError, StorageError, StorageUnavailableError

from .helpers import Tapped

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, SessileError)]


@pytest.mark.parametrize("kind", [c for c in CLASSES if c not in (SessileError, NotStoredError)])
def test_every_error_answers_the_four_questions(kind: type[SessileError]) -> None:
    error = kind("It broke.")
    assert str(error).startswith("It broke.")
    assert error.hint, "it says what to do"
    assert error.hint in str(error)
    assert error.retryable in (True, False)
    assert error.written == "no"


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_one_of_ours(kind: type[Exception]) -> None:
    assert issubclass(kind, SessileError)
    assert kind.__doc__


def test_errors_are_also_what_python_would_raise() -> None:
    assert issubclass(errors.InvalidIdError, ValueError)
    assert issubclass(errors.SessionNotFoundError, LookupError)
    assert issubclass(errors.DeadlineError, TimeoutError)
    assert issubclass(errors.MissingDependencyError, ImportError)


def test_what_is_given_replaces_the_defaults() -> None:
    error = StorageError("It broke.", hint="Mend it.", retryable=True, written="unknown")
    assert (error.hint, error.retryable, error.written) == ("Mend it.", True, "unknown")
    assert str(error) == "It broke. Mend it. (The write happened: unknown.)"
    assert StorageError("It broke.", hint="").hint == ""
    assert StorageError("It broke.", retryable=False).retryable is False
    assert StorageUnavailableError("Down.").retryable is True


def test_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(StorageError("It broke.", hint="Mend it.", written="yes")))
    assert (error.hint, error.written, str(error)) == (
        "Mend it.",
        "yes",
        "It broke. Mend it. (The write happened: yes.)",
    )


def test_a_missing_library_says_what_to_install() -> None:
    error = errors.missing_dependency("pymongo", "mongodb", "The MongoDB driver")
    assert "needs the package 'pymongo'" in str(error)
    assert 'pip install "sessile[mongodb]"' in str(error)


def test_an_answer_that_could_not_be_stored_is_not_lost() -> None:
    tries: list[str] = []

    async def again() -> str:
        tries.append("stored")
        return "Paris"

    def step(coroutine: Any) -> Any:
        return asyncio.run(coroutine)

    cause = StorageError("Down.", written="unknown")
    error = NotStoredError("Not stored.", result="Paris", cause=cause, again=again, step=step)
    assert (error.result, error.cause, error.written) == ("Paris", cause, "unknown")
    assert "retry_commit" in error.hint
    assert error.retry_commit() == "Paris"
    assert asyncio.run(error.aretry_commit()) == "Paris"
    assert tries == ["stored", "stored"]


# ---------------------------------------------------------------- a read that fails is raised


class Broken(Tapped):
    def __init__(self) -> None:
        super().__init__(MemoryDriver())

    def break_down(self) -> None:
        def fail(*args: Any) -> None:
            raise StorageUnavailableError("The database is down.")

        self.before = dict.fromkeys(("load", "entries", "list", "count", "get_record"), fail)


READS = {
    "get_session": lambda s: s.get_session("s"),
    "get_session with runs": lambda s: s.get_session("s", last_runs=3),
    "runs": lambda s: s.runs("s"),
    "get_run": lambda s: s.get_run("s", 1),
    "messages": lambda s: s.messages("s"),
    "sessions": lambda s: s.sessions(),
    "count_sessions": lambda s: s.count_sessions(),
    "branches": lambda s: s.branches("s"),
    "entries": lambda s: s.entries("s"),
    "verify": lambda s: s.verify("s"),
    "media": lambda s: s.media("s", "0" * 64),
    "follow": lambda s: next(s.follow("s")),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_that_fails_is_raised(read: Any) -> None:
    driver = Broken()
    with Storage(driver) as storage:
        storage.add_run("s", input="x")
        driver.break_down()
        with pytest.raises(StorageUnavailableError, match="The database is down") as caught:
            read(storage)
    assert caught.value.written == "no"
    assert caught.value.retryable


def test_nothing_there_is_not_an_error_of_reads_that_may_find_nothing() -> None:
    with MemoryStorage() as storage:
        assert storage.get_session("s") is None
        assert storage.get_session("s", last_runs=3) is None
        assert storage.runs("s") == []
        assert storage.messages("s") == []
        assert storage.delete("s") is False
        for needs in (storage.branches, storage.entries, storage.verify):
            with pytest.raises(errors.SessionNotFoundError, match="no session 's'"):
                needs("s")
