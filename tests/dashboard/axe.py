"""What axe says about a page: accessibility, by the rules of WCAG 2.2 AA and good practice."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page

UI = Path(__file__).parents[2] / "ui"
AXE = UI / "node_modules/axe-core/axe.min.js"
"""Comes with `npm ci` in ui/."""

COMPLETE = UI / "node_modules/.package-lock.json"
"""Is written when all packages are there."""

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


CHEAPER = {"preload": False, "selectors": False}
"""Nothing that its rules need is at another host; and what is wrong is shown by its HTML."""


def needs_packages() -> None:
    """Skips where the dashboard's development packages are not installed; in CI whoever is first installs them."""
    if not os.environ.get("CI"):
        if not AXE.exists():
            pytest.skip("the dashboard's development packages are not installed (make ui)")
        return
    if shutil.which("npm") is None:
        pytest.fail("Node is not installed.")
    with (UI / "package.json").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not COMPLETE.exists():
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=UI, check=True)


def violations(page: Page, *, contrast: bool | None = None, enhanced: bool = False) -> list[str]:
    """What is wrong, one line each: all of it, that of contrast alone, or all but that, which takes longest.

    `enhanced`: contrast is that of level AAA.
    """
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(f"() => {{ {AXE.read_text('utf-8')} }}")
    options: dict[str, object] = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"], **CHEAPER}
    if contrast is True:
        options["runOnly"] = {"type": "rule", "values": ["color-contrast-enhanced" if enhanced else "color-contrast"]}
        if enhanced:
            options["rules"] = {"color-contrast-enhanced": {"enabled": True}}
    elif contrast is False:
        options["rules"] = {"color-contrast": {"enabled": False}}
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{one['id']}: {node['html']:.200} {json.dumps(node.get('failureSummary', ''))}"
        for one in found["violations"]
        for node in one["nodes"]
    ]
