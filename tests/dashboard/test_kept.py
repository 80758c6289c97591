"""What is kept beside runs: files of a session, memories of a user."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect
from tests.dashboard.axe import needs_packages, violations
from tests.dashboard.conftest import OpenPage

from sessile import SqliteStorage

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
