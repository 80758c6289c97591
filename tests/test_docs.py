"""The documentation is right: its code runs, its commands exist, its links lead somewhere.

All ```python blocks of a page run in order, as one program, in an empty directory. Every model name stands
for a model that answers without a network. A block after `<!-- no-run: reason -->` is only compiled. A block ```output
after one of Python is what that prints, and a block that prints has one; `…` stands for anything. What a reader writes
into files, and types, `transcripts` does.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import io
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this file is a program, too

from tests.transcripts import follow, matches, shown  # noqa: E402

from sessile import errors  # noqa: E402
from sessile.errors import SessileError  # noqa: E402
from sessile.storage.encoding import MAX_DEPTH  # noqa: E402
from sessile.storage.settings import Settings  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXTRA = [page for page in sorted(ROOT.glob("*.md")) if page not in PAGES]

SERVERS = {
    "postgres": "postgres_url",
    "mysql": "mysql_url",
    "mongodb": "mongodb_url",
    "redis": "redis_database_url",
    "dynamodb": "dynamodb_url",
    "objects": "s3_url",
}
"""The fixtures that give DATABASE_URL to the pages of databases."""

FENCE = re.compile(r"^(?P<indent> *)(?P<marks>```+|~~~+) *(?P<language>[\w-]*) *(?P<title>.*)$")
NO_RUN = re.compile(r"<!-- *no-run: *\S.*-->")
SHELL = {"sh", "bash", "console", "shell"}
LINK = re.compile(r"!?\[[^\]]*\]\(<?(?P<target>[^)\s>]+)>?(?: +\"[^\"]*\")?\)")
SHOWN = re.compile(r'(?:src|srcset)="(?P<target>[^"]+)"')
# A command stands at the start of a line or of a part of it; `pip install sessile rich` has none.
COMMAND = re.compile(
    r"(?:^|[;&|(]|\$ )\s*(?:[A-Z_]+=\S+ +)*(?:uvx |uv run |\S*/)?"
    r"(?P<name>make|sessile) +(?P<word>[a-z][\w-]*)"
)


class Block(NamedTuple):
    language: str
    line: int  # of its first line of code, counted from 1
    code: str
    run: bool
    title: str = ""


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a page, indented ones (in lists) too."""
    lines = text.splitlines()
    position = 0
    while position < len(lines):
        fence = FENCE.match(lines[position])
        position += 1
        if not fence:
            continue
        start = position
        while position < len(lines) and lines[position].strip() != fence["marks"]:
            position += 1
        before = next((line for line in reversed(lines[: start - 1]) if line.strip()), "")
        indent = len(fence["indent"])
        code = "\n".join(line[indent:] if not line[:indent].strip() else line for line in lines[start:position])
        yield Block(fence["language"], start + 1, code, not NO_RUN.search(before), fence["title"].strip())
        position += 1


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    kept: list[str] = []
    closing = ""
    for line in text.splitlines():
        fence = FENCE.match(line)
        if not closing and fence:
            closing = fence["marks"]
        elif closing:
            closing = "" if line.strip() == closing else closing
        else:
            kept.append(line)
    return "\n".join(kept)


def commands(text: str) -> set[tuple[str, str]]:
    """Every `make X` and `sessile X` in shell blocks and in code within the text."""
    code = [line for block in blocks(text) if block.language in SHELL for line in block.code.splitlines()]
    code += re.findall(r"`([^`\n]+)`", prose(text))
    return {(match["name"], match["word"]) for line in code for match in COMMAND.finditer(line)}


def slugs(text: str) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ +(.+?) *#*$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------- code


def has_code(page: Path) -> bool:
    """Whether anything of a page runs by itself; files with a title are written, and run by commands."""
    return any(block.language == "python" and not block.title for block in blocks(page.read_text("utf-8")))


TOGETHER = (
    "install",
    "users",
    "changing-workflows",
    "from-agno",
    "from-openai-agents",
    "from-langgraph",
    "from-google-adk",
)
"""Pages with little code share one process, each in a folder of its own."""

RUN = [page for page in PAGES if has_code(page)]


