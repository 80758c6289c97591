"""Who pastes a message of Sessile's into a search finds a heading, what has happened, and what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from tests.messages import ANSWER, FILLED, LOG, SAID, SOURCE, Module, messages
from tests.messages_page import DOCS, EXCEPTIONS, PAGES, Page, entries, headings_of, words_of, written

import sessile
from sessile import Agent, MemoryStorage, SqliteStorage, Team, Workflow
from sessile.agents.offline import OfflineModel
from sessile.errors import SessileError
from sessile.insight import Index
from sessile.retention import Policy

pytestmark = pytest.mark.no_cover  # reading the code is what takes time here, traced it takes three times as long

PASSING_ON = {
    "cli/__init__.py",
    "drivers/files/storage.py",
    "drivers/mongodb/errors.py",
    "drivers/objects/driver.py",
    "insight/runs.py",
    "server/limits.py",
    "server/openai/common.py",
    "server/problems.py",
    "server/serving.py",
    "workflows/steps/executing.py",
}
"""Modules that raise or show a text which they are given: of a database, of an argument, or of a message above."""


@cache
def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text("utf-8")


@cache
def headings() -> dict[str, str]:
    """All headings of messages, and what their page tells of them."""
    found: dict[str, str] = {}
    for page in PAGES:
        found |= words_of(text_of(page.name))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_those_of_the_code(page: Page) -> None:
    """A message that is new, gone or changed, or a new hint: `python -m tests.messages_page` writes the page anew."""
    assert text_of(page.name) == written(page)


def test_every_message_has_one_heading() -> None:
    texts = {one.text for one in messages()} - EXCEPTIONS.keys()
    found = [one for page in PAGES for one in headings_of(text_of(page.name))]
    assert sorted(found) == sorted(texts)


def test_what_has_happened_is_told() -> None:
    """Of all but refused arguments, where the message is the whole story."""
    untold = [one.text for said in entries().values() for one in said if one.needs_words and not headings()[one.text]]
    assert not untold, "write below their headings what has happened"


def test_exceptions_are_messages() -> None:
    assert EXCEPTIONS.keys() <= {one.text for one in messages()}
    assert {one.path for one in messages() if one.text == FILLED} == PASSING_ON


# ---------------------------------------------------------------- messages as users meet them


def _in_sqlite(folder: Path) -> SqliteStorage:
    return SqliteStorage(folder / "sessions.db")


def _agent(**options: object) -> Agent:
    return Agent(OfflineModel(), name="support", **options)  # pyright: ignore[reportArgumentType]


MET: dict[str, Callable[[Path], object]] = {
    "an id": lambda _: MemoryStorage().get_session(""),
    "a long id": lambda _: MemoryStorage().get_session("x" * 300),
    "a cursor": lambda _: MemoryStorage().sessions(cursor="nonsense"),
    "a state": lambda _: MemoryStorage().create_session("s1", state={"at": {1, 2}}),
    "a score": lambda _: MemoryStorage().rate("s1", 1, score="good"),  # pyright: ignore[reportArgumentType]
    "no session": lambda _: MemoryStorage().rename("s1", "Refund"),
    "no user": lambda _: MemoryStorage(require_user=True).sessions(),
    "a file": lambda _: MemoryStorage().files("s1").read("report.md"),
    "no URL": lambda _: sessile.open("sessions.db"),
    "no driver": lambda _: sessile.open("oracle://host"),
    "a folder": lambda folder: SqliteStorage(folder).sessions(),
    "a file that is no database": lambda folder: _broken(folder).sessions(),
    "nothing to continue": lambda folder: _agent(storage=_with_a_run(folder)).resume("s1"),
    "a storage that is closed": lambda folder: _closed(folder).sessions(),
    "no sessions": lambda _: _agent().session("s1"),
    "a team": lambda _: Team([], model=OfflineModel(), name="team", storage=MemoryStorage()),
    "a workflow": lambda _: Workflow(steps=[lambda: 1], name="flow", storage=MemoryStorage()),
    "a search": lambda folder: Index(_in_sqlite(folder)).search(" ? "),
    "a policy": lambda _: Policy(),
}


def _broken(folder: Path) -> SqliteStorage:
    (folder / "sessions.db").write_bytes(b"no database" * 1000)
    return _in_sqlite(folder)


def _closed(folder: Path) -> SqliteStorage:
    with _in_sqlite(folder) as storage:
        return storage


def _with_a_run(folder: Path) -> SqliteStorage:
    storage = _in_sqlite(folder)
    storage.add_run("s1", input="What is the capital of Italy?", output="Rome.", agent="support")
    return storage


@pytest.mark.parametrize("met", MET)
def test_a_message_is_found(met: str, tmp_path: Path) -> None:
    with pytest.raises(SessileError) as raised:
        MET[met](tmp_path)
    assert [one for one in headings() if says(one, raised.value.message)], raised.value.message


def says(heading: str, message: str) -> bool:
    """Whether a message is, or begins with, what a heading has, with what is filled in."""
    return re.match(".*?".join(map(re.escape, heading.split(FILLED))), message, re.DOTALL) is not None


# ---------------------------------------------------------------- how they are found


CODE = """
HINT = "Do this."

class OddError(ours.StorageError):
    def __init__(self, name):
        super().__init__(f"The {name} is odd.")

def work(count, *, text="By default."):
    what = "has no run" if count else "has run 1"
    try:
        raise ours.StorageError(f"Session {count!r} {what}.", hint=HINT)
    except ValueError:
        raise TypeError("a value of another type")
    raise NotFoundError("First. " if count else "Second.", hint="One." if count else None)
    logger.warning("%d of %s failed.", count, count)
    say("Left out: {}.", count, err=True)
    say("Done.")
    raise ours.StorageError(text)
"""


def test_reading_code() -> None:
    kinds = {"StorageError": "StorageError", "NotFoundError": "NotFoundError", "OddError": "StorageError"}
    found = {
        (one.text, one.kind, one.hint) for one in Module(SOURCE / "storage/one.py", ast.parse(CODE), kinds).found()
    }
    assert found == {
        ("The … is odd.", "StorageError", None),
        ("Session … has no run.", "StorageError", "Do this."),
        ("Session … has run 1.", "StorageError", "Do this."),
        ("First.", "NotFoundError", "One."),
        ("Second.", "NotFoundError", None),
        ("… of … failed.", LOG, None),
        ("Left out: ….", SAID, None),
        ("By default.", "StorageError", None),
    }


def test_most_messages_are_found() -> None:
    """The reader of code has not gone blind for one of the kinds."""
    kinds = [one.kind for one in messages()]
    assert kinds.count("InvalidInputError") > 200
    assert kinds.count("CorruptDataError") > 50
    assert min(kinds.count(kind) for kind in (LOG, SAID, ANSWER)) > 20
