"""Clients of others from npm: installed as their lock file says, once, into the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from .building import alone, kept
from .process import ServerFailedError, ServerMissingError, find_program

GET = "Node is not on this machine. Debian, Ubuntu: apt-get install nodejs npm; or from nodejs.org, 20 or later."


def node() -> Path:
    """The program."""
    found = find_program(["node"])
    if found is None:
        raise ServerMissingError(GET)
    return found


def installed(folder: Path) -> Path:
    """A folder with the scripts of another one, and the packages that its lock file names."""
    npm = find_program(["npm"])
    if npm is None:
        raise ServerMissingError(GET)
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".mjs"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
    made = kept() / f"node-{folder.name}-{digest}"
    if not made.exists():
        with alone(made.name):
            if not made.exists():
                _install(str(npm), files, made)
    return made


def _install(npm: str, files: list[Path], made: Path) -> None:
    work = made.with_name(f"{made.name}.{os.getpid()}")
    work.mkdir()
    try:
        for path in files:
            shutil.copy(path, work)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailedError(f"npm could not install them: {done.stderr[-2000:]}")
        work.rename(made)
    finally:
        shutil.rmtree(work, ignore_errors=True)