@pytest.mark.parametrize("page", [page for page in RUN if page.stem not in TOGETHER], ids=name)
def test_code_runs(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = SERVERS.get(page.stem)
    database = {} if server is None else {"DATABASE_URL": request.getfixturevalue(server)}
    run_pages([page], tmp_path, database)


def test_code_of_small_pages_runs(tmp_path: Path) -> None:
    run_pages([page for page in RUN if page.stem in TOGETHER], tmp_path, {})


def run_pages(pages: list[Path], folder: Path, environment: dict[str, str]) -> None:
    """Run pages in a process of their own, as for a reader who tries them; `run_page` is what it runs."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, pages)],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    names = ", ".join(map(name, pages))
    assert done.returncode == 0, f"{names}: not all of it runs:\n{done.stdout}\n{done.stderr}"


def run_page(page: Path) -> None:
    """Run a page's blocks in one namespace; tracebacks show lines of the page."""
    answer_without_network()
    module = types.ModuleType("page")
    module.__file__ = str(page)
    sys.modules["page"] = module  # so that type hints of the page's own classes can be resolved
    printed, unshown = "", []
    found = list(blocks(page.read_text("utf-8")))
    with asyncio.Runner() as runner:
        for block, after in zip_longest(found, found[1:]):
            if block.language == "output":
                assert matches(printed, block.code), f"Line {block.line} does not say what is printed:\n{printed}"
            if block.language != "python" or block.title:
                continue
            source = "\n" * (block.line - 1) + block.code
            # As in a notebook, a block may await at its top level; a page's blocks share one event loop.
            code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if not block.run:
                continue
            with contextlib.redirect_stdout(io.StringIO()) as out:
                result = eval(code, module.__dict__)  # runs the block; gives a coroutine if it awaits
                if asyncio.iscoroutine(result):
                    runner.run(result)
            printed = out.getvalue()
            print(printed, end="")
            if printed.strip() and (after is None or after.language != "output"):
                unshown.append(block.line)
    assert not unshown, f"What the blocks of these lines print is not shown below them: {unshown}"


@pytest.mark.parametrize("page", RUN, ids=name)
def test_what_is_computed_is_shown(page: Path) -> None:
    """A value that stands alone in a line shows nothing to who copies the line: print it, and show the output."""
    silent: list[str] = []
    for block in blocks(page.read_text("utf-8")):
        if block.language == "python" and not block.title:
            for line in ast.parse(block.code).body:
                if isinstance(line, ast.Expr) and not isinstance(line.value, ast.Call | ast.Await | ast.Constant):
                    silent.append(f"{block.line + line.lineno - 1}: {ast.unparse(line)}")
    assert not silent


def answer_without_network() -> None:
    """Let names such as "openai:gpt-5-mini" stand for a model that needs no provider and no key."""
    from pydantic_ai import models
    from pydantic_ai.models.test import TestModel

    infer = models.infer_model
    models.ALLOW_MODEL_REQUESTS = False
    models.infer_model = lambda model, *args, **kwargs: (
        TestModel() if isinstance(model, str) else infer(model, *args, **kwargs)
    )


TRANSCRIPTS = [
    page
    for page in PAGES
    if any(block.title.endswith(".py") for block in shown(page))
    and any(block.language == "console" for block in shown(page))
]
"""Other programs of pages are started by `tests/test_deployments.py`."""


@pytest.mark.parametrize("page", TRANSCRIPTS, ids=name)
def test_what_a_reader_types_and_sees(page: Path, tmp_path: Path) -> None:
    assert follow(page, tmp_path)


# ---------------------------------------------------------------- commands and links


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@cache
def sessile_commands() -> set[str]:
    from typer.main import get_command

    from sessile.cli.commands import app

    return set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", [*PAGES, *EXTRA], ids=name)
def test_commands_exist(page: Path) -> None:
    found = commands(page.read_text("utf-8"))
    missing = {("make", word) for tool, word in found if tool == "make" and word not in make_targets()}
    missing |= {("sessile", word) for tool, word in found if tool == "sessile" and word not in sessile_commands()}
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, *EXTRA], ids=name)
def test_links_resolve(page: Path) -> None:
    broken: list[str] = []
    text = prose(page.read_text("utf-8"))
    for match in [*LINK.finditer(text), *SHOWN.finditer(text)]:
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        resolves = file.exists()
        if resolves and anchor and file.suffix == ".md":  # other anchors are modes: #only-dark
            resolves = anchor in slugs(file.read_text("utf-8"))
        if not resolves:
            broken.append(target)
    assert not broken


# ---------------------------------------------------------------- what pages must have


def test_every_error_has_its_heading() -> None:
    """So that who pastes the name of an error into a search finds what to do."""
    known = {
        found for found, value in vars(errors).items() if isinstance(value, type) and issubclass(value, SessileError)
    }
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    assert known == set(headings) & known, known - set(headings)
    assert len(headings) == len(set(headings))


def messages_of_the_code() -> set[str]:
    """Every text in the package that could be a message, with `…` for what is filled in."""
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(one.value if isinstance(one, ast.Constant) else "…" for one in node.values).strip())
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value.strip())
    return {text for text in found if " " in text and len(text.replace("…", "")) > 8}


