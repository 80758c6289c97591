"""What is learnt from runs, and what they cost: runs, review, examples, evaluations, monitor, health."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.dashboard.conftest import OpenPage, serving

from sessile import ANY_USER, Agent, SqliteStorage, Usage
from sessile.agents.offline import OfflineModel
from sessile.server import create_app


def used(dollars: str, tokens: int = 100) -> Usage:
    return Usage(requests=1, input_tokens=tokens, output_tokens=10, cost=Decimal(dollars))


@pytest.fixture
def shop(storage: SqliteStorage) -> Iterator[str]:
    agent = Agent(OfflineModel(introduce=False), name="support", storage=storage)
    with serving(create_app([agent], storage=storage)) as found:
        yield found


def test_rate_twenty_runs_by_keyboard(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    for number in range(20):
        storage.add_run(f"s{number:02}", input=f"Question {number}", output=f"Answer {number}", agent="support")
    page = open_page(f"{address}#/review")
    expect(page.get_by_text("20 runs to rate")).to_be_visible()
    for number in range(20):
        expect(page.locator(".queue-item[aria-current=true]")).to_contain_text(f"s{19 - number:02}")
        page.keyboard.press(str(number % 5 + 1))
    expect(page.get_by_text("0 runs to rate")).to_be_visible()
    scores = [storage.get_run(f"s{number:02}", 1).ratings[-1].score for number in range(20)]
    assert scores == [(19 - number) % 5 + 1 for number in range(20)]
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_role("heading", name="Everything is rated")).to_be_visible()


def test_a_run_is_edited_into_an_example_and_the_best_make_a_data_set(
    storage: SqliteStorage, address: str, open_page: OpenPage, tmp_path: Path
) -> None:
    storage.add_run("s1", input="Where is my parcel?", output="No idea.", agent="support")
    storage.add_run("s2", input="Can I pay later?", output="Yes, within 30 days.", agent="support")
    page = open_page(f"{address}#/review")
    expect(page.get_by_text("2 runs to rate")).to_be_visible()
    page.keyboard.press("j")
    expect(page.get_by_role("article", name="Run 1")).to_contain_text("No idea.")
    page.keyboard.press("e")
    page.get_by_role("textbox", name="Answer").fill("It comes tomorrow.")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Kept as an example.")).to_be_visible()
    page.keyboard.press("c")
    page.get_by_role("textbox", name="Comment").fill("Was rude")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    rating = storage.get_run("s1", 1).ratings[-1]
    assert (rating.score, rating.correction, rating.comment) == (5, "It comes tomorrow.", "Was rude")
    page.goto(f"{address}#/examples")
    example = page.get_by_role("article")
    expect(example).to_have_count(1)
    expect(example).to_contain_text("It comes tomorrow.")
    expect(example).to_contain_text("corrected")
    with page.expect_download() as download:
        page.get_by_role("button", name="Data set as JSON").click()
    text = Path(download.value.path()).read_text("utf-8")
    assert "It comes tomorrow." in text
    assert "within 30 days" not in text


def test_compare_what_was_said_then_with_what_is_said_now(
    storage: SqliteStorage, shop: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="What is the capital of France?", output="Lyon", agent="support", user_id="ada")
    page = open_page(f"{shop}#/evaluations")
    expect(page.get_by_text("Nothing was run again yet")).to_be_visible()
    page.get_by_role("button", name="Run again").click()
    page.get_by_role("textbox", name="Name").fill("next model")
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("heading", name="next model")).to_be_visible()
    case = page.get_by_role("article", name="What is the capital of France?")
    expect(case).to_contain_text("Lyon")
    expect(case).to_contain_text("Paris")
    case.get_by_role("link", name="Side by side").click()
    expect(page.get_by_role("region", name="Changes").get_by_text("Lyon")).to_be_visible()
    expect(page.get_by_role("region", name="Compare b").get_by_text("Paris")).to_be_visible()
    old = page.get_by_role("region", name="Compare a")  # has no messages: its input and output are shown
    expect(old.get_by_text("What is the capital of France?")).to_be_visible()
    expect(old.get_by_text("Lyon")).to_be_visible()


def test_an_experiment_without_a_name_says_what_it_runs(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="Capital of France?", output="Paris", agent="support", user_id="ada")
    storage.rate("s1", 1, score=5, user_id="ada")
    page = open_page(f"{shop}#/evaluations?start=1&min_score=4")
    page.get_by_role("button", name="Begin").click()
    title = page.get_by_role("heading", level=1)
    expect(title).to_contain_text("support: runs rated 4 or better, ")
    expect(page.get_by_role("article", name="Capital of France?")).to_be_visible()
    expect(page).to_have_title(re.compile("support: runs rated 4 or better"))
    page.get_by_role("link", name="All evaluations").click()
    expect(page.get_by_role("main").get_by_role("listitem").get_by_role("link")).to_contain_text(
        "support: runs rated 4 or better, "
    )


def test_see_who_spent_most_and_what_on(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    now = datetime.now(UTC)
    for number, (user, dollars) in enumerate([("ada", "0.50"), ("=cmd()", "2.25"), ("ada", "0.25")]):
        moment = now - timedelta(hours=number + 1)
        ended = moment + timedelta(seconds=2)
        storage.add_run(
            f"s{number}", input="Hi", output="x", user_id=user, usage=used(dollars), started_at=moment, ended_at=ended
        )
    failed = {"type": "Boom", "message": "x"}
    storage.add_run("s9", input="Hi", status="failed", error=failed, user_id="ada")
    page = open_page(f"{address}#/monitor?by=user")
    expect(page.get_by_role("link", name=re.compile("^Cost"))).to_contain_text("$3.00")
    expect(page.get_by_role("link", name=re.compile("^Errors"))).to_contain_text("25%")
    expect(page.locator("canvas")).to_have_count(5)
    rows = page.get_by_role("region", name="Who and what: Table").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("=cmd()")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV: Who and what").click()
    table = list(csv.reader(Path(download.value.path()).read_text("utf-8").splitlines()))
    assert [(row[0], row[1], row[4]) for row in table[1:]] == [("'=cmd()", "1", "2.25"), ("ada", "3", "0.75")]
    with page.expect_download() as picture:
        page.get_by_role("button", name="Download as PNG: Cost").click()
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")
    card = page.get_by_role("region", name="Cost", exact=True)
    card.get_by_role("radio", name="Table").or_(card.get_by_role("button", name="Table")).click()
    expect(card.get_by_role("table")).to_contain_text("$2.25")
    # A figure leads to its runs.
    page.get_by_role("link", name=re.compile("^Errors")).click()
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("link", name="s9")).to_be_visible()


def test_dragging_over_a_chart_looks_at_that_time(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    for days in (0.01, 3, 6):
        moment = datetime.now(UTC) - timedelta(days=days)
        storage.add_run(f"s{days}", input="Hi", output="x", started_at=moment, ended_at=moment)
    page = open_page(f"{address}#/monitor")
    runs = page.get_by_role("link", name=re.compile("^Runs")).filter(has=page.locator("strong"))
    expect(runs).to_contain_text("3")
    box = page.locator(".u-over").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.999, box["y"] + 50, steps=4)
    page.mouse.up()
    expect(runs.locator("strong")).to_have_text("1")
    assert "since=" in page.url
    page.get_by_role("button", name="Back to the whole time").click()
    expect(runs.locator("strong")).to_have_text("3")
    chart = page.locator(".u-over").first
    chart.click(position={"x": box["width"] * 0.995, "y": 50})  # the last step's runs
    expect(page.get_by_role("link", name="s0.01")).to_be_visible()
    expect(page.get_by_role("link", name="s6")).to_have_count(0)


def test_how_long_people_wait_until_an_answer_begins(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    """It is told of streamed answers, by agent as all else is; where nothing was streamed there is no chart of it."""
    begin = datetime.now(UTC) - timedelta(hours=1)
    for number, (agent, first) in enumerate([("quick", 0.2), ("quick", 0.2), ("slow", 4), ("batch", None)]):
        ended = begin + timedelta(seconds=9)
        storage.add_run(
            f"s{number}", input="Hi", output="x", agent=agent, started_at=begin, ended_at=ended, first_token=first
        )
    page = open_page(f"{address}#/monitor")
    expect(page.get_by_role("link", name=re.compile("^First token"))).to_contain_text("95 % within 4.0 s")
    card = page.get_by_role("region", name="Time to first token", exact=True)
    card.get_by_role("radio", name="Table").or_(card.get_by_role("button", name="Table")).click()
    expect(card.get_by_role("row").nth(1)).to_contain_text("200 ms4.0 s4.0 s")
    rows = page.get_by_role("region", name="Who and what: Table").get_by_role("row")
    expect(rows.filter(has_text="slow")).to_contain_text("4.0 s")
    expect(rows.filter(has_text="batch").get_by_role("cell").last).to_have_text("–")
    page.goto(f"{address}#/monitor?agent=batch")
    expect(page.get_by_role("link", name=re.compile("^First token"))).to_contain_text("nothing was streamed")
    expect(page.locator("canvas")).to_have_count(5)
    page.goto(f"{address}#/session/s2")
    expect(page.get_by_role("article", name="Run 1")).to_contain_text("first token 4.0 s")


def test_every_view_is_reached_on_a_phone(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="Hello", output="Hi", user_id="ada", agent="support")
    storage.rate("s1", 1, score=4, user_id="ada")
    page = open_page(address, size="phone")
    page.set_viewport_size({"width": 360, "height": 740})
    row = page.get_by_role("row").filter(has_text="Hello")
    for what in ("Completed", "ada", "support", "1 run", "4", "now"):
        expect(row.get_by_text(what)).to_be_visible()
    bar = page.get_by_role("navigation", name="Views")
    expect(bar.get_by_role("link", name="Sessions")).to_have_attribute("aria-current", "page")
    seen = [link.inner_text() for link in bar.get_by_role("link").all() if link.is_visible()]
    for name in ("Waiting", "New session", "Monitor"):
        assert name in seen
        bar.get_by_role("link", name=name).tap()
        expect(bar.get_by_role("link", name=name)).to_have_attribute("aria-current", "page")
    for name in ("Runs", "Review", "Examples", "Evaluations", "Memories", "Approvals", "Health"):
        bar.get_by_role("button", name="More").tap()
        page.get_by_role("menuitem", name=name).tap()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
    bar.get_by_role("button", name="More").tap()
    page.get_by_role("menuitem", name="Appearance: Dark").tap()
    expect(page.locator("html[data-theme=dark]")).to_be_attached()
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= 360


def test_runs_by_what_they_cost_and_how_long_they_took(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    begin = datetime.now(UTC) - timedelta(hours=1)
    for name, dollars, seconds in (("cheap", "0.01", 90), ("dear", "3", 2)):
        ended = begin + timedelta(seconds=seconds)
        storage.add_run(name, input="Hi", output="x", usage=used(dollars), started_at=begin, ended_at=ended)
    page = open_page(f"{address}#/runs")
    expect(page.get_by_role("row")).to_have_count(3)
    page.get_by_role("combobox", name="Cost from ($)").or_(page.get_by_role("textbox", name="Cost from ($)")).fill("1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("link", name="dear")).to_be_visible()
    page.goto(f"{address}#/sessions?min_duration=60")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("row").nth(1).get_by_role("link")).to_have_attribute("href", "#/session/cheap")


def test_health_says_what_is_wrong_and_what_is_well(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="Hi", output="x", user_id="ada")
    page = open_page(f"{address}#/health")
    expect(page.get_by_text("1 newest session verified")).to_be_visible()
    expect(page.get_by_text("All is well")).to_be_visible()
    expect(page.get_by_text("SqliteStorage")).to_be_visible()
    assert len(list(storage.sessions(user_id=ANY_USER))) == 1
