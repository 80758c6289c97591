"""Other Pythons than that of this environment: `python -m tests.torture.pythons [VERSION …]`, a part of `make torture`.

They come from Debian's unstable suite, as other servers do, and run beside the system. CPython 3.13 and 3.14 run the
tests of storages and agents and the conformance suite, with the libraries that are locked for development. PyPy, for
which most clients of databases have no wheels, runs the conformance suite on memory, SQLite and JSON files. Ends with
code 1 if anything fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.servers import ServerFailedError, ServerMissingError
from tests.servers.building import alone, kept
from tests.servers.debian import Package, unpacked

ROOT = Path(__file__).resolve().parents[2]
LOCKED = ROOT / "requirements/dev.txt"
VERSIONS = ("python3.13", "python3.14", "pypy3")
WITHOUT_WHEELS = ("wordllama",)
"""What has no wheels for all of these, and these tests do not need."""
TESTS = ("tests/storage", "tests/agents", "tests/workflows", "tests/test_conformance.py")

ON_PYPY = """\
import sys, tempfile
from itertools import count
from sessile import JsonStorage, MemoryStorage, SqliteStorage
from sessile.testing import check_driver

numbers, folder, urls = count(), tempfile.mkdtemp(), {}

def make(scheme, kind):
    path = f"{folder}/{next(numbers)}"
    storage = kind() if kind is MemoryStorage else kind(path)
    urls[storage] = f"{scheme}:///{path}"
    return storage

failed = 0
for scheme, kind in (("memory", MemoryStorage), ("sqlite", SqliteStorage), ("json", JsonStorage)):
    report = check_driver(lambda: make(scheme, kind), location=urls.__getitem__)
    print(report, flush=True)
    failed += not report.ok
sys.exit(bool(failed))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.pythons", description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS, help=f"of {', '.join(VERSIONS)}")
    parser.add_argument("--where", action="store_true", help="only say where they are")
    given = parser.parse_args()
    code = 0
    for version in given.versions:
        try:
            python = unpacked(Package(version, (), f"usr/bin/{version}", "no variable")) / "usr/bin" / version
            if given.where:
                print(python)
                continue
            done = run(version, python)
        except (ServerMissingError, ServerFailedError) as missing:
            print(f"{version}: left out. {missing}", file=sys.stderr, flush=True)
            code = code or int(given.where)
            continue
        print(f"{version}: {'passed' if done == 0 else f'FAILED with code {done}'}", flush=True)
        code = code or done
    return int(code != 0)


def run(version: str, python: Path) -> int:
    """Run what that Python can run; its exit code."""
    pypy = version.startswith("pypy")
    site = libraries(version, python, "hypothesis\nsortedcontainers\n" if pypy else locked())
    path = os.pathsep.join(map(str, (ROOT / "src", site, ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["-c", ON_PYPY] if pypy else ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "auto", *TESTS]
    with tempfile.TemporaryDirectory() as empty:
        return subprocess.run([python, *command], cwd=empty if pypy else ROOT, env=environment, check=False).returncode


def locked() -> str:
    """The requirements for development, without what would have to be compiled."""
    packages = re.split(r"^(?=\S)", LOCKED.read_text(), flags=re.MULTILINE)  # a package's hashes are indented
    return "".join(package for package in packages if package.split("==")[0] not in WITHOUT_WHEELS)


def libraries(version: str, python: Path, requirements: str) -> Path:
    """The folder of the libraries for a Python, made once for what is required."""
    content = hashlib.sha256(requirements.encode()).hexdigest()[:16]
    site = kept() / f"site-{version}-{content}"
    with alone(site.name):
        if not site.exists():
            unfinished = site.with_name(f"{site.name}.{os.getpid()}")
            command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as listed:
                listed.write(requirements)
                listed.flush()
                done = subprocess.run([*command, f"--target={unfinished}", "-r", listed.name], check=False)
            if done.returncode:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise ServerFailedError(f"The libraries for {version} could not be installed.")
            unfinished.replace(site)
    return site


if __name__ == "__main__":
    sys.exit(main())
