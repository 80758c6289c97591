"""What people are asked in the dashboard: forms, reviews, approvals that hold for later calls."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, Literal

import pytest
from playwright.sync_api import Route, expect
from pydantic import BaseModel, Field, field_validator
from pydantic_ai import RunContext, Tool
from tests.agents.resume_tools import wait_until
from tests.dashboard.axe import needs_packages, violations
from tests.dashboard.conftest import OpenPage, serving

from sessile import Agent, SqliteStorage, ask_person
from sessile.agents.offline import OfflineModel
from sessile.server import create_app

BOOKED: list[Any] = []


class Traveller(BaseModel):
    name: str
    seats: int = Field(ge=1, le=9)
    born: date | None = None
    meal: Literal["any", "vegan"] = "any"
    bike: bool = False

    @field_validator("name")
    @classmethod
    def is_somebody(cls, name: str) -> str:
        if name == "Nobody":
            raise ValueError("nobody does not travel")
        return name


def book(ctx: RunContext[Any], city: str) -> str:
    """Book a journey."""
    BOOKED.append(ask_person(ctx, Traveller, f"Who travels to {city}?"))
    return "booked"


def pay(to: str) -> str:
    """Pay."""
    return f"paid {to}"


@pytest.fixture
def travel(storage: SqliteStorage) -> Agent[Any]:
    BOOKED.clear()
    tools = [Tool(book), Tool(pay, requires_approval=True)]
    return Agent(OfflineModel(introduce=False), name="travel", storage=storage, tools=tools)


@pytest.fixture
def writer(storage: SqliteStorage) -> Agent[Any]:
    return Agent(OfflineModel(introduce=False), name="writer", storage=storage, review=True)


@pytest.fixture
def desk(storage: SqliteStorage, travel: Agent[Any], writer: Agent[Any]) -> Iterator[str]:
    with serving(create_app([travel, writer], storage=storage, resume_every=None)) as address:
        yield address


def test_a_form_is_filled(storage: SqliteStorage, travel: Agent[Any], desk: str, open_page: OpenPage) -> None:
    needs_packages()
    travel.run('call book {"city": "Oslo"}', session_id="s1")
    page = open_page(f"{desk}#/waiting")
    expect(page.get_by_text("Who travels to Oslo?")).to_be_visible()
    assert violations(page) == []
    send = page.get_by_role("button", name="Send what is filled in")
    send.click()
    expect(page.get_by_text("This is missing.").first).to_be_visible()
    page.get_by_role("textbox", name="Name").fill("Ada")
    page.get_by_role("textbox", name="Seats").fill("12")
    send.click()
    expect(page.get_by_role("alert")).to_contain_text("seats: it must be at most 9")
    page.get_by_role("textbox", name="Name").fill("Nobody")
    page.get_by_role("textbox", name="Seats").fill("2")
    send.click()
    expect(page.get_by_role("alert").first).to_contain_text("nobody does not travel")
    page.get_by_role("textbox", name="Name").fill("Ada")
    page.get_by_role("textbox", name="Seats").fill("2")
    page.get_by_role("textbox", name="Born").fill("1815-12-10")
    page.get_by_role("button", name="Meal").click()
    page.get_by_role("option", name="vegan").click()
    page.get_by_text("Bike").click()
    send.click()
    expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()
    wait_until(lambda: storage.get_run("s1", 1).status == "completed")
    assert [Traveller(name="Ada", seats=2, born=date(1815, 12, 10), meal="vegan", bike=True)] == BOOKED


def test_an_answer_is_sent_back_and_changed(
    storage: SqliteStorage, writer: Agent[Any], desk: str, open_page: OpenPage
) -> None:
    needs_packages()
    writer.run("Hello", session_id="s1")
    page = open_page(f"{desk}#/session/s1")
    expect(page.get_by_text("The answer waits until somebody has looked at it")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Send back").click()
    page.get_by_role("textbox", name="What should be different?").fill("Shorter, please.")
    page.get_by_role("button", name="Send back with this remark").click()
    wait_until(lambda: len(storage.get_run("s1", 1).messages) == 4)
    expect(page.locator(".said")).to_have_count(4)  # before, the answer that was sent back is still to be decided on
    page.get_by_role("button", name="Change", exact=True).click()
    page.get_by_role("textbox", name="value").fill("Hi!")
    page.get_by_role("button", name="Give this answer").click()
    wait_until(lambda: storage.get_run("s1", 1).output == "Hi!")


def test_an_answer_to_what_is_asked_next_goes_alone(
    storage: SqliteStorage, writer: Agent[Any], desk: str, open_page: OpenPage
) -> None:
    """Also where the page has not seen that the run went on in between."""
    writer.run("Hello", session_id="s1")
    page = open_page(f"{desk}#/session/s1")
    page.get_by_role("button", name="Send back").click()
    page.get_by_role("textbox", name="What should be different?").fill("Shorter, please.")
    held: list[Route] = []
    page.route("**/sessions/s1/*", lambda route: held.append(route))
    page.get_by_role("button", name="Send back with this remark").click()
    wait_until(lambda: (run := storage.get_run("s1", 1)).status == "paused" and len(run.messages) == 4)
    page.unroute("**/sessions/s1/*")
    for late in held:
        late.continue_()
    page.get_by_role("button", name="Accept").click()
    expect(page.get_by_text("The answer waits until somebody has looked at it")).to_be_hidden()
    wait_until(lambda: storage.get_run("s1", 1).status == "completed")


def test_what_is_approved_for_good_is_listed_and_taken_back(
    storage: SqliteStorage, travel: Agent[Any], desk: str, open_page: OpenPage
) -> None:
    needs_packages()
    storage.grant("pay", "travel", user_id="ada", by="<b>bob</b>", ttl=3600)
    storage.grant("pay", "travel", user_id="ben")
    travel.run('call pay {"to": "Curie"}', session_id="s1", user_id="eve")
    page = open_page(f"{desk}#/approvals?user=ada")
    found = page.get_by_role("article")
    expect(found).to_have_count(1)
    expect(found).to_contain_text("approved by <b>bob</b>")
    expect(found).to_contain_text("holds until")
    assert violations(page) == []
    found.get_by_role("button", name="Take back the approval of pay").click()
    page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    expect(page.get_by_role("heading", name="Nothing is approved for good")).to_be_visible()
    assert [storage.grants(user_id=user) != [] for user in ("ada", "ben")] == [False, True]
    page.goto(f"{desk}#/session/s1")
    page.get_by_role("button", name="Which calls").click()
    page.get_by_role("option", name="Always in this session").click()
    page.get_by_role("button", name="Approve", exact=True).click()
    wait_until(lambda: len(storage.grants("s1", user_id="eve")) == 1)
    page.get_by_role("tab", name="Details").click()
    page.get_by_role("button", name="Take back the approval of pay").click()
    page.get_by_role("dialog").get_by_role("button", name="Take back").click()
    wait_until(lambda: storage.grants("s1", user_id="eve") == [])
