"""Search: the same hits on every database, from the words as they are stored."""

from __future__ import annotations

import string

import pytest

from sessile import ANY_USER, SqliteStorage
from sessile.errors import InvalidInputError
from sessile.insight import Index, reading
from sessile.storage.driver import Span
from sessile.storage.extending import operate
from sessile.storage.rewriting import erase
from sessile.tokens import count_terms, count_tokens, question, term

LONG = " ".join(f"word{number}" for number in range(20_000))

TEXTS = {
    "order": "Where is ORD-7781? It was sent on 2026-11-03.",
    "python": "def main(customer_id: List<String>): src/app/main.py fails in getUserName()",
    "acronym": "HTTPServer answered",
    "model": "gpt-5.1 and claude-3.5-sonnet, data API v2",
    "cafe": "Ein Café in Zürich, naïve Straße",
    "chinese": "我想退款这个订单",
    "japanese": "注文をキャンセルしたい",
    "korean": "주문 취소 방법을 알려주세요",
    "arabic": "أريد استرداد المبلغ العَرَبِيَّة",
    "greek": "ΚΑΛΗΜΕΡΑ κόσμε",
    "stop": "the and or not near to be",
    "signs": "user@example.com wrote: 50% off! c++ *star* \"quoted\" 'single' a&b",
    "long": LONG,
}

QUERIES = {
    "ORD-7781": {"order"},
    "ord-7781": {"order"},
    "7781": {"order"},
    "ORD-778": set[str](),
    "2026-11-03": {"order"},
    "2026-11": {"order"},
    "11-03": {"order"},
    "customer_id": {"python"},
    "customer": {"python"},
    "List<String>": {"python"},
    "main.py": {"python"},
    "src/app/main.py": {"python"},
    "app/main": {"python"},
    "getUserName": {"python"},
    "httpserver": {"acronym"},
    "server": {"acronym"},
    "HTTP": {"acronym"},
    "username": set[str](),
    "user": {"python", "signs"},
    "name": {"python"},
    "gpt-5.1": {"model"},
    "gpt": {"model"},
    "claude-3.5-sonnet": {"model"},
    "5.1": {"model"},
    "data": {"model"},
    "api": {"model"},
    "v2": {"model"},
    "cafe": {"cafe"},
    "CAFÉ": {"cafe"},
    "zurich": {"cafe"},
    "STRASSE": {"cafe"},
    "naive": {"cafe"},
    "退款": {"chinese"},
    "订": {"chinese"},
    "这个订单": {"chinese"},
    "款想": set[str](),
    "キャンセル": {"japanese"},
    "注文": {"japanese"},
    "취소": {"korean"},
    "주문 방법": {"korean"},
    "العربية": {"arabic"},
    "المبلغ": {"arabic"},
    "καλημερα": {"greek"},
    "ΚΌΣΜΕ": {"greek"},
    "the": {"stop"},
    "not near": {"stop"},
    "AND": {"model", "stop"},
    "to be OR": {"stop"},
    "user@example.com": {"signs"},
    "example": {"signs"},
    "50%": {"signs"},
    "c++": {"signs"},
    "*star*": {"signs"},
    "a&b": {"signs"},
    "'single'": {"signs"},
    "word19999": {"long"},
    "word0": {"long"},
    "word1 word19998": {"long"},
    '"word17 word18"': {"long"},
    '"word18 word17"': set[str](),
    '"not near"': {"stop"},
    '"near not"': set[str](),
    '"in Zürich"': {"cafe"},
    "nowhere": set[str](),
    "sent nowhere": set[str](),
}


def fill(index: Index) -> None:
    for name, text in TEXTS.items():
        index._storage.add_run(name, input=text, user_id="ada")


def found(index: Index, query: str, **more: object) -> set[str]:
    return {hit.session_id for hit in index.search(query, user_id="ada", limit=100, **more)}  # type: ignore[arg-type] (filters)


def test_same_hits_on_every_database(index: Index) -> None:
    fill(index)
    for query, expected in QUERIES.items():
        assert found(index, query) == expected, query


def test_users_words_are_never_syntax(index: Index) -> None:
    fill(index)
    for sign in string.punctuation:
        for query in (f"{sign}order{sign}", f"refund{sign}policy", f"the {sign} and", f"{sign}the", f"the{sign}"):
            found(index, query)  # says nothing of what is wrong with it
    for query in (
        "order NOT sent",
        "qorder OR quser",
        "body:order",
        "NEAR(order sent)",
        "{text}",
        ":now",
        "%s",
        "%(now)s",
    ):
        assert found(index, query) <= set(TEXTS)


@pytest.mark.parametrize("query", ["", "   ", "!!!", '""', "\0"])
def test_without_words_there_is_nothing_to_search_for(sqlite: SqliteStorage, query: str) -> None:
    with pytest.raises(InvalidInputError, match="no words"):
        Index(sqlite).search(query)


