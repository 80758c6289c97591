"""The driver of docs/writing-a-driver.md, as a package that a third party would make of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.test_docs import ROOT, blocks

PAGE = ROOT / "docs" / "writing-a-driver.md"

PROGRAM = """
import sessile
from sessile.storage.registry import schemes

assert "duckdb" in schemes()
with sessile.open("duckdb:///sessions.duckdb") as storage:
    storage.add_run("s1", input="What is the capital of France?", output="Paris")
with sessile.open("duckdb:///sessions.duckdb") as storage:
    print(type(storage).__module__, type(storage).__name__, storage.runs("s1")[0].output)
"""


def driver_code() -> str:
    """The blocks of the page up to the storage class, without the lines that try it out."""
    code = [block.code for block in blocks(PAGE.read_text("utf-8")) if block.language == "python"]
    last = next(number for number, text in enumerate(code) if "class DuckDbStorage" in text)
    return "\n\n".join([*code[:last], code[last].partition("\nwith DuckDbStorage")[0]])


def test_the_driver_is_short() -> None:
    assert len(driver_code().splitlines()) < 200


def test_a_package_with_an_entry_point_is_found(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    (project,) = (block.code for block in blocks(PAGE.read_text("utf-8")) if block.language == "toml")
    (source / "pyproject.toml").write_text(project, "utf-8")
    (source / "sessile_duckdb.py").write_text(driver_code(), "utf-8")
    pip = (
        ["uv", "pip", "install", "--python", sys.executable]
        if shutil.which("uv")
        else [sys.executable, *["-m", "pip", "install"]]
    )
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(installed), str(source)]
    run([*pip, *options], tmp_path)
    text = f"import sys; sys.path.insert(0, {str(installed)!r})\n{PROGRAM}"
    assert run([sys.executable, "-c", text], tmp_path).split() == ["sessile_duckdb", "DuckDbStorage", "Paris"]


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
