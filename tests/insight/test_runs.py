"""Runs across sessions, by filters."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from sessile import ANY_USER, SqliteStorage, Usage
from sessile.errors import InvalidInputError, UserRequiredError
from sessile.insight import Index
from sessile.insight.place import Place
from sessile.records import JsonObject
from sessile.storage.users import space_of


def answer(model: str, tool: str | None = None) -> JsonObject:
    """A response of a model, in Pydantic AI's form."""
    parts: list[JsonObject] = [{"part_kind": "text", "content": "x"}]
    if tool is not None:
        parts.append({"part_kind": "tool-call", "tool_name": tool, "args": {}})
    usage = {"input_tokens": 10, "output_tokens": 5, "cost": "0.002"}
    return {"kind": "response", "model_name": model, "parts": parts, "usage": usage}


@pytest.fixture
def filled(index: Index) -> Index:
    """Six runs of three sessions."""
    add = index._storage.add_run
    common: dict[str, Any] = {"format": "pydantic-ai/2"}
    used = Usage(1, 10, 5, cost=Decimal("0.002"))
    add("s1", input="1", user_id="ada", agent="a", messages=[answer("m1", "find")], usage=used, **common)
    add("s1", input="2", user_id="ada", agent="a", messages=[answer("m2")], usage=used, **common)
    add("s2", input="3", user_id="bob", agent="b", status="failed", error={"type": "ValueError", "message": "x"})
    add("s2", input="4", user_id="bob", agent="b", status="cancelled", usage=Usage(1, 1, 1))
    add("s3", input="5", agent="a", messages=[answer("m1", "pay")], usage=used + used, **common)
    add("s3", input="6", agent="a")
    rate = index._storage.rate
    rate("s1", 1, score=False, user_id="ada")
    rate("s1", 1, score=True, label="good", comment="now it is", by="ada", user_id="ada")
    rate("s1", 2, score=0.3, source="judge", label="vague", user_id="ada")
    rate("s3", 1, label="good")
    index._storage.set_metadata("s1", {"tier": "gold", "seats": 3}, user_id="ada")
    index._storage.set_metadata("s2", {"tier": "gold"}, user_id="bob")
    return index


def inputs(index: Index, **filters: Any) -> list[str]:
    filters.setdefault("user_id", ANY_USER)
    page = index.runs(**filters)
    return [index._storage.get_run(run.session_id, run.number, user_id=ANY_USER).input for run in page]


CASES: list[tuple[dict[str, Any], str]] = [
    ({}, "654321"),
    ({"ascending": True}, "123456"),
    ({"user_id": "ada"}, "21"),
    ({"user_id": None}, "65"),
    ({"user_id": "nobody"}, ""),
    ({"agent": "b"}, "43"),
    ({"kind": "agent"}, "654321"),
    ({"kind": "workflow"}, ""),
    ({"session_id": "s3"}, "65"),
    ({"session_id": "s3", "user_id": "ada"}, ""),
    ({"model": "m1"}, "51"),
    ({"model": "m1", "agent": "a", "ascending": True}, "15"),
    ({"tool": "pay"}, "5"),
    ({"tool": "find", "model": "m1"}, "1"),
    ({"tool": "find", "model": "m2"}, ""),
    ({"status": "failed"}, "3"),
    ({"status": ["failed", "cancelled"]}, "43"),
    ({"status": "running"}, ""),
    ({"error": "ValueError"}, "3"),
    ({"error": True}, "3"),
    ({"error": False, "agent": "b"}, "4"),
    ({"label": "good"}, "51"),
    ({"label": "good", "tool": "pay"}, "5"),
    ({"min_score": 0.5}, "1"),
    ({"max_score": 0.5}, "2"),
    ({"min_score": 0.1, "source": "judge"}, "2"),
    ({"source": "judge"}, "2"),
    ({"rated": True}, "521"),
    ({"rated": False}, "643"),
    ({"rated": False, "source": "judge", "agent": "a"}, "651"),
    ({"min_cost": Decimal("0.002")}, "521"),
    ({"min_cost": 0.003}, "5"),
    ({"max_cost": 0.001}, "63"),
    ({"max_duration": timedelta(seconds=1)}, "654321"),
    ({"min_duration": 1}, ""),
    ({"on_branch": False}, ""),
    ({"metadata": {"tier": "gold"}}, "4321"),
    ({"metadata": {"tier": "gold", "seats": 3}}, "21"),
    ({"metadata": {"seats": "3"}}, ""),
    ({"metadata_keys": ["seats"]}, "21"),
    ({"metadata": {"tier": "gold"}, "model": "m1", "min_score": 0.5}, "1"),
    ({"since": datetime(2020, 1, 1, tzinfo=UTC)}, "654321"),
    ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, ""),
]


