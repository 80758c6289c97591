"""Environments of other libraries, which conflict with each other and with what development needs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

LOCKED = ("--no-deps", "--require-hashes", "-r")
"""All that is installed is named with its version and hash; `make lock` renews that from the `.in` beside."""


def environment(requirements: Path, root: Path) -> Path:
    """The Python of an environment with what a lock names, made if need be (`uv`, else `venv` and `pip`) and kept.

    Raises `RuntimeError` with what the installer has said.
    """
    folder = folder_of(requirements, root)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (folder / "complete").exists():
        return python
    print(f"Making the environment of {requirements.stem} …", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
        _run([uv, "pip", "install", "--quiet", "--python", str(python), *LOCKED, str(requirements)])
    else:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", *LOCKED, str(requirements)])
    (folder / "complete").touch()
    return python


def folder_of(requirements: Path, root: Path) -> Path:
    """Where the environment of a lock is, by what the lock says."""
    key = hashlib.sha256(f"{sys.version}\n{requirements.read_text()}".encode()).hexdigest()[:12]
    return root / f"{requirements.stem}-{key}"


def source(package: str, requirements: Path, root: Path) -> Path:
    """The unpacked source distribution of a package that the lock names, with its tests; downloaded once, and kept.

    The lock also names what such a package is unpacked with: pip, and the package's build backend.
    """
    python = environment(requirements, root)
    folder = folder_of(requirements, root) / "sources" / package
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        entries = re.split(r"\n(?=\S)", requirements.read_text("utf-8"))
        locked = next(entry for entry in entries if entry.startswith(f"{package}=="))
        with tempfile.TemporaryDirectory() as place:
            wanted = Path(place, "wanted.txt")
            wanted.write_text(f"{locked}\n", "utf-8")
            as_source = ("--no-binary", ":all:", "--no-build-isolation", "-d", place)
            _run([str(python), "-m", "pip", "download", "--quiet", *as_source, *LOCKED, str(wanted)])
            (archive,) = Path(place).glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(folder, filter="data")
        (folder / "complete").touch()
    return next(path for path in folder.iterdir() if path.is_dir())


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} … failed:\n{done.stderr[-2000:]}")
