"""The list, and one session."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect
from tests.dashboard.conftest import OpenPage
from tests.dashboard.shifts import BEGIN, SHIFTS

from sessile import SqliteStorage
from sessile.storage.extending import Core, Draft, Entry, Snapshot, commit, operate, started_session


def test_the_list_leads_to_what_was_said_in_a_session(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="Where is my parcel?", output="It is **on its way**.", user_id="ada", agent="support")
    storage.add_run("s2", input="Hello", output="Hi!", user_id="bob", agent="sales")
    page = open_page(address)
    rows = page.get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("Hello")
    expect(rows.nth(1)).to_contain_text("bob")
    page.get_by_role("link", name="Where is my parcel?").click()
    run = page.get_by_role("article", name="Run 1")
    expect(run).to_contain_text("Where is my parcel?")
    expect(run.locator("strong", has_text="on its way")).to_be_visible()
    assert page.url.endswith("#/session/s1")


@pytest.mark.parametrize("width", [960, 1024, 1200])
def test_a_runs_header_is_one_line_on_a_narrow_desktop(
    storage: SqliteStorage, address: str, open_page: OpenPage, width: int
) -> None:
    begin = datetime.now(UTC) - timedelta(days=200)
    storage.add_run(
        "s1", input="Hi", output="x", agent="customer-support", started_at=begin, ended_at=begin, first_token=0.671
    )
    page = open_page(f"{address}#/session/s1")
    page.set_viewport_size({"width": width, "height": 700})
    head = page.get_by_role("article", name="Run 1").locator(".run-head")
    expect(head).to_be_visible()
    assert head.evaluate("head => head.clientHeight") < 50
    stars = head.get_by_role("group", name="Rate this run").bounding_box()
    title = head.get_by_role("heading").bounding_box()
    assert stars is not None
    assert title is not None
    assert abs(stars["y"] + stars["height"] / 2 - title["y"] - title["height"] / 2) < 5


def test_nothing_moves_while_two_runs_are_compared_on_a_phone(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    for number in (1, 2):
        storage.add_run("s1", input=f"Question {number}", output="Answer\n\n" * 12, agent="support")
    page = open_page(f"{address}#/sessions", size="phone")
    page.evaluate(SHIFTS)
    page.evaluate(BEGIN)
    page.goto(f"{address}#/compare?a=s1&ra=1&b=s1&rb=2")
    expect(page.get_by_role("region", name="Compare b")).to_contain_text("Answer")
    page.wait_for_timeout(150)
    assert page.evaluate("() => window.shifts") == []


def test_what_has_no_runs_is_shown_as_it_is_stored(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    """As the checkpoints of another framework."""

    async def keep(core: Core) -> None:
        async def change(snapshot: Snapshot) -> Draft:
            _, first = started_session(core, snapshot, "langgraph:t", kind="langgraph")
            return Draft([*first, Entry("langgraph.checkpoint", {"id": "c1", "step": 4})])

        await commit(core, "langgraph:t", change)

    storage.create_session("empty")
    operate(storage, keep)
    operate(storage, keep)
    page = open_page(f"{address}#/session/langgraph:t")
    stored = page.get_by_role("region", name="Stored entries")
    expect(stored.get_by_text("langgraph.checkpoint")).to_have_count(2)
    expect(stored.get_by_text("c1").first).to_be_visible()
    page.goto(f"{address}#/session/empty")
    expect(page.get_by_role("heading", name="Nothing has run in this session yet.")).to_be_visible()
