"""Answers that come late: they change nothing that is shown by then, and answer nothing that is asked by then."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Error, Page, Route, expect
from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel
from tests.dashboard.conftest import OpenPage, serving

from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel
from sessile.server import create_app


@pytest.fixture
def shop(storage: SqliteStorage) -> Iterator[str]:
    agent = Agent(OfflineModel(introduce=False), name="support", storage=storage, durability="step")
    with serving(create_app([agent], storage=storage, resume_every=None)) as found:
        yield found


FULL = '{"detail": "The disk is full."}'


def until(page: Page, condition: Callable[[], bool]) -> None:
    """Waits for a condition while the page goes on."""
    for _ in range(800):
        if condition():
            return
        page.wait_for_timeout(25)
    pytest.fail("it has not come to this")


@contextmanager
def held(page: Page, address: str, method: str = "GET", *, fail: bool = False) -> Iterator[Callable[[], None]]:
    """Answers of an address are held back until what is yielded is called; `fail`: they are errors then."""
    routes: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.method == method:
            routes.append(route)
        else:
            route.continue_()

    def let_go() -> None:
        until(page, lambda: bool(routes))
        for route in routes:
            with suppress(Error):  # the page has given it up
                if fail:
                    route.fulfill(status=507, content_type="application/problem+json", body=FULL)
                else:
                    route.continue_()
        page.unroute(address)
        page.wait_for_timeout(300)  # nothing is to happen

    page.route(address, hold)
    yield let_go
    page.unroute(address)


def test_what_was_sent_elsewhere_moves_nobody_who_has_gone_on(
    storage: SqliteStorage, shop: str, open_page: OpenPage
) -> None:
    for number in range(1, 4):
        storage.add_run("s1", input=f"Question {number}", output="x", agent="support")
        storage.add_run("s2", input=f"Question {number}", output="x", agent="support")
    page = open_page(f"{shop}#/session/s1")
    with held(page, "**/agents/support/runs", "POST") as let_go:
        page.get_by_role("textbox", name="Say something").fill("Hello")
        page.keyboard.press("Enter")
        page.goto(f"{shop}#/session/s2?run=2")
        expect(page.get_by_role("article", name="Run 2")).to_be_visible()
        let_go()
    assert page.url.endswith("#/session/s2?run=2")
    until(page, lambda: storage.get_session("s1").run_count == 4)  # type: ignore[union-attr]
    page.goto(f"{shop}#/new?agent=support")
    with held(page, "**/agents/support/runs", "POST") as let_go:
        page.get_by_role("textbox").fill("Hello")
        page.keyboard.press("Enter")
        page.goto(f"{shop}#/session/s2?run=3")
        let_go()
    assert page.url.endswith("#/session/s2?run=3")


def test_what_is_typed_while_something_is_sent_stays(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="Question", output="x", agent="support")
    page = open_page(f"{shop}#/session/s1")
    box = page.get_by_role("textbox", name="Say something")
    with held(page, "**/agents/support/runs", "POST") as let_go:
        box.fill("First")
        page.keyboard.press("Enter")
        box.fill("Second, which is not sent")
        let_go()
    expect(page.get_by_role("article", name="Run 2")).to_contain_text("First")
    expect(box).to_have_value("Second, which is not sent")


def test_a_window_that_was_closed_leads_nowhere(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="Question", output="x", agent="support")
    page = open_page(f"{shop}#/session/s1")
    with held(page, "**/sessions/s1/fork", "POST") as let_go:
        page.get_by_role("article", name="Run 1").get_by_role("button", name="More actions").click()
        page.get_by_role("menuitem", name="Fork from here").click()
        page.get_by_role("dialog").get_by_role("button", name="Fork").click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        let_go()
    assert page.url.endswith("#/session/s1")
    assert len(list(storage.sessions())) == 2


def test_to_run_again_in_vain_leaves_what_has_come_meanwhile(
    storage: SqliteStorage, shop: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="Question 1", output="x", agent="support")
    page = open_page(f"{shop}#/session/s1")
    expect(page.get_by_role("article", name="Run 1")).to_be_visible()
    page.get_by_role("textbox", name="Say something").fill("Hello")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Run 2")).to_contain_text("Completed")
    with held(page, "**/agents/support/runs", "POST", fail=True) as let_go:
        page.get_by_role("article", name="Run 1").get_by_role("button", name="More actions").click()
        page.get_by_role("menuitem", name="Edit and run again").click()
        page.get_by_role("dialog").get_by_role("button", name="Run again").click()
        until(page, lambda: storage.get_session("s1").tip == 0)  # type: ignore[union-attr]
        let_go()
    expect(page.get_by_role("alert")).to_contain_text("The disk is full.")
    until(page, lambda: storage.get_session("s1").tip == 2)  # type: ignore[union-attr]


def test_a_session_that_is_deleted_elsewhere_is_not_read_on(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="Question", output="x")
    page = open_page(f"{address}#/sessions")
    page.clock.install()
    page.get_by_role("link", name="Question").click()
    expect(page.get_by_role("article", name="Run 1")).to_be_visible()
    storage.delete("s1")
    page.clock.fast_forward(11_000)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("article", name="Run 1")).to_have_count(0)


def test_a_rating_that_fails_late_moves_nobody_who_rates_on(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    for number in range(3):
        storage.add_run(f"s{number}", input=f"Question {number}", output="x", agent="support")
    page = open_page(f"{address}#/review")
    expect(page.get_by_text("3 runs to rate")).to_be_visible()
    with held(page, "**/sessions/s2/runs/1/ratings", "POST", fail=True) as let_go:
        page.keyboard.press("1")
        expect(page.locator(".queue-item[aria-current=true]")).to_contain_text("s1")
        page.keyboard.press("c")
        page.get_by_role("textbox", name="Comment").fill("About the second")
        let_go()
    expect(page.get_by_text("The disk is full.")).to_be_attached()
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert [rating.comment for rating in storage.get_run("s1", 1).ratings] == ["About the second"]
    assert storage.get_run("s2", 1).ratings == []
    page.get_by_role("button", name="Not rated: s2").click()
    expect(page.locator(".queue-item[aria-current=true]")).to_contain_text("s2")


def test_the_star_that_was_pressed_last_is_the_one_that_shines(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="Question", output="x")
    page = open_page(f"{address}#/session/s1")
    stars = page.get_by_role("article", name="Run 1").get_by_role("group", name="Rate this run")
    first: list[Route] = []
    later: list[Route] = []

    def hold(route: Route) -> None:
        (later if first else first).append(route)

    page.route("**/ratings", hold)
    stars.get_by_role("button").nth(1).click()
    stars.get_by_role("button").nth(4).click()
    expect(stars.locator("[aria-pressed=true]")).to_have_text("★")
    first[0].continue_()
    until(page, lambda: bool(later))
    page.wait_for_timeout(200)
    expect(stars.get_by_role("button").nth(4)).to_have_attribute("aria-pressed", "true")
    later[0].continue_()
    until(page, lambda: len(storage.get_run("s1", 1).ratings) == 2)
    expect(stars.get_by_role("button").nth(4)).to_have_attribute("aria-pressed", "true")


def test_a_list_that_was_kept_tells_what_has_changed_since(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="Question", output="x", agent="support")
    storage.add_run("s2", input="Another", output="x", agent="sales")
    page = open_page(f"{address}#/sessions")
    page.get_by_role("link", name="Question").click()
    expect(page.get_by_role("article", name="Run 1")).to_be_visible()
    storage.add_run("s1", input="More", output="x", agent="support")
    page.go_back()
    fresh = page.get_by_role("button", name="1 new or changed session")
    expect(fresh).to_be_visible()
    # Of a list that lacks nothing nothing is told, whatever another has lacked.
    page.goto(f"{address}#/sessions?agent=sales")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("button", name="new or changed")).to_have_count(0)


def test_figures_are_those_of_the_question_that_they_stand_under(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    begin = datetime.now(UTC) - timedelta(hours=1)
    for number in range(3):
        storage.add_run(f"s{number}", input="Hi", output="x", user_id="ada", started_at=begin, ended_at=begin)
    storage.add_run("s9", input="Hi", output="x", user_id="bob", started_at=begin, ended_at=begin)
    page = open_page(f"{address}#/monitor?user=ada")
    tile = page.locator(".tile").first
    expect(tile).to_contain_text("3")
    with held(page, "**/usage?*") as let_go:
        page.goto(f"{address}#/monitor?user=bob")
        expect(page.locator(".older")).to_have_attribute("aria-busy", "true")
        assert "user=ada" in (tile.get_attribute("href") or "")
        let_go()
    expect(tile).to_contain_text("1")
    assert "user=bob" in (tile.get_attribute("href") or "")


def test_that_nothing_is_found_is_said_of_what_was_asked(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="My refund, please", output="x")
    page = open_page(f"{address}#/sessions?q=zanzibar")
    expect(page.get_by_role("heading", name="zanzibar")).to_be_visible()
    with held(page, "**/search?*refund*") as let_go:
        page.get_by_role("searchbox").fill("refund")
        expect(page.locator(".skeleton")).to_be_attached()
        expect(page.get_by_role("heading", name="refund")).to_have_count(0)
        let_go()
    expect(page.get_by_role("link", name="My refund")).to_be_visible()


def test_the_compare_page_shows_what_its_address_names(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    long = "x" * 30_000
    for number in (1, 2):
        for name in ("one", "two"):
            output: Any = {"says": f"{name} {number} {long} end of {name} {number}"}
            storage.add_run(name, input="Hi", output=output)
    page = open_page(f"{address}#/compare?a=one&ra=1&b=two&rb=1")
    first = page.get_by_role("region", name="Compare a")
    chooser = page.get_by_role("form", name="Compare a")
    first.get_by_role("button", name="Load").click()
    first.get_by_role("button", name="Show all").click()
    expect(first).to_contain_text("end of one 1")
    page.get_by_role("button", name="The runs after").click()
    expect(first).to_contain_text("one 2")
    expect(first).not_to_contain_text("one 1")
    page.goto(f"{address}#/compare?a=two&ra=1&b=one&rb=1")
    expect(first).to_contain_text("two 1")
    expect(chooser.get_by_role("textbox").first).to_have_value("two")


def test_what_was_approved_before_is_asked_again_under_the_same_id(storage: SqliteStorage, open_page: OpenPage) -> None:
    """Models use the ids of their calls again; an approval is that of the call that was seen."""
    paid: list[str] = []

    def pay_out(to: str) -> str:
        """Pay."""
        paid.append(to)
        return f"paid {to}"

    def asks(messages: list[ModelMessage]) -> dict[str, str]:
        said = sum(isinstance(one, ModelResponse) for one in messages)
        return [{"call_1": "Curie"}, {"call_1": "Mallory", "call_2": "Noether"}, {}][said]

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls = [ToolCallPart("pay_out", {"to": to}, call) for call, to in asks(messages).items()]
        return ModelResponse(calls or [TextPart("Done.")])

    async def streamed(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[DeltaToolCalls | str]:
        for index, (call, to) in enumerate(asks(messages).items()):
            yield {index: DeltaToolCall("pay_out", json.dumps({"to": to}), tool_call_id=call)}
        if not asks(messages):
            yield "Done."

    tools = [Tool(pay_out, requires_approval=True)]
    agent = Agent(
        FunctionModel(model, stream_function=streamed), name="payments", storage=storage, durability="step", tools=tools
    )
    agent.run("Pay them", session_id="s1")
    with serving(create_app([agent], storage=storage, resume_every=None)) as address:
        page = open_page(f"{address}#/waiting")
        expect(page.get_by_role("button", name="Approve")).to_be_visible()
        with held(page, "**/waiting?*") as let_go:  # the page does not see that the run goes on in between
            page.get_by_role("button", name="Approve").click()
            until(page, lambda: [len(one.asked) for one in storage.waiting().items] == [2])
            let_go()
        questions = page.locator(".question")
        expect(questions).to_have_count(2)
        questions.filter(has_text="Noether").get_by_role("button", name="Approve").click()
        page.wait_for_timeout(300)
        assert paid == ["Curie"]  # nobody has said anything of Mallory
        questions.filter(has_text="Mallory").get_by_role("button", name="Deny").click()
        page.get_by_role("button", name="Deny with this reason").click()
        expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()
    assert paid == ["Curie", "Noether"]
    assert storage.get_run("s1", 1).output == "Done."
