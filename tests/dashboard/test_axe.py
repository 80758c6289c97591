"""Every view and state, light and dark, on desktop and phone: axe finds nothing. Pictures are kept if asked for."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.campaigns import TORTURE, sampled
from tests.dashboard.axe import needs_packages, violations
from tests.dashboard.conftest import PICTURES, SIZES, OpenPage, serving
from tests.dashboard.shifts import BEGIN, SHIFTS

from sessile import SqliteStorage
from sessile.cli.sample_agents import run_samples, sample_agents
from sessile.cli.sample_talks import fill_samples
from sessile.cli.samples import Filling
from sessile.server import create_app

VIEWS = {
    "sessions": "#/",
    "search": "#/sessions?q=refund",
    "nothing found": "#/sessions?q=zanzibar",
    "filtered to nothing": "#/sessions?status=cancelled",
    "session": "#/session/refund-4711",
    "run": "#/session/refund-4711?run=2",
    "waits": "#/session/invoice-curie",
    "team": "#/session/desk-paris",
    "workflow": "#/session/onboarding-curie?run=1",
    "state": "#/session/refund-4711?tab=state&run=3",
    "details": "#/session/refund-4711?tab=details",
    "no such session": "#/session/nowhere",
    "waiting": "#/waiting",
    "new": "#/new",
    "runs": "#/runs",
    "no such runs": "#/runs?model=zanzibar",
    "review": "#/review",
    "nothing to review": "#/review?agent=zanzibar",
    "examples": "#/examples?min_score=1",
    "no examples": "#/examples?agent=zanzibar",
    "evaluations": "#/evaluations",
    "evaluation": "#/evaluations?start=1",
    "no such evaluation": "#/evaluations/zanzibar",
    "memories": "#/memories",
    "monitor": "#/monitor?time=30d&by=agent",
    "nothing in the monitor": "#/monitor?agent=zanzibar",
    "health": "#/health",
    "compare": "#/compare?a=refund-4711&ra=3&b=refund-4711&rb=4",
}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory):
    needs_packages()
    path = tmp_path_factory.mktemp("samples") / "sessions.db"
    with SqliteStorage(path) as storage:
        fill_samples(Filling(storage), 30)
    with SqliteStorage(path) as storage:
        things = sample_agents(storage)
        run_samples(things)
        with serving(create_app(things, storage=storage)) as address:
            yield address


def settled(page: Page) -> None:
    """Waits until nothing loads any more."""
    expect(page.locator("main")).to_be_visible()
    expect(page.locator(".skeleton")).to_have_count(0)
    page.wait_for_timeout(150)


def test_axe_finds_nothing(samples: str, open_page: OpenPage) -> None:
    """Each view is loaded once, moves nothing, and is looked at in light, and in dark or as narrow as a phone.

    In torture, in both.
    """
    page = open_page(samples)
    page.evaluate(SHIFTS)
    wrong: list[str] = []
    chosen = set(islice(sampled(2), len(VIEWS)))
    for number, (name, place) in enumerate(VIEWS.items(), 1):
        page.set_viewport_size({"width": SIZES["desktop"][0], "height": SIZES["desktop"][1]})
        page.emulate_media(color_scheme="light")
        page.evaluate(BEGIN)
        page.goto(samples + place)
        settled(page)
        wrong += [f"{name}: moves while it loads: {one}" for one in page.evaluate("() => window.shifts")]
        if name in ("run", "team"):
            for fold in page.locator("button.fold").all():
                fold.click()
        wrong += [f"{name}, light: {one}" for one in violations(page)]
        picture(page, name, "light")
        if TORTURE or number in chosen:
            wrong += in_the_dark(page, name)
        if TORTURE or number not in chosen:
            wrong += on_a_phone(page, name)
    assert not wrong, "\n".join(wrong)


def in_the_dark(page: Page, name: str) -> list[str]:
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html[data-theme=dark]")).to_be_attached()
    picture(page, name, "dark")
    wrong = [f"{name}, dark: {one}" for one in violations(page, contrast=True)]
    page.emulate_media(color_scheme="light")
    return wrong


def on_a_phone(page: Page, name: str) -> list[str]:
    page.set_viewport_size({"width": 320, "height": 700})
    page.wait_for_timeout(50)
    picture(page, name, "phone")
    wrong = [f"{name}, phone: {one}" for one in violations(page, contrast=False)]
    too_wide = page.evaluate("() => { const m = document.querySelector('main'); return m.scrollWidth - m.clientWidth }")
    return wrong + ([f"{name}, phone: {too_wide} pixels too wide"] if too_wide > 0 else [])


def picture(page: Page, name: str, look: str) -> None:
    if os.environ.get("SESSILE_PICTURES"):
        page.screenshot(path=Path(PICTURES, f"{name.replace(' ', '-')}-{look}.png"))


def test_axe_finds_nothing_in_high_contrast(samples: str, open_page: OpenPage) -> None:
    """As the system asks for it: text has at least the contrast of WCAG's AAA."""
    page = open_page(samples)
    page.emulate_media(contrast="more")
    expect(page.locator("html[data-contrast=high]")).to_be_attached()
    wrong: list[str] = []
    for name in ("sessions", "session", "waits", "workflow", "monitor", "review"):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, contrast="more")
            page.goto(samples + VIEWS[name])
            settled(page)
            picture(page, name, f"contrast-{scheme}")
            wrong += [f"{name}, {scheme}: {one}" for one in violations(page, contrast=True, enhanced=True)]
    assert not wrong, "\n".join(wrong)


def test_axe_finds_nothing_in_what_opens(samples: str, open_page: OpenPage) -> None:
    page = open_page(f"{samples}#/session/refund-4711?run=3")
    settled(page)
    page.keyboard.press("/")
    expect(page.get_by_role("dialog")).to_be_visible()
    wrong = violations(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    wrong += violations(page)
    page.keyboard.press("Escape")
    page.get_by_role("article", name="Run 3").get_by_role("button", name="More actions").click()
    expect(page.get_by_role("menu")).to_be_visible()
    wrong += violations(page)
    page.get_by_role("menuitem", name="Fork from here").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    wrong += violations(page)
    assert not wrong, "\n".join(wrong)
