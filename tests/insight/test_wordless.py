"""An index without the words of what was said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sessile import ANY_USER, SqliteStorage, Storage
from sessile.cli import main
from sessile.errors import InvalidInputError, StorageError
from sessile.insight import Index, existing_index

from .conftest import PLACES, storage_at


@pytest.fixture(params=PLACES)
def wordless(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Storage, Index]]:
    """An index without words on each database."""
    made, into = storage_at(request, request.param, tmp_path)
    with made, Index(made, into, text=False) as index:
        yield made, index


def words_in(index: Index) -> int:
    return index._place.read("SELECT COUNT(*) FROM {words}")[0][0]


def test_it_answers_all_but_searches(wordless: tuple[Storage, Index]) -> None:
    storage, index = wordless
    storage.add_run("s", input="where is ORD-7781", output="on its way", agent="shop")
    storage.rename("s", "an order")
    (run,) = index.runs(agent="shop")
    assert (run.session_id, run.number) == ("s", 1)
    assert [one.session_id for one in index.sessions(name_prefix="an or")] == ["s"]
    assert index.usage().total.runs == 1
    assert index.examples(like="where is it?").openai()[0]["content"] == "where is ORD-7781"
    with pytest.raises(InvalidInputError, match="no words") as refused:
        index.search("7781")
    assert "sessile index --rebuild --text" in str(refused.value)
    storage.rate("s", 1, score=1, comment="a fine answer")
    assert [one.number for one in index.runs(min_score=1)] == [1]
    assert words_in(index) == 0
    storage.delete("s")
    assert not index.runs()


def test_how_it_was_made_stays_so_until_it_is_rebuilt(sqlite: SqliteStorage) -> None:
    sqlite.add_run("s", input="hello")
    Index(sqlite, text=False).update()
    assert len(Index(sqlite).runs()) == 1
    with pytest.raises(StorageError, match="has no words of what was said"):
        Index(sqlite, text=True).runs()
    Index(sqlite).rebuild()
    assert words_in(Index(sqlite)) == 0
    Index(sqlite, text=True).rebuild()
    assert len(Index(sqlite).search("hello")) == 1
    with pytest.raises(StorageError, match="has the words of what was said"):
        Index(sqlite, text=False).runs()
    Index(sqlite).rebuild()
    assert len(Index(sqlite).search("hello")) == 1


def test_who_has_it_open_hears_that_it_was_made_anew(sqlite: SqliteStorage) -> None:
    sqlite.add_run("s", input="hello")
    index, other = Index(sqlite), Index(sqlite, text=False)
    assert len(index.search("hello")) == 1
    other.rebuild()
    with pytest.raises(InvalidInputError, match="no words"):
        index.search("hello")
    sqlite.add_run("s", input="again")
    assert [len(index.runs()), words_in(index)] == [2, 0]
    Index(sqlite, text=True).rebuild()
    assert len(index.search("again")) == 1
    with pytest.raises(StorageError, match="has the words"):
        other.runs()


def test_made_anew_while_another_one_builds_it(sqlite: SqliteStorage) -> None:
    for number in range(1200):
        sqlite.add_run(f"s{number}", input=f"hello {number}")
    made_anew: list[int] = []

    def meanwhile(done: int) -> None:
        if not made_anew:
            made_anew.append(done)
            with Index(sqlite, text=False) as other:
                other._place.rebuild()

    index = Index(sqlite)
    index.update(meanwhile)
    assert 0 < made_anew[0] < 1200
    assert [index.usage(user_id=ANY_USER).total.runs, words_in(index)] == [1200, 0]


async def test_an_agent_finds_past_sessions_without_it(sqlite: SqliteStorage) -> None:
    Index(sqlite, text=False).update()
    assert await existing_index(sqlite) is None
    Index(sqlite, text=True).rebuild()
    with closing(await existing_index(sqlite)) as there:  # type: ignore[type-var] (there is one)
        assert there is not None


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    url = f"sqlite:///{tmp_path}/s.db"
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.add_run("s", input="hello")

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            raise SystemExit(main([arguments[0], url, *arguments[1:]]))
        return int(end.value.code or 0), "".join(capsys.readouterr())

    assert run("index", "--no-text")[0] == run("index")[0] == 0
    assert "hello" not in run("search", "hello")[1]
    assert run("search", "hello")[0] == run("index", "--text")[0] == 1
    assert run("index", "--rebuild", "--text")[0] == 0
    assert "hello" in run("search", "hello")[1]
