"""Other frameworks' environments, and programs that are run in them.

What a program prints as its last line is its answer, JSON. The programs and the plugins for the frameworks' own tests
are in `suites/`; no test of ours imports them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench.peers.environments import environment, source
from tests.frameworks.serving import Program, Server
from tests.servers.building import alone, kept

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SUITES = HERE / "suites"
TIMEOUT = 900


def lock_of(framework: str) -> Path:
    """What is installed for a framework."""
    return HERE / "requirements" / f"{framework}.txt"


def python_of(framework: str) -> Path:
    """The Python of a framework's environment. Where it cannot be made, the test fails in CI, and is skipped else.

    Pydantic AI is here already.
    """
    if framework == "pydantic_ai":
        return Path(sys.executable)
    with alone(f"framework-{framework}"):
        return _made(framework, lambda: environment(lock_of(framework), kept()))


def source_of(framework: str, package: str) -> Path:
    """The unpacked source distribution of a package, with its tests."""
    with alone(f"framework-{framework}"):
        return _made(framework, lambda: source(package, lock_of(framework), kept()))


def _made(framework: str, make: Any) -> Path:
    try:
        return make()
    except (RuntimeError, OSError) as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"{framework} is not to be had: uv pip install -r {lock_of(framework)} fails: {error}")


def settings(url: str, *paths: Path) -> dict[str, str]:
    """The environment variables of a program: the storage, and where it finds Sessile."""
    found = os.pathsep.join(map(str, (ROOT / "src", SUITES, *paths)))
    kept_ones = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept_ones, "PYTHONPATH": found, "SESSILE_URL": url}


_server: tuple[tuple[str, bool], Server] | None = None
"""The one that was asked last, and for what: one at a time, because each has a framework in memory."""


def _server_of(framework: str) -> Server:
    global _server
    wanted = framework, "COVERAGE_PROCESS_CONFIG" in os.environ
    if _server is None or _server[0] != wanted:
        close_server()
        _server = wanted, Server(python_of(framework), SUITES, f"{framework}_work", settings("memory://"))
    return _server[1]


def close_server() -> None:
    """End the process that programs are forked from, if there is one."""
    global _server
    if _server is not None:
        _server[1].close()
        _server = None


def started(framework: str, name: str, url: str, *arguments: object, folder: Path | None = None) -> Program:
    """Start a program of `suites/`."""
    told = [str(SUITES / name), *map(str, arguments)]
    return Program(_server_of(framework), told, settings(url), folder)


def program(framework: str, name: str, url: str, *arguments: object) -> Any:
    """Run a program of `suites/` to its end; returns its answer."""
    code, output, errors = started(framework, name, url, *arguments).ended()
    assert code == 0, f"{output[-4000:]}\n{errors[-4000:]}"
    lines = output.strip().splitlines()
    return json.loads(lines[-1]) if lines else None


def own_tests(
    framework: str,
    folder: Path,
    url: str,
    plugin: str,
    files: Sequence[str],
    *,
    deselect: Sequence[str] = (),
    options: Sequence[str] = (),
) -> int:
    """Run tests that a framework ships over our storage; how many have passed. None may fail.

    `deselect` has what `-k` takes: names of tests that are left out.
    """
    chosen = ["-k", " and ".join(f"not {name}" for name in deselect)] if deselect else []
    quiet = ["-q", "-p", plugin, "-p", "no:cacheprovider", "--tb=short"]
    done = subprocess.run(
        [str(python_of(framework)), "-m", "pytest", *quiet, *options, *files, *chosen],
        cwd=folder,
        env=settings(url, folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed, done.stdout[-2000:]
    return int(passed[1])


def page_runs(framework: str, page: str, folder: Path) -> str:
    """Run the Python of a page in `docs/` as one program, in an empty folder; returns what it has printed."""
    url = f"sqlite:///{folder}/unused.db"
    code, output, errors = started(framework, "page.py", url, ROOT / "docs" / page, folder=folder).ended()
    assert code == 0, f"{page} does not run:\n{output}\n{errors}"
    return output
