"""Servers of newer versions than this machine's system has: packages of Debian's unstable suite, unpacked beside it.

apt downloads them with lists of its own, and all that they need, the C library included. So nothing of the system is
changed, and nothing of it is used: in the place of each program stands a script that runs it by its own dynamic loader.
They are kept in the user's cache folder, as what is built from source is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .building import alone, kept
from .process import ServerFailedError, ServerMissingError, find_program

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/icons", "usr/lib/debug")
PROGRAM_FOLDERS = ("usr/bin", "usr/sbin", "usr/lib/postgresql/*/bin")
WRAPPER = """\
#!/bin/sh
# Runs the program beside it by the loader and the libraries that it was made for.
root=$(dirname "$(readlink -f "$0")"){up}
exec "$root/{loader}" --argv0 "$0" --library-path "{libraries}" "$(dirname "$0")/{program}" "$@"
"""


NEWEST = "SESSILE_NEWEST" in os.environ
"""Whether tests that ask for no certain version run on these."""


class Package(NamedTuple):
    """What a server is made of."""

    name: str
    more: tuple[str, ...]
    """Packages that come along."""
    program: str
    """A path that is there when it is complete."""
    variable: str
    """The environment variable that names a server to use instead."""


MYSQL = Package("mysql-server-core", (), "usr/sbin/mysqld", "TEST_MYSQL_URL")
MARIADB = Package(
    "mariadb-server-core",
    ("mariadb-client-core",),
    "usr/sbin/mariadbd",
    "TEST_MARIADB_URL",
)
POSTGRES = Package("postgresql-18", (), "usr/lib/postgresql/18/bin/postgres", "TEST_POSTGRES_URL")
REDIS = Package("redis-server", (), "usr/bin/redis-server", "TEST_REDIS_URL")


def unpacked(package: Package) -> Path:
    """The root folder of a package's files, downloaded unless this was done before."""
    root = kept() / f"debian-{package.name}"
    if not root.exists():
        with alone(root.name):
            if not root.exists():
                _get(package, root)
    return root


def _get(package: Package, root: Path) -> None:
    missing = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if find_program([name]) is None]
    if missing or not KEYRING.exists():
        raise ServerMissingError(
            f"{package.name} of Debian's unstable suite is downloaded with {', '.join(missing) or KEYRING}, which this "
            f"machine lacks. Name a server in {package.variable}."
        )
    work = root.with_name(f"{root.name}.{os.getpid()}")
    try:
        _download(package, work)
        unfinished = work / "root"
        for archive in sorted((work / "archives").glob("*.deb")):
            _run(package, ["dpkg-deb", "-x", str(archive), str(unfinished)])
        for unused in UNUSED:
            shutil.rmtree(unfinished / unused, ignore_errors=True)
        if not (unfinished / package.program).exists():
            raise ServerFailedError(f"{package.name} has no {package.program} in Debian's unstable suite.")
        _wrap(unfinished)
        unfinished.replace(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(package: Package, work: Path) -> None:
    """Its archives and those of all that it needs: apt is told that nothing is installed."""
    (work / "archives/partial").mkdir(parents=True)
    (work / "lists/partial").mkdir(parents=True)
    (work / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror(package)} unstable main\n")
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work,
        "Dir::Cache::archives": work / "archives",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        # Hooks of the system clean its own cache, and ours with it.
        "APT::Keep-Downloaded-Packages": "true",
        "APT::Sandbox::User": "root",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run(package, ["apt-get", *options, "update"])
    what = ["--yes", "--download-only", "--no-install-recommends", "install", package.name, *package.more]
    _run(package, ["apt-get", *options, *what])


def mirror(package: Package) -> str:
    """Where this machine has its own packages of Debian from."""
    sites = _run(package, ["apt-get", "indextargets", "--format", "$(SITE)", "Identifier: Packages"]).split()
    found = next((site for site in sites if site.rstrip("/").endswith("/debian")), None)
    if found is None:
        raise ServerMissingError(f"This machine has no packages of Debian's. Name a server in {package.variable}.")
    return found


def _run(package: Package, command: list[str]) -> str:
    """Run a program to its end; returns what it says."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        text = f"{done.stdout[-1500:]}{done.stderr[-1500:]}"
        raise ServerFailedError(f"{package.name} could not be had from Debian's unstable suite:\n{text}")
    return done.stdout


def _wrap(root: Path) -> None:
    """Put a script in the place of each program; scripts and links stay as they are."""
    loader = next(root.glob("usr/lib*/ld-linux*.so.*"), None) or next(root.glob("usr/lib/*/ld-linux*.so.*"))
    libraries = [path.relative_to(root) for path in root.glob("usr/lib/*-linux-gnu*") if path.is_dir()]
    for program in _programs(root):
        real = program.with_name(f".{program.name}.real")
        program.rename(real)
        up = "/.." * len(program.parent.relative_to(root).parts)
        text = WRAPPER.format(
            up=up,
            loader=loader.relative_to(root),
            libraries=":".join(f"$root/{folder}" for folder in libraries),
            program=real.name,
        )
        program.write_text(text)
        program.chmod(0o755)


def _programs(root: Path) -> Iterator[Path]:
    for pattern in PROGRAM_FOLDERS:
        for folder in root.glob(pattern):
            for path in sorted(folder.iterdir()):
                if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF":
                    yield path
