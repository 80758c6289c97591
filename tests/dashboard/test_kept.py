"""What is kept beside runs: files of a session, memories of a user."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Route, expect
from pydantic_ai.messages import BinaryContent
from tests.dashboard.axe import needs_packages, violations
from tests.dashboard.conftest import OpenPage

from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel

HOSTILE = "<img src=x onerror=alert(1)>/page.html"


def test_files_are_saved_and_deleted_with_all_their_versions(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    needs_packages()
    storage.add_run("s1", input="Write a report", output="Done")
    files = storage.files("s1")
    files.write("report.md", "first")
    files.write("report.md", "second")
    files.write(HOSTILE, b"<script>alert(1)</script>", media_type="text/html")
    page = open_page(f"{address}#/session/s1")
    page.get_by_role("tab", name="Files").click()
    table = page.get_by_role("region", name="Files")
    expect(table.get_by_role("row")).to_have_count(3)
    assert violations(page) == []
    table.get_by_role("button", name="report.md", exact=True).click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save report.md, version 1").click()
    assert Path(saved.value.path()).read_text() == "first"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save report.md, version 2").click()
    assert Path(saved.value.path()).read_text() == "second"
    table.get_by_role("button", name="Delete report.md").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(table.get_by_role("row")).to_have_count(2)
    assert [file.name for file in files.all()] == [HOSTILE]


def test_what_cannot_be_saved_says_so(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    """And can be saved when what stood in the way is gone."""
    needs_packages()
    agent = Agent(OfflineModel(introduce=False), storage=storage)
    agent.run(["Look:", BinaryContent(bytes(90_000), media_type="application/pdf")], session_id="s1")
    for text in ("first", "second"):
        storage.files("s1").write("report.md", text)
    page = open_page(f"{address}#/session/s1")

    def refuse(route: Route) -> None:
        problem = {"type": "urn:sessile:problem:read-only", "detail": "The database is busy.", "hint": "Wait."}
        route.fulfill(status=422, content_type="application/problem+json", body=json.dumps(problem))

    failed = page.get_by_role("alert").get_by_text("The database is busy.")
    page.route("**/media/*", refuse)
    attached = page.locator(".file")
    attached.get_by_role("button", name="Download").click()
    expect(failed).to_have_count(1)
    page.unroute("**/media/*")
    attached.get_by_role("button", name="Download").click()
    with page.expect_download():
        attached.get_by_role("link", name="Download").click()
    expect(failed).to_have_count(0)

    page.route("**/files*", refuse)
    page.route("**/files/**", refuse)
    page.get_by_role("tab", name="Files").click()
    expect(failed).to_have_count(1)  # the list itself
    page.unroute("**/files*")
    page.get_by_role("button", name="Try again").click()
    page.get_by_role("button", name="Save report.md, version 2").click()
    expect(failed).to_have_count(1)
    page.unroute("**/files/**")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save report.md, version 2").click()
    assert Path(saved.value.path()).read_text() == "second"
    expect(failed).to_have_count(0)

    page.route("**/dataset*", refuse)
    page.goto(f"{address}#/examples")
    page.get_by_role("button", name="JSON").click()
    expect(failed).to_have_count(1)


def test_memories_are_found_added_changed_and_forgotten(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    needs_packages()
    storage.memories("ada").add("Likes tea <b>very</b> much")
    storage.memories("ben").add("Likes coffee")
    page = open_page(f"{address}#/memories?user=ada")
    facts = page.get_by_role("article")
    expect(facts).to_have_count(1)
    assert violations(page) == []
    page.get_by_role("button", name="Remember something").click()
    page.get_by_role("dialog").get_by_role("textbox", name="Fact").fill("Lives in Turin")
    page.get_by_role("dialog").get_by_role("button", name="Remember").click()
    expect(facts).to_have_count(2)
    page.get_by_role("searchbox", name="Find in memories").fill("tea")
    expect(facts).to_have_count(1)
    expect(facts).to_contain_text("Likes tea <b>very</b> much")
    facts.get_by_role("button", name="Change").click()
    page.get_by_role("dialog").get_by_role("textbox", name="Fact").fill("Likes green tea")
    page.get_by_role("dialog").get_by_role("button", name="Change").click()
    expect(facts).to_contain_text("Likes green tea")
    facts.get_by_role("button", name="Forget").click()
    page.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(facts).to_have_count(0)
    assert [one.memory for one in storage.memories("ada").all()] == ["Lives in Turin"]
    assert [one.memory for one in storage.memories("ben").all()] == ["Likes coffee"]
