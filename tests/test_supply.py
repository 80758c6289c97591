"""What is installed is locked, by its hash; what comes along is listed, with its licence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
OTHERS = (ROOT / "bench/peers/requirements", ROOT / "tests/frameworks/requirements")
LOCKS = [path for folder in (ROOT / "requirements", *OTHERS) for path in sorted(folder.glob("*.txt"))]
INSTALLERS = [ROOT / "Makefile", *sorted((ROOT / "scripts").glob("*.sh")), *sorted((ROOT / "bench").rglob("*.py"))]

sys.path.insert(0, str(ROOT / "scripts"))
import bill  # noqa: E402

NAMED = re.compile(r"^([A-Za-z0-9][\w.-]*)", re.MULTILINE)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_of_a_lock_has_its_version_and_hashes(path: Path) -> None:
    """One entry is a line that begins with a name, and the indented lines that follow it."""
    entries = re.split(r"\n(?=\S)", path.read_text("utf-8"))
    named = [entry for entry in entries if NAMED.match(entry)]
    assert len(named) > 5
    for entry in named:
        assert re.match(r"[A-Za-z0-9][\w.-]*(\[[\w,-]+\])?==\S+", entry), entry
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


def test_every_peer_has_a_lock_of_what_it_asks_for() -> None:
    wanted = [path for folder in OTHERS for path in sorted(folder.glob("*.in"))]
    assert len(wanted) >= 7
    for path in wanted:
        lock = path.with_suffix(".txt").read_text("utf-8")
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("#"):
                continue
            name, _, version = re.sub(r"\[.*\]", "", line).partition("==")
            found = re.search(rf"^{re.escape(name)}(\[[\w,-]+\])?=={re.escape(version)}[ ;]", lock, re.MULTILINE)
            assert found, f"{path.name}: {line}: make lock"


def test_nothing_is_installed_without_hashes() -> None:
    """Whatever installs names a lock, or nothing from an index: this package, or the built wheel."""
    installs = 0
    for path in INSTALLERS:
        for line in path.read_text("utf-8").splitlines():
            if re.search(r"env\.sh\"? \S+ -|\"pip\", \"install\"", line) and not line.lstrip().startswith("#"):
                installs += 1
                allowed = ("--require-hashes", "*LOCKED", "--no-index", "--no-deps --no-build-isolation --editable .")
                assert any(words in line for words in allowed), f"{path.name}: {line}"
    assert installs >= 8


def test_images_are_named_by_their_digest() -> None:
    """A tag may mean another image tomorrow."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    files = [ROOT / name for name in tracked if re.search(r"\.ya?ml$|Dockerfile|Containerfile", name)]
    named = [
        (path.name, image)
        for path in files
        for image in re.findall(r"^\s*(?:image:|FROM)\s+(?:--\S+\s+)*(\S+)", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert len(named) >= 10
    assert not [one for one in named if not re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", one[1])]


# ---------------------------------------------------------------- what comes along


@pytest.mark.skipif(sys.platform != "linux", reason="the page lists what Linux has")
def test_the_page_of_licences_says_what_is_installed() -> None:
    listed = bill.listed()
    for name, package in bill.packages().items():
        licence, extras = listed[name]
        assert licence == package.licence, f"{name}: python scripts/bill.py --licences"
        assert extras >= ({""} if "" in package.extras else package.extras), name
    assert not {name: said for name, (said, _) in listed.items() if said == "not stated"}
    assert listed.keys() <= bill.locked().keys()
    assert len(bill.packages()) > 40, "else nothing is looked at"


def test_the_page_of_licences_says_what_the_dashboard_contains() -> None:
    bundled = bill.bundled()
    assert any(title.startswith("react-aria-components ") for title in bundled)
    assert all("(" in title for title in bundled)
    page = bill.PAGE.read_text("utf-8")
    assert page.endswith("".join(f"* {title}\n" for title in bundled)), "python scripts/bill.py --licences"


def test_no_extra_is_forgotten() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    (everything,) = re.findall(r'^all = \["sessile\[(.*)\]"\]', text, re.MULTILINE)
    assert set(everything.split(",")) == set(bill.EXTRAS)


def test_a_bill_of_materials(tmp_path: Path) -> None:
    wheel = tmp_path / "sessile-1.2.3-py3-none-any.whl"
    wheel.write_bytes(b"content")
    command = [sys.executable, str(ROOT / "scripts/bill.py"), str(wheel)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert text == subprocess.run(command, capture_output=True, text=True, check=True).stdout, "it is always the same"
    made: dict[str, Any] = json.loads(text)
    assert (made["bomFormat"], made["specVersion"], made["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", made["serialNumber"])
    assert made["metadata"]["component"]["version"] == "1.2.3"
    references = [component["bom-ref"] for component in made["components"]]
    assert len(set(references)) == len(references) == len(bill.listed())
    assert {"pydantic-ai-slim", "psycopg", "anthropic", "google-genai"} <= {
        found["name"] for found in made["components"]
    }
    for component in made["components"]:
        assert component["licenses"][0]["license"]["name"]
        assert component["externalReferences"][0]["hashes"]
    known = {made["metadata"]["component"]["bom-ref"], *references}
    for dependency in made["dependencies"]:
        assert {dependency["ref"], *dependency["dependsOn"]} <= known
    assert {found["name"] for found in made["components"] if found["scope"] == "required"} >= {"pydantic", "httpx2"}


def test_what_is_not_in_the_bill_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text('{"components": []}')
    assert any(text.startswith("pydantic-core ") for text in bill.compare(tmp_path / "empty.json"))
