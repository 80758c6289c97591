"""What is built of the dashboard is what its source says, is in the package, and asks for nothing from elsewhere."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.dashboard.axe import needs_packages

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "src/sessile/server/static"
UI = ROOT / "ui"

MOST = 350_000
"""Bytes, compressed, that the first view may load."""


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_kept_is_what_the_source_builds(tmp_path: Path) -> None:
    if shutil.which("npm") is None and not os.environ.get("CI"):
        pytest.skip("Node is not installed")
    needs_packages()
    subprocess.run(["npx", "tsc", "--noEmit"], cwd=UI, check=True)
    subprocess.run(["npm", "run", "lint"], cwd=UI, check=True)
    subprocess.run(["npx", "vitest", "run"], cwd=UI, check=True)
    built = tmp_path / "static"
    subprocess.run(["npx", "vite", "build", "--outDir", str(built)], cwd=UI, check=True)
    kept = files(STATIC)
    kept.pop("NOTICES.txt")  # is written beside the source's own place
    assert files(built) == kept, "src/sessile/server/static/ is not what ui/ builds: make ui"


def test_the_first_view_loads_at_most_350_kb() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    first = set(re.findall(r'(?:src|href)="\./(assets/[^"]+)"', page))
    assert first
    fonts = {f"assets/{path.name}" for path in (STATIC / "assets").glob("*.woff2")}
    size = sum(len(gzip.compress((STATIC / name).read_bytes())) for name in first | fonts)
    assert size <= MOST, f"{size:,} bytes"


def test_the_licences_of_what_is_bundled_come_along() -> None:
    notices = (STATIC / "NOTICES.txt").read_text("utf-8")
    for name in ("react ", "react-aria-components ", "@tanstack/react-query ", "react-markdown ", "Inter"):
        assert name in notices, name
    assert "Permission is hereby granted" in notices
    assert "SIL OPEN FONT LICENSE" in notices.upper()
