"""What is taken out of the dashboard, or given away in it, works where it comes to."""

from __future__ import annotations

import json
import subprocess
import sys

from playwright.sync_api import Page, expect
from tests.dashboard.conftest import OpenPage, serving

from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel
from sessile.server import create_app


def copied(page: Page, what: str) -> str:
    page.get_by_role("article", name="Run 1").get_by_role("button", name="More actions").click()
    page.get_by_role("menuitem", name=what, exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_attached()
    return page.evaluate("() => navigator.clipboard.readText()")


def test_what_is_copied_runs_and_what_is_given_is_there(storage: SqliteStorage, open_page: OpenPage) -> None:
    agent = Agent(OfflineModel(introduce=False), name="support", storage=storage)
    agent.run('My name is Ada; it\'s "hers".', session_id="s1")
    with serving(create_app([agent], storage=storage)) as address:
        page = open_page(f"{address}#/session/s1")
        # Without a name, it is called by what was asked.
        expect(page.get_by_role("heading", level=1)).to_have_text('My name is Ada; it\'s "hers".')
        program = copied(page, "As Python")
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert said.splitlines()[:2] == ["completed", 'My name is Ada; it\'s "hers".']
        command = copied(page, "As cURL")
        again = subprocess.run(["sh", "-c", f"{command} --silent"], capture_output=True, text=True, check=True).stdout
        assert (json.loads(again)["number"], json.loads(again)["status"]) == (2, "completed")
        assert storage.get_run("s1", 2).input == 'My name is Ada; it\'s "hers".'
        page.locator(".session-head").get_by_role("button", name="More actions").click()
        page.get_by_role("menuitem", name="Give to a user").click()
        page.get_by_role("textbox", name="User").fill("ada")
        page.get_by_role("button", name="Give", exact=True).click()
        expect(page.locator(".session-head").get_by_role("link", name="ada")).to_be_visible()
        expect(page.get_by_role("article", name="Run 2")).to_be_visible()
    assert storage.for_user("ada").get_run("s1", 2).status == "completed"