@pytest.fixture(params=[0, 500], ids=["all are many", "all are few"])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """From how many runs on a filter leaves many."""
    monkeypatch.setattr("sessile.insight.narrowing.SOME", request.param)


@pytest.mark.usefixtures("few")
def test_filters(filled: Index) -> None:
    for filters, expected in CASES:
        assert "".join(inputs(filled, **filters)) == expected, filters


def test_pairs_of_filters_are_what_both_have(filled: Index) -> None:
    single = [(filters, set(expected)) for filters, expected in CASES if len(filters) == 1]
    for one, left in single:
        for other, right in single:
            if one.keys() != other.keys() and {*one, *other} not in ({"rated", "label"}, {"rated", "min_score"}):
                if "rated" in {*one, *other} and {*one, *other} & {"label", "source", "min_score", "max_score"}:
                    continue  # `source` says whose rating is meant
                if {*one, *other} <= {"label", "source", "min_score", "max_score"}:
                    continue  # of one and the same rating
                assert set(inputs(filled, **one, **other)) == left & right, (one, other)


def test_a_list_that_was_asked_before_has_what_came_since(filled: Index) -> None:
    """How it is best read is remembered, though another filter may be the rarer one by now."""
    add, rate = filled._storage.add_run, filled._storage.rate
    lists: list[dict[str, Any]] = [
        {"agent": "b", "error": "KeyError"},
        {"agent": "b", "label": "new"},
        {"error": "KeyError", "min_score": 0.5},
        {"status": "failed", "tool": "pay"},
        {"min_score": 0.5, "max_duration": 5, "agent": "b"},
    ]
    assert [inputs(filled, **one) for one in lists] == [[]] * len(lists)
    failed: dict[str, Any] = {"status": "failed", "error": {"type": "KeyError", "message": "x"}}
    for number in range(7, 10):
        add("s4", input=str(number), agent="b", messages=[answer("m1", "pay")], format="pydantic-ai/2", **failed)
        rate("s4", number - 6, score=1, label="new")
        rate("s4", number - 6, score=0.9, label="new", source="judge")
    assert [inputs(filled, **one) for one in lists] == [["9", "8", "7"]] * len(lists)
    assert [inputs(filled, **one, limit=2) for one in lists] == [["9", "8"]] * len(lists)
    assert [inputs(filled, **one, ascending=True) for one in lists] == [["7", "8", "9"]] * len(lists)


def test_times(filled: Index) -> None:
    runs = filled.runs(user_id=ANY_USER, ascending=True).items
    third = runs[2].started_at
    assert inputs(filled, since=third) == ["6", "5", "4", "3"]
    assert inputs(filled, until=third) == ["2", "1"]
    assert inputs(filled, since=third, until=runs[3].started_at) == ["3"]


def test_pages_have_each_run_once(filled: Index) -> None:
    for ascending in (False, True):
        for filters in ({}, {"model": "m1"}, {"agent": "a"}):
            seen: list[int] = []
            cursor = None
            while True:
                page = filled.runs(user_id=ANY_USER, limit=2, cursor=cursor, ascending=ascending, **filters)
                seen += [run.row for run in page]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert seen == sorted(seen, reverse=not ascending)
            assert len(seen) == len(filled.runs(user_id=ANY_USER, **filters))


