"""The command in a process of its own, beside packages that are there, or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sessile import __version__

pytestmark = pytest.mark.measured_children

EXTRA = ("typer", "rich")
"""The packages of the extra `cli`."""


def process(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def without(tmp_path: Path, *packages: str) -> str:
    """A folder that, first on the path, makes these packages look as if they were not installed."""
    folder = tmp_path / "absent"
    folder.mkdir()
    for package in packages:
        (folder / f"{package}.py").write_text(f"raise ModuleNotFoundError({package!r})\n")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))


def test_runs_as_a_module(tmp_path: Path) -> None:
    done = process(sys.executable, "-m", "sessile", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"sessile {__version__}\n")


def test_a_base_install_says_its_version_and_what_to_install(tmp_path: Path) -> None:
    here = {"cwd": tmp_path, "PYTHONPATH": without(tmp_path, *EXTRA)}
    version = process(sys.executable, "-m", "sessile", "--version", **here)
    assert (version.returncode, version.stdout) == (0, f"sessile {__version__}\n")
    for arguments in (["sessions", "memory://"], ["--help"], []):
        done = process(sys.executable, "-m", "sessile", *arguments, **here)
        assert (done.returncode, done.stdout) == (1, "")
        assert 'pip install "sessile[cli]"' in done.stderr
        assert len(done.stderr.splitlines()) <= 2


@pytest.mark.parametrize(("library", "scheme"), [("yaml12", "yaml"), ("psycopg", "postgresql"), ("obstore", "s3")])
def test_a_driver_without_its_library_is_not_ready(tmp_path: Path, library: str, scheme: str) -> None:
    pytest.importorskip("typer")
    (tmp_path / f"{library}.py").write_text("raise ImportError('not installed')\n")
    python_path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = process(sys.executable, "-m", "sessile", "drivers", cwd=tmp_path, PYTHONPATH=python_path)
    rows = {row[0]: row[2] for row in (line.split(maxsplit=2) for line in done.stdout.splitlines()[2:])}
    assert "pip install" in rows[f"{scheme}://"]
    assert rows["json://"] == "ready"


def test_lists_drivers_of_third_parties(tmp_path: Path) -> None:
    pytest.importorskip("typer")
    info = tmp_path / "packages" / "acme_sessile-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sessile\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sessile.drivers]\nacme = sessile.drivers.memory:MemoryStorage\nbroken = no_such_module:Storage\n"
    )
    python_path = os.pathsep.join(filter(None, [str(info.parent), os.environ.get("PYTHONPATH", "")]))
    done = process(sys.executable, "-m", "sessile", "drivers", cwd=tmp_path, PYTHONPATH=python_path)
    rows = {row[0]: row[1:] for row in (line.split(maxsplit=2) for line in done.stdout.splitlines()[2:])}
    assert rows["sqlite://"] == ["Sessile", "ready"]
    assert rows["acme://"] == ["acme-sessile", "ready"]
    assert "no_such_module" in rows["broken://"][1]
    listed = process(sys.executable, "-m", "sessile", "sessions", "acme://", cwd=tmp_path, PYTHONPATH=python_path)
    assert listed.returncode == 0