def test_only_the_users_own(index: Index) -> None:
    index._storage.add_run("a", input="secret plan", user_id="ada")
    index._storage.add_run("b", input="secret plan", user_id="bob")
    index._storage.add_run("n", input="secret plan")
    assert found(index, "secret") == {"a"}
    assert {hit.session_id for hit in index.search("secret")} == {"n"}
    assert {hit.session_id for hit in index.search("secret", user_id=ANY_USER)} == {"a", "b", "n"}


def test_erased_words_are_found_no_more(index: Index) -> None:
    storage = index._storage
    if not storage.capabilities.rewrites:
        pytest.skip("This database rewrites nothing.")
    storage.add_run("a", input="my card is 4711", output="noted", user_id="ada")
    assert found(index, "4711") == {"a"}
    operate(storage, erase, "a", Span(runs=(1, 1)), user_id="ada")
    assert found(index, "4711") == set()
    engine = index._place.engine
    rows = index._place.read(f"SELECT {engine.kept(['4711'])} FROM {{words}}")
    assert rows, "the words of the run that is left"
    assert all(engine.occurrences(["4711"], row)[0] == [0] for row in rows)


def test_pages_newest_first(index: Index) -> None:
    for number in range(25):
        index._storage.add_run("s", input=f"refund {number}", user_id="ada")
    numbers: list[int] = []
    cursor = None
    while True:
        page = index.search("refund", user_id="ada", limit=10, cursor=cursor)
        numbers += [hit.run.number for hit in page if hit.run is not None]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert numbers == list(range(25, 0, -1))


def test_best_first(index: Index) -> None:
    add = index._storage.add_run
    add("often", input="refund refund refund", user_id="ada")
    add("once", input=f"refund and much else: {' '.join(f'w{number}' for number in range(400))}", user_id="ada")
    add("short", input="refund", user_id="ada")
    page = index.search("refund", user_id="ada", order="best")
    assert [hit.session_id for hit in page] == ["often", "short", "once"]
    first = index.search("refund", user_id="ada", order="best", limit=2)
    second = index.search("refund", user_id="ada", order="best", limit=2, cursor=first.next_cursor)
    assert [hit.session_id for hit in (*first, *second)] == ["often", "short", "once"]
    assert second.next_cursor is None


def test_snippets_show_what_is_stored(index: Index) -> None:
    text = f"{'before ' * 40}the Customer_ID of the Café {'after ' * 40}"
    index._storage.add_run("a", input="hello", output=text, user_id="ada")
    (hit,) = index.search("customer_id cafe", user_id="ada")
    (snippet,) = hit.snippets
    assert snippet.where == "output"
    assert [snippet.text[start:end] for start, end in snippet.marks] == ["Customer", "ID", "Café"]
    assert snippet.text.startswith("…")
    assert snippet.text.endswith("…")
    assert len(snippet.text) < 250


def test_parts_of_an_identifier_are_marked(index: Index) -> None:
    index._storage.add_run("s", input="It is the HTTPServer of myServer, not a serverless one.", user_id="ada")
    (snippet,) = index.search("server", user_id="ada").items[0].snippets
    assert [snippet.text[start:end] for start, end in snippet.marks] == ["Server", "Server"]


def test_hits_in_large_runs_are_shown_beside_those_in_small_ones(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SMALL", 1000)
    monkeypatch.setattr(reading, "COMMITS", 3)
    for number in range(6):
        index._storage.add_run(f"s{number}", input=f"refund {number}{number % 2 * ' and so on' * 300}", user_id="ada")
    hits = index.search("refund", user_id="ada")
    shown = [(hit.session_id, hit.snippets[0].where, hit.snippets[0].text[:8]) for hit in hits]
    assert shown == [(f"s{number}", "input", f"refund {number}") for number in reversed(range(6))]


def test_names_and_metadata_of_sessions(index: Index) -> None:
    storage = index._storage
    storage.create_session(
        "a", user_id="ada", name="Capitals of Europe", metadata={"tenant": "acme", "tags": ["north"]}
    )
    assert found(index, "capitals") == {"a"}
    assert found(index, "acme") == found(index, "north") == {"a"}
    storage.rename("a", "Rivers", user_id="ada")
    assert found(index, "capitals") == set()
    (hit,) = index.search("rivers", user_id="ada")
    assert (hit.run, hit.session_name, hit.snippets[0].where) == (None, "Rivers", "name")


def test_filters(index: Index) -> None:
    add = index._storage.add_run
    add("a", input="refund", agent="support", user_id="ada")
    add("b", input="refund", agent="sales", user_id="ada", status="failed", error={"type": "E", "message": "late"})
    assert found(index, "refund", agent="support") == {"a"}
    assert found(index, "refund", session_id="b") == {"b"}
    assert found(index, "refund", status="failed", error="E") == {"b"}
    index._storage.rate("a", 1, label="good", user_id="ada")
    assert found(index, "refund", label="good") == {"a"}


def test_tokens_are_the_same_for_texts_and_questions() -> None:
    for text in TEXTS.values():
        if text is not LONG:
            assert set(question(text).tokens) <= count_tokens([text]).keys()
            assert question(text).holds([text])
            assert count_terms([text])[0] == {term(token): count for token, count in count_tokens([text]).items()}
