"""What must hold for the package as a whole: one version, light imports, short files, nothing local in it."""

from __future__ import annotations

import builtins
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import sessile
from sessile._version import __version__

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 600


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---------------------------------------------------------------- version


def test_one_version() -> None:
    assert sessile.__version__ == __version__
    assert importlib.metadata.version("sessile") == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_command_says_the_version() -> None:
    assert __version__ in run(Path(sys.executable).with_name("sessile"), "--version").split()


# ---------------------------------------------------------------- imports

NEW_MODULES = """
import sys
before = set(sys.modules)
import {module}
print(*sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}))
"""


LIGHT = ["sessile", "sessile.storage", "sessile.drivers.memory", "sessile.drivers.sqlite", "sessile.drivers.files"]


@pytest.mark.parametrize("module", LIGHT)
def test_storage_imports_only_the_standard_library(module: str, tmp_path: Path) -> None:
    """Neither Pydantic AI, which takes more than a second, nor a database client that may be missing."""
    loaded = set(run(sys.executable, "-c", NEW_MODULES.format(module=module), cwd=tmp_path).split())
    foreign = loaded - set(sys.stdlib_module_names) - {"sessile", "coverage"}
    assert "sessile" in loaded
    assert not foreign


@pytest.mark.parametrize("module", ["sessile", "sessile.storage"])
def test_a_package_whose_names_are_not_used_loads_nearly_nothing(module: str, tmp_path: Path) -> None:
    """Each of `typing` and `dataclasses` takes longer to import than Python takes to start."""
    code = f"import sys; before = set(sys.modules); import {module}; print(*sorted(set(sys.modules) - before))"
    loaded = set(run(sys.executable, "-c", code, cwd=tmp_path).split())
    assert loaded <= {"__future__", "sessile", "sessile._version", "sessile.later", "sessile.storage"}


@pytest.mark.parametrize("package", ["sessile", "sessile.storage", "sessile.transfer", "sessile.testing"])
def test_names_that_are_imported_when_used_are_listed_and_found(package: str, tmp_path: Path) -> None:
    code = (
        f"import {package} as package\n"
        "listed = dir(package)\n"  # before anything is used
        "assert set(package.__all__) <= set(listed), set(package.__all__) - set(listed)\n"
        "assert all(getattr(package, name) is not None for name in listed)\n"
        "try: package.none_of_ours\n"
        "except AttributeError as error: print(error)\n"
    )
    assert (
        run(sys.executable, "-c", code, cwd=tmp_path).strip() == f"module '{package}' has no attribute 'none_of_ours'"
    )


LATER = [
    "asyncio",
    "uuid",
    "base64",
    "tempfile",
    "zipfile",
    "mimetypes",
    "urllib.parse",
    "sessile.tokens",
    "sessile.storage.memories",
]
"""What takes a while to import, and is not needed to load a session and to add a run to it."""


def test_what_most_processes_never_use_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys, sessile.storage\n"
        "early = set(sys.modules)\n"
        "storage = sessile.SqliteStorage('s.db')\n"
        "storage.add_run('s', input='a', output='b')\n"
        "assert storage.get_session('s', last_runs=3).runs[0].output == 'b'\n"
        "used = set(sys.modules) - {'urllib.parse'}\n"  # which `pathlib` needs
        f"print(*(early | used).intersection({LATER!r}))\n"
        "storage.memories('ada').add('Likes tea.')\n"
        "assert storage.memories('ada').search('tea')[0].memory == 'Likes tea.'\n"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path).split() == []


def test_no_two_files_import_each_other() -> None:
    """Neither directly nor around a corner, a package's own file and imports for annotations included."""
    graph = grimp.build_graph("sessile", exclude_type_checking_imports=False, cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert imported["sessile.agents.agent"] > {"sessile.agents.handle", "sessile.live.result"}
    TopologicalSorter(imported).prepare()  # raises CycleError, which names the circle


# ---------------------------------------------------------------- files


def committed() -> Iterator[tuple[str, str]]:
    """Name and text of every text file of the repository, also of those that are about to be added."""
    try:
        names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    except (AssertionError, OSError):
        pytest.skip("not in a git checkout")
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if b"\0" not in content:
                yield name, content.decode("utf-8", "replace")


def test_the_public_names_hide_none_of_python() -> None:
    assert not set(sessile.__all__) & set(dir(builtins))
    assert "open" in dir(sessile)
    assert sessile.open("memory://").sessions().items == []
    assert {*sessile.__all__, "PostgresStorage"} < set(dir(sessile))
    assert all(getattr(sessile, name) is not None for name in dir(sessile))


WITHOUT_EXTRAS = """
import sys
for extra in ("aiomysql", "obstore", "psycopg", "pymongo", "pymysql", "redis", "sqlalchemy", "botocore", "yaml12"):
    sys.modules[extra] = None
from sessile import *
print(Agent, SqliteStorage, JsonStorage)
try:
    from sessile import PostgresStorage
except ImportError as error:
    print(error)
"""


def test_all_names_can_be_imported_without_any_extra() -> None:
    assert 'pip install "sessile[postgres]"' in run(sys.executable, "-c", WITHOUT_EXTRAS)


def test_source_files_are_short() -> None:
    built = {"__pycache__", "static"}
    files = [path for path in (ROOT / "src").rglob("*") if path.is_file() and not built & set(path.parts)]
    lines = {path.relative_to(ROOT).as_posix(): path.read_bytes().count(b"\n") for path in files}
    assert lines
    assert not {name: count for name, count in lines.items() if count > MAX_LINES}


# In pieces, so that this file is not found itself. What is committed must work with any mirror.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("crates", "io"),
        ("proxy", "golang", "org"),
        ("maven", "apache", "org"),
        ("deb", "debian", "org"),
    )
]
LOCAL_PATH = re.compile(r"(?<![\w.~/-])/(?:work|root|opt/wheels)/")


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found: list[str] = []
    for name, text in committed():
        found += [f"{name}: {host}" for host in REGISTRIES if host in text]
        found += [f"{name}: {match[0]}" for match in LOCAL_PATH.finditer(text)]
    assert not found
