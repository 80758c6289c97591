"""The driver of docs/writing-a-driver.md, as a package that a third party would make of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.campaigns import SampledConformance
from tests.test_docs import ROOT, blocks

from sessile.storage import Storage

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


@cache
def storage_class() -> Callable[[str], Storage]:
    page = ModuleType("page")
    exec(compile(driver_code(), str(PAGE), "exec"), page.__dict__)
    made: Callable[[str], Storage] = page.DuckDbStorage
    return made


@pytest.mark.no_cover
class TestDuckDb(SampledConformance):
    """What the page says of its driver: it passes the suite. A sample, because DuckDB takes long to open a file."""

    one_of_sync, one_of_async = 3, 6
    test_kill: Any = None  # the page's driver is in no package, from which another process could import it

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder, self.numbers = tmp_path, count()

    def make_storage(self) -> Storage:
        return storage_class()(str(self.folder / f"check-{next(self.numbers)}.duckdb"))


FORKED = """
import os
from sessile.errors import StorageError

storage = DuckDbStorage("sessions.duckdb")
storage.add_run("s1", input=1)
child = os.fork()
if child == 0:
    try:
        storage.add_run("s1", input=2)
    except StorageError as error:
        os._exit(0 if error.written == "no" and "forked" in str(error) else 2)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
storage.add_run("s1", input=3)
assert storage.verify("s1") == 2
"""


def test_a_forked_child_does_not_write_to_the_file_of_its_parent(tmp_path: Path) -> None:
    if hasattr(os, "fork"):
        run([sys.executable, "-c", f"{driver_code()}\n{FORKED}"], tmp_path)


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