def test_a_run_that_goes_while_a_page_is_read_does_not_end_the_list(
    filled: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On some databases a page is read with two questions; what is deleted in between is left out."""
    filled.update()
    read, deleted = Place.read, False

    def deleting(place: Place, statement: str, values: Any = None) -> list[Any]:
        nonlocal deleted
        rows = read(place, statement, values)
        if statement.startswith("SELECT r.id AS id") and not deleted:
            deleted = True
            filled._storage.delete("s3")
            filled.update()
        return rows

    monkeypatch.setattr(Place, "read", deleting)
    seen: list[int] = []
    cursor, pages = None, 0
    while pages == 0 or cursor is not None:
        page = filled.runs(user_id=ANY_USER, limit=3, cursor=cursor)
        seen += [run.row for run in page]
        cursor, pages = page.next_cursor, pages + 1
    assert len(seen) == (4 if deleted else 6)


def test_what_a_row_says(filled: Index) -> None:
    run = filled.runs(user_id="ada", ascending=True).items[0]
    assert (run.session_id, run.number, run.agent, run.model, run.status) == ("s1", 1, "a", "m1", "completed")
    assert (run.cost, run.total_tokens, run.tools, run.on_branch) == (Decimal("0.002"), 15, {"find": 1}, True)
    assert run.ratings["user"].score == 1
    assert run.ratings["user"].by == "ada"
    unknown = filled.runs(user_id="bob").items[0]
    assert (unknown.cost, unknown.usage.cost) == (None, None)


def test_what_a_rewind_has_left_is_marked(index: Index) -> None:
    storage = index._storage
    for number in range(3):
        storage.add_run("s", input=str(number))
    storage.rewind("s", at=1)
    storage.add_run("s", input="3")
    assert [run.number for run in index.runs(on_branch=False)] == [3, 2]
    assert [run.number for run in index.runs(on_branch=True)] == [4, 1]
    storage.rewind("s", at=3)
    assert [run.number for run in index.runs(on_branch=True)] == [3, 2, 1]


def test_deleted_sessions_are_in_no_answer(filled: Index) -> None:
    filled.update()
    filled._storage.delete("s3")
    assert inputs(filled) == ["4", "3", "2", "1"]
    filled._storage.delete_user("bob")
    assert inputs(filled) == ["2", "1"]
    assert filled.usage(user_id=ANY_USER).total.runs == 2
    filled._storage.add_run("s3", input="7")
    assert inputs(filled, session_id="s3") == ["7"]


def test_expired_sessions_are_in_no_answer(filled: Index) -> None:
    filled.update()
    filled._storage.set_ttl("s3", 0)
    assert inputs(filled, user_id=None) == []
    assert filled.usage(user_id=None).total.runs == 0
    filled._storage.set_ttl("s1", 0.5, user_id="ada")
    filled.update()
    time.sleep(0.6)
    assert filled.usage(user_id="ada").total.runs == 0
    assert inputs(filled, user_id="ada") == []


def test_wrong_arguments_are_named(sqlite: SqliteStorage) -> None:
    index = Index(sqlite)
    with pytest.raises(InvalidInputError, match="no filter 'colour'") as caught:
        index.runs(colour="red")  # type: ignore[call-arg] (what is tested)
    assert "min_score" in caught.value.hint
    wrong: list[dict[str, Any]] = [
        {"status": "done"},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 (what is tested)
        {"min_cost": "much"},
        {"min_score": "high"},
        {"rated": 1},
        {"rated": False, "label": "good"},
        {"limit": 0},
        {"cursor": "x"},
        {"user_id": ""},
    ]
    for arguments in wrong:
        with pytest.raises(InvalidInputError):
            index.runs(**arguments)


def test_a_user_is_required_where_the_storage_says_so() -> None:
    with SqliteStorage(":memory:", require_user=True) as storage, pytest.raises(UserRequiredError):
        Index(storage).runs()


def test_a_user_sees_only_the_own_sessions_by_the_own_ids(index: Index) -> None:
    whole = index._storage
    mine = whole.for_user("ada")
    mine.add_run("s1", input="my refund", run_id="r1")
    mine.rate("s1", 1, score=1)
    whole.add_run("shared", input="a refund, too", user_id="ada")
    whole.for_user("bob").add_run("s1", input="the refund of bob")
    own = Index(mine, index._into)
    for user in (None, "ada", ANY_USER):
        assert [(run.session_id, run.run_id) for run in own.runs(user_id=user)] == [("s1", "r1")]
    assert [hit.session_id for hit in own.search("refund")] == ["s1"]
    assert len(own.search("refund", session_id="s1")) == len(own.runs(session_id="s1")) == 1
    assert len(own.runs(session_id="shared")) == 0
    assert [row.group for row in own.usage(by="session").rows] == [("s1",)]
    assert own.usage().total.runs == 1
    assert [one.answer for one in own.examples(min_score=1)] == []
    with pytest.raises(InvalidInputError, match="alone"):
        own.runs(user_id="bob")
    assert {run.session_id for run in index.runs(user_id="ada")} == {"shared", f"{space_of('ada')}s1"}
    mine.delete("s1")
    assert len(own.runs()) == 0
    assert index.usage(user_id="ada").total.runs == 1


async def test_asynchronous_callers(filled: Index) -> None:
    assert [run.number for run in await filled.aruns(user_id="ada")] == [2, 1]
    assert (await filled.ausage(user_id="ada")).total.runs == 2
    assert len(await filled.asearch("vague", user_id="ada")) == 1