def says(message: str, quoted: str) -> bool:
    """Whether a message of the code is, or begins, what a page quotes."""
    parts = message.split("…")
    if max(parts, key=len) not in quoted:
        return False
    return re.search(".+?".join(map(re.escape, parts)), quoted) is not None


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    quoted = re.findall(r"^> (.+)$", (ROOT / "docs/troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    messages = messages_of_the_code()
    assert [one for one in quoted if not any(says(message, one) for message in messages)] == []
    assert len(quoted) >= 30


def test_the_defaults_are_those_of_the_code() -> None:
    text = (ROOT / "docs/limits.md").read_text("utf-8")
    settings = Settings()
    for said in (
        f"| `timeout` of any one operation | {settings.timeout:.0f} s |",
        f"| a commit | {settings.max_commit_bytes >> 20} MiB |",
        f"| the state of a session | {settings.max_state_bytes >> 10} KiB |",
        f"| metadata of a session | {settings.max_metadata_bytes >> 10} KiB |",
        f"| a file, picture or other binary part | {settings.max_media_bytes >> 20} MiB |",
        f"| binary parts that stay inside their message | {settings.inline_media_bytes >> 10} KiB |",
        f"| what one call reads of a session | {settings.max_read_bytes >> 20} MiB |",
        f"| nesting of JSON | | {MAX_DEPTH} levels |",
    ):
        assert said in text, said


MADE_OF_CODE = ("access.md", "format.md", "licences.md")
"""Pages that are made of the code's own words."""

GUIDES = [page for page in PAGES if page.name not in ("README.md", *MADE_OF_CODE)]


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_a_guide_says_where_to_go_next(page: Path) -> None:
    last = page.read_text("utf-8").rstrip().rpartition("\n\n")[2]
    assert last.startswith("Next: ")
    assert LINK.search(last)


DATABASES = ("sqlite", "postgres", "mysql", "sqlalchemy", "redis", "dynamodb", "mongodb", "objects", "files")

FORM = (
    "Take it if", "Leave it if", "Start one", "Install", "Options", "Durability", "Connections", "Permissions",
    "Tables and migrations", "Backup", "Look inside", "Tested",
)  # fmt: skip
"""What the page of each database says first, in this order."""


@pytest.mark.parametrize("database", DATABASES)
def test_pages_of_databases_have_one_form(database: str) -> None:
    first = (ROOT / f"docs/{database}.md").read_text("utf-8").split("\n\n")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in first.splitlines()[2:]]
    assert tuple(row[0] for row in rows) == FORM
    assert all(len(row) == 2 and row[1] for row in rows)


BUILDERS = re.compile(r"\bwanted\b|could not be had|\bload (?:of )?\d|busy machine|kept .{0,20}busy", re.IGNORECASE)
"""How builders speak of measurements: users read figures, and the pages about tests and measurements have the rest."""

ENGINEERING = ("benchmarks.md", "torture.md", "CONTRIBUTING.md", "ARCHITECTURE.md")


@pytest.mark.parametrize("page", [page for page in [*PAGES, *EXTRA] if page.name not in ENGINEERING], ids=name)
def test_pages_for_users_have_no_notes_of_builders(page: Path) -> None:
    assert BUILDERS.findall(prose(page.read_text("utf-8"))) == []


def test_the_first_screen_fits() -> None:
    """What Sessile is, how to get it, and a program in two processes with what it prints."""
    first = (ROOT / "README.md").read_text("utf-8").splitlines()[:40]
    assert any(line.startswith("pip install") for line in first)
    assert sum(line.startswith("```console") for line in first) >= 1
    assert any("<picture>" in line for line in first)


# ---------------------------------------------------------------- the helpers above


PAGE = """\
# One *page*: it

```python
x = 1
```

<!-- no-run: needs a server -->

```python
await x
```

- In a list, `make` and `make nothing`, [there](#one-page-it):

  ```sh
  pip install sessile rich && sessile demo
  ```
"""


def test_reading_a_page() -> None:
    assert list(blocks(PAGE)) == [
        Block("python", 4, "x = 1", True),
        Block("python", 10, "await x", False),
        Block("sh", 16, "pip install sessile rich && sessile demo", True),
    ]
    assert commands(PAGE) == {("make", "nothing"), ("sessile", "demo")}
    assert slugs(PAGE) == {"one-page-it"}
    assert [match["target"] for match in LINK.finditer(prose(PAGE))] == ["#one-page-it"]


if __name__ == "__main__":
    for number, path in enumerate(sys.argv[1:]):
        Path(str(number)).mkdir()
        with contextlib.chdir(str(number)):
            run_page(Path(path))
