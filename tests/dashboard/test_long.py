"""Lists and sessions of any length open at once, where one wants to be; times are the viewer's own."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from playwright.sync_api import expect
from tests.dashboard.conftest import OpenPage

from sessile import SqliteStorage


def fill(storage: SqliteStorage, runs: int) -> None:
    for number in range(1, runs + 1):
        storage.add_run("long", input=f"Question {number}", output=f"Answer {number}\n\n- a\n- b", agent="support")


def test_a_long_session_opens_at_the_run_of_its_address(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    fill(storage, 400)
    page = open_page(f"{address}#/session/long?run=278")
    run = page.get_by_role("article", name="Run 278", exact=True)
    expect(run).to_be_in_viewport()
    assert page.locator("article").count() <= 100
    # What is read stays where it is while older runs come in above it.
    timeline = page.locator(".timeline")
    for _ in range(12):
        timeline.hover()
        page.mouse.wheel(0, -1500)
        page.wait_for_timeout(60)
    expect(page.get_by_role("article", name=re.compile("Run 2[0-5]\\d")).first).to_be_attached()
    page.get_by_role("textbox", name="Go to run").fill("12")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Run 12", exact=True)).to_be_in_viewport()
    page.get_by_role("button", name="Newest run").click()
    expect(page.get_by_role("article", name="Run 400", exact=True)).to_be_in_viewport()


def test_the_list_goes_on_as_one_scrolls_and_by_keys(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    for number in range(230):
        storage.add_run(f"s{number:03}", input=f"Question {number}", output="Answer")
    page = open_page(address)
    grid = page.get_by_role("grid")
    expect(page.get_by_text("Question 229")).to_be_visible()
    grid.focus()
    for _ in range(6):
        page.keyboard.press("End")
        page.wait_for_timeout(150)
    expect(page.get_by_text("Question 0", exact=True)).to_be_visible()
    assert page.get_by_role("row").count() < 60
    page.keyboard.press("Enter")
    expect(page.get_by_role("article")).to_contain_text("Question 0")


def test_times_are_in_the_viewers_zone_with_utc_beside_them(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    moment = datetime(2026, 11, 3, 20, 30, tzinfo=UTC)
    storage.add_run("s1", input="Hi", output="x", started_at=moment, ended_at=moment)
    page = open_page(f"{address}#/session/s1", timezone_id="Asia/Shanghai")
    time = page.locator(".run-head time")
    expect(time).to_have_text("4 Nov, 04:30")
    assert "2026-11-03T20:30:00" in (time.get_attribute("title") or "")


def test_text_in_arabic_and_chinese_is_found(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="أريد تغيير عنوان التسليم", output="تم")
    storage.add_run("s2", input="退货的运费由谁承担？", output="我们")
    page = open_page(address)
    for word, session in (("عنوان", "s1"), ("运费", "s2")):
        page.get_by_role("searchbox").fill(word)
        hit = page.locator(".hit")
        expect(hit).to_have_count(1)
        expect(hit.locator("mark").first).to_contain_text(word)
        assert f"session/{session}?run=1" in (hit.locator("a").get_attribute("href") or "")


def test_filters_are_kept_in_the_address(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="One", output="x", agent="support", user_id="ada")
    storage.add_run("s2", input="Two", status="failed", agent="sales", user_id="bob")
    page = open_page(address)
    page.get_by_role("button", name="Status").click()
    page.get_by_role("option", name="Failed").click()
    expect(page.get_by_role("row")).to_have_count(2)
    assert "status=failed" in page.url
    page.reload()
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_text("Two")).to_be_visible()
    # Search is among what the filters leave; so are figures of runs and metadata together.
    storage.set_metadata("s2", {"tier": "gold"}, user_id="bob")
    page.goto(f"{address}#/sessions?status=failed&max_duration=60&metadata=tier%3Dgold")
    expect(page.get_by_role("row")).to_have_count(2)
    page.get_by_role("searchbox").fill("one")
    expect(page.get_by_role("heading", name="Nothing was said about")).to_be_visible()
    page.get_by_role("searchbox").fill("two")
    expect(page.locator(".hit")).to_have_count(1)
