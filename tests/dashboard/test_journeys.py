"""A week of work with the dashboard, as its users have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("playwright")

from playwright.sync_api import expect
from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.dashboard.conftest import OpenPage, serving
from tests.storage.helpers import wait_until

from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel
from sessile.server import create_app

PAID: list[tuple[str, float]] = []


def pay(to: str, amount: float) -> str:
    """Pay somebody."""
    PAID.append((to, amount))
    return f"{amount} to {to}"


async def slowly(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    for number in range(40):
        await asyncio.sleep(0.05)
        yield f"word{number} "


async def on_and_on(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    for _ in range(5000):
        await asyncio.sleep(0.05)
        yield "word "


@pytest.fixture
def shop(storage: SqliteStorage) -> Iterator[str]:
    """A server with agents."""
    PAID.clear()
    model = OfflineModel(introduce=False)
    agents: list[Agent[Any]] = [
        Agent(model, name="support", storage=storage, durability="step"),
        Agent(model, name="payments", storage=storage, durability="step", tools=[Tool(pay, requires_approval=True)]),
        Agent(FunctionModel(stream_function=slowly), name="slow", storage=storage, durability="step"),
        Agent(FunctionModel(stream_function=on_and_on), name="endless", storage=storage, durability="step"),
    ]
    with serving(create_app(agents, storage=storage)) as address:
        yield address


def test_find_why_yesterdays_refund_failed(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    for number in range(60):
        storage.add_run(f"s{number}", input=f"Question {number}", output="Answer", user_id="ada", agent="support")
    error = {"type": "PaymentError", "message": "reference 7731-A is older than 180 days", "traceback": "shop/bank.py"}
    storage.add_run("the-one", input="Hello", output="Hi", user_id="bob", started_at=yesterday, ended_at=yesterday)
    storage.add_run(
        "the-one", input="My refund, please", error=error, status="failed", user_id="bob", ended_at=yesterday,
        started_at=yesterday,
    )  # fmt: skip
    storage.add_run("the-one", input="Thanks anyway", output="Bye", user_id="bob")
    page = open_page(address)
    page.get_by_role("searchbox").fill("refund")
    hit = page.get_by_role("link", name="My refund")
    expect(hit.locator("mark")).to_have_text("refund")
    hit.click()
    run = page.get_by_role("article", name="Run 2")
    expect(run).to_be_in_viewport()
    expect(run).to_contain_text("reference 7731-A is older than 180 days")
    run.get_by_role("button", name="Stack").click()
    expect(run).to_contain_text("shop/bank.py")
    # The address brings back what was seen.
    page.reload()
    expect(page.get_by_role("article", name="Run 2")).to_be_in_viewport()


def test_approve_a_waiting_payment_from_a_phone(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    agent = Agent(
        OfflineModel(introduce=False),
        name="payments",
        storage=storage,
        durability="step",
        tools=[Tool(pay, requires_approval=True)],
    )
    agent.run('call pay {"to": "Curie", "amount": 1840.0}', session_id="s1", user_id="ada")
    page = open_page(shop, size="phone")
    page.get_by_role("link", name="Waiting").tap()
    page.get_by_role("button", name="Edit arguments").tap()
    page.get_by_role("textbox", name="Arguments").fill('{"to": "Curie", "amount": 840.0}')
    page.get_by_role("button", name="Approve").tap()
    expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()
    wait_until(lambda: storage.get_run("s1", 1, user_id="ada").status == "completed")
    assert PAID == [("Curie", 840.0)]


def test_deny_with_a_reason_that_the_model_is_told(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    page = open_page(f"{shop}#/new?agent=payments")
    page.get_by_role("textbox").fill('call pay {"to": "Mallory", "amount": 1.0}')
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Deny").click()
    page.get_by_role("textbox", name="Why not").fill("Nobody knows Mallory.")
    page.get_by_role("button", name="Deny with this reason").click()
    expect(page.get_by_role("article", name="Run 1")).to_contain_text("Completed")
    expect(page.get_by_role("article", name="Run 1")).to_contain_text("Nobody knows Mallory.")
    assert PAID == []


def test_continue_a_session_that_another_process_began(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    elsewhere = Agent(OfflineModel(introduce=False), name="support", storage=storage)
    elsewhere.run("My name is Ada.", session_id="s1", user_id="ada")
    page = open_page(f"{shop}#/session/s1")
    expect(page.get_by_role("textbox", name="Say something")).to_be_visible()
    page.keyboard.press("r")
    page.keyboard.type("What is my name?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="Run 2")).to_contain_text("Ada")
    expect(page.get_by_role("article", name="Run 2")).to_contain_text("Completed")
    assert storage.get_run("s1", 2, user_id="ada").status == "completed"


def test_a_run_at_work_is_read_as_it_speaks_and_after_the_connection_was_lost(shop: str, open_page: OpenPage) -> None:
    page = open_page(f"{shop}#/new?agent=slow")
    page.get_by_role("textbox").fill("Go")
    page.keyboard.press("Enter")
    run = page.get_by_role("article", name="Run 1")
    expect(run).to_contain_text("word3 ")
    page.context.set_offline(True)
    page.wait_for_timeout(400)
    page.context.set_offline(False)
    expect(run).to_contain_text("word39", timeout=30_000)
    expect(run).to_contain_text("Completed")
    text = run.locator(".said.agent .markdown").inner_text()
    assert text.split() == [f"word{number}" for number in range(40)]


def test_stop_a_run_that_is_at_work(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    page = open_page(f"{shop}#/new?agent=endless")
    page.get_by_role("textbox").fill("Go")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("article", name="Run 1")).to_contain_text("It was cancelled.")


def test_new_sessions_are_a_count_to_click_and_never_a_jump(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    storage.add_run("old", input="The first", output="x")
    page = open_page(address)
    rows = page.get_by_role("row")
    expect(rows).to_have_count(2)
    page.wait_for_timeout(1500)  # the stream of changes has begun
    storage.add_run("new", input="The second", output="x")
    fresh = page.get_by_role("button", name="1 new or changed session")
    expect(fresh).to_be_visible()
    expect(rows).to_have_count(2)
    fresh.click()
    expect(rows.nth(1)).to_contain_text("The second")


def test_edit_and_run_again_leaves_what_was_there_as_a_branch(
    storage: SqliteStorage, shop: str, open_page: OpenPage
) -> None:
    agent = Agent(OfflineModel(introduce=False), name="support", storage=storage)
    agent.run("My name is Ada.", session_id="s1")
    agent.run("What is the capital of Spain?", session_id="s1")
    page = open_page(f"{shop}#/session/s1")
    page.get_by_role("article", name="Run 2").get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name="Edit and run again").click()
    page.get_by_role("textbox", name="User").fill("What is the capital of France?")
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("article", name="Run 3")).to_contain_text("Paris")
    expect(page.get_by_role("article", name="Run 2")).to_have_count(0)
    page.get_by_role("tab", name="Details").click()
    expect(page.get_by_role("link", name="up to run 2, 2 runs")).to_be_visible()


def test_fork_rename_compare_and_delete(storage: SqliteStorage, shop: str, open_page: OpenPage) -> None:
    agent = Agent(OfflineModel(introduce=False), name="support", storage=storage)
    agent.run("My name is Ada.", session_id="s1")
    agent.run("What is my name?", session_id="s1")
    page = open_page(f"{shop}#/session/s1")
    page.get_by_role("article", name="Run 1").get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name="Fork from here").click()
    page.get_by_role("textbox", name="Name").fill("Another way")
    page.get_by_role("button", name="Fork", exact=True).click()
    expect(page.get_by_role("heading", name="Another way")).to_be_visible()
    expect(page.get_by_role("article")).to_have_count(1)
    menu = page.get_by_role("banner").or_(page.locator(".session-head")).get_by_role("button", name="More actions")
    menu.click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_role("textbox", name="Name").fill("A better way")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="A better way")).to_be_visible()
    menu.click()
    page.get_by_role("menuitem", name="Compare with the origin").click()
    expect(page.get_by_label("Compare a").get_by_text("What is my name?")).to_be_visible()
    expect(page.get_by_label("Compare b").get_by_text("My name is Ada.")).to_be_visible()
    page.go_back()
    menu.click()
    page.get_by_role("menuitem", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text("gone for good")
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("link", name="What is my name?")).to_be_visible()
    assert len(storage.sessions().items) == 1


def test_a_rating_by_mouse_with_a_comment(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="Hello", output="Hi", user_id="ada")
    page = open_page(f"{address}#/session/s1")
    page.get_by_role("button", name="4 of 5").click()
    expect(page.get_by_role("button", name="4 of 5")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Comment").click()
    page.get_by_role("textbox", name="Comment").fill("Friendly")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    (rating,) = storage.get_run("s1", 1, user_id="ada").ratings[-1:]
    assert (rating.score, rating.comment) == (4, "Friendly")


def test_a_token_is_asked_for_where_the_server_wants_one(storage: SqliteStorage, open_page: OpenPage) -> None:
    from sessile.server import Tokens

    storage.for_user("ada").add_run("s1", input="Mine", output="x")
    storage.for_user("bob").add_run("s1", input="Not mine", output="x")
    token = "token-of-ada-0123456789"
    with serving(create_app(storage=storage, auth=Tokens({token: "ada"}))) as address:
        page = open_page(address)
        page.get_by_role("textbox", name="Token").fill("wrong-token-0123456789")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.get_by_role("textbox", name="Token").fill(token)
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name="Mine")).to_be_visible()
        expect(page.get_by_role("row")).to_have_count(2)


def test_a_comment_keeps_the_stars_that_are_still_on_their_way(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    storage.add_run("s1", input="Hello", output="Hi", user_id="ada")
    page = open_page(f"{address}#/session/s1")
    page.route("**/sessions/s1", lambda route: (page.wait_for_timeout(500), route.continue_()))
    page.route("**/runs*", lambda route: (page.wait_for_timeout(500), route.continue_()))
    page.get_by_role("button", name="4 of 5").click()
    page.get_by_role("button", name="Comment").click()
    page.get_by_role("textbox", name="Comment").fill("Friendly")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    (rating,) = storage.get_run("s1", 1, user_id="ada").ratings[-1:]
    assert (rating.score, rating.comment) == (4, "Friendly")
