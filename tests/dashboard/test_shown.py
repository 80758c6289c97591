"""The list, and one session."""

from __future__ import annotations

from playwright.sync_api import expect
from tests.dashboard.conftest import OpenPage

from sessile import SqliteStorage


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
