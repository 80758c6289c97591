"""Search by meaning, with vectors that are kept in the index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydantic_ai import Embedder
from pydantic_ai.embeddings import TestEmbeddingModel

from sessile import ANY_USER, SqliteStorage, Storage
from sessile.drivers.sqlite import SqliteDriver
from sessile.errors import InvalidInputError
from sessile.insight import Index
from sessile.insight.meaning import SAMPLES
from sessile.storage.driver import Span
from sessile.storage.extending import operate
from sessile.storage.rewriting import erase

from .conftest import PLACES, storage_at

THEMES = (("parcel", "package", "delivery"), ("refund", "money", "invoice"), ("password", "login", "account"))


class Themes:
    """Makes vectors by what a text is about, and counts the texts."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.texts += texts
        return [[0.1 + sum(word in text.lower() for word in theme) for theme in THEMES] for text in texts]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Storage, str | None]]:
    made, into = storage_at(request, request.param, tmp_path)
    with made:
        yield made, into


def asked(index: Index, text: str, **more: object) -> list[str]:
    found = index.search(text, order="meaning", **{"user_id": ANY_USER, **more})  # type: ignore[arg-type] (filters)
    return [f"{hit.session_id}#{hit.run.number}" for hit in found if hit.run is not None and hit.score > 0.6]


def test_what_is_near_is_found_without_its_words(place: tuple[Storage, str | None]) -> None:
    storage, into = place
    storage.add_run("s1", input="My parcel did not come", output="It is on its way", user_id="ada")
    storage.add_run("s1", input="I want my money back", output="Of course", user_id="ada")
    storage.add_run("s2", input="Where is my package?", output="At the door", user_id="bob")
    storage.add_run("s3", input="The login fails", status="failed")
    embed = Themes()
    with Index(storage, into, embed=embed) as index:
        assert asked(index, "delivery") == ["s2#1", "s1#1"]
        assert asked(index, "delivery", user_id="ada") == ["s1#1"]
        assert asked(index, "account", status="failed") == ["s3#1"]
        assert asked(index, "account", status="completed") == []
        assert len(embed.texts) == 4 + 4 + len(SAMPLES)  # each run once, and each question
        first = index.search("invoice", order="meaning", user_id=ANY_USER, limit=1)
        assert (first.items[0].snippets[0].text, first.items[0].score) == ("I want my money back\nOf course", 1.0)
        second = index.search("invoice", order="meaning", user_id=ANY_USER, limit=1, cursor=first.next_cursor)
        assert second.items[0].run != first.items[0].run
        storage.delete("s2", user_id="bob")
        operate(storage, erase, "s1", Span(runs=(2, 2)), user_id=ANY_USER)
        assert asked(index, "delivery") == ["s1#1"]
        assert asked(index, "invoice") == []
        kept = index._place.read("SELECT packed FROM {vectors} WHERE run > 0")
        assert [len(row[0]) for row in kept].count(0) == 1  # of what was erased
        assert len(kept) == 3
        index.rebuild()
        assert asked(index, "delivery") == ["s1#1"]


def test_another_embedder_makes_vectors_of_its_own(sqlite: SqliteStorage) -> None:
    sqlite.add_run("s", input="a parcel")
    assert asked(Index(sqlite, embed=Themes()), "parcel") == ["s#1"]
    embedder = Embedder(TestEmbeddingModel(dimensions=8))
    assert asked(Index(sqlite, embed=embedder), "parcel") == ["s#1"]  # its vectors are all alike
    assert sorted(len(row[0]) for row in vectors_of(sqlite)) == [12, 32]


def vectors_of(storage: SqliteStorage) -> Sequence[tuple[bytes]]:
    return Index(storage)._place.read("SELECT packed FROM {vectors} WHERE run > 0")


def test_functions_of_one_name_share_no_vectors(sqlite: SqliteStorage) -> None:
    sqlite.add_run("p", input="a parcel")
    sqlite.add_run("r", input="a refund")
    parcels, other = Themes(), Themes()
    straight = Index(sqlite, embed=lambda texts: parcels(texts))
    turned = Index(sqlite, embed=lambda texts: [one[::-1] for one in other(texts)])
    for index in (straight, turned, straight, turned):
        assert asked(index, "delivery") == ["p#1"]
    assert len(parcels.texts) == len(other.texts) == len(SAMPLES) + 2 + 2
    again = Themes()
    assert asked(Index(sqlite, embed=lambda texts: again(texts)), "delivery") == ["p#1"]
    assert len(again.texts) == len(SAMPLES) + 1  # it is known whose vectors are there


def test_vectors_of_another_length_are_made_again(sqlite: SqliteStorage) -> None:
    sqlite.add_run("p", input="a parcel")
    sqlite.add_run("r", input="a refund")
    themes, more = Themes(), list[float]()
    with Index(sqlite, embed=lambda texts: [[*one, *more] for one in themes(texts)]) as index:
        assert asked(index, "delivery") == ["p#1"]
        more += [0.0, 0.0]  # the model behind it is another one now
        assert asked(index, "delivery") == ["p#1"]
        assert asked(index, "invoice") == ["r#1"]


def test_runs_without_text_are_read_once(sqlite: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        sqlite.add_run(f"empty{number}")
    sqlite.add_run("p", input="a parcel")
    read: list[str] = []
    entries = SqliteDriver.entries

    async def counted(driver: object, session_id: str, *more: object) -> object:
        read.append(session_id)
        return await entries(driver, session_id, *more)  # type: ignore[arg-type] (passed on)

    monkeypatch.setattr(SqliteDriver, "entries", counted)
    with Index(sqlite, embed=Themes()) as index:
        assert asked(index, "delivery") == ["p#1"]
        read.clear()
        assert asked(index, "delivery") == ["p#1"]
        assert set(read) == {"p"}
        sqlite.add_run("empty0", input="the package")
        assert asked(index, "delivery") == ["empty0#2", "p#1"]


def test_a_model_that_a_package_ships(sqlite: SqliteStorage) -> None:
    import wordllama

    model = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
    sqlite.add_run("pay", input="I want to cancel my subscription and get the money back")
    sqlite.add_run("dog", input="My dog likes to swim in the lake")
    sqlite.add_run("car", input="The engine of the car makes a strange noise")
    with Index(sqlite, embed=model.embed) as index:
        for question, nearest in (("a puppy in the water", "dog"), ("repayment", "pay"), ("vehicle motor", "car")):
            assert index.search(question, order="meaning").items[0].session_id == nearest


def test_wrong_arguments(sqlite: SqliteStorage) -> None:
    with pytest.raises(InvalidInputError, match="embed"):
        Index(sqlite).search("x", order="meaning")
    with pytest.raises(InvalidInputError, match="embed must be"):
        Index(sqlite, embed="text-embedding-3")  # type: ignore[arg-type] (what is tested)
    sqlite.add_run("s", input="x")
    with pytest.raises(InvalidInputError, match="0 vectors of 1"):
        Index(sqlite, embed=lambda texts: []).search("x", order="meaning")
