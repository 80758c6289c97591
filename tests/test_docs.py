"""The documentation is right: its code runs, its commands exist, its links lead somewhere.

All ```python blocks of a page run in order, as one program, in an empty directory. Every model name stands
for a model that answers without a network. A block after `<!-- no-run: reason -->` is only compiled.
"""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
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

FENCE = re.compile(r"^(?P<indent> *)(?P<marks>```+|~~~+) *(?P<language>[\w-]*)")
NO_RUN = re.compile(r"<!-- *no-run: *\S.*-->")
SHELL = {"sh", "bash", "console", "shell"}
LINK = re.compile(r"!?\[[^\]]*\]\(<?(?P<target>[^)\s>]+)>?(?: +\"[^\"]*\")?\)")
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
        yield Block(fence["language"], start + 1, code, not NO_RUN.search(before))
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


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_runs(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not any(block.language == "python" for block in blocks(page.read_text("utf-8"))):
        pytest.skip("no code")
    server = SERVERS.get(page.stem)
    database = {} if server is None else {"DATABASE_URL": request.getfixturevalue(server)}
    # A process of its own, as for a reader who tries it; run_page() is what it runs.
    done = subprocess.run(
        [sys.executable, __file__, str(page)],
        cwd=tmp_path,
        env={**os.environ, **database},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, f"{name(page)} does not run:\n{done.stdout}\n{done.stderr}"


def run_page(page: Path) -> None:
    """Run a page's blocks in one namespace; tracebacks show lines of the page."""
    answer_without_network()
    module = types.ModuleType("page")
    module.__file__ = str(page)
    sys.modules["page"] = module  # so that type hints of the page's own classes can be resolved
    with asyncio.Runner() as runner:
        for block in blocks(page.read_text("utf-8")):
            if block.language != "python":
                continue
            source = "\n" * (block.line - 1) + block.code
            # As in a notebook, a block may await at its top level; a page's blocks share one event loop.
            code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            if not block.run:
                continue
            result = eval(code, module.__dict__)  # runs the block; gives a coroutine if it awaits
            if asyncio.iscoroutine(result):
                runner.run(result)


def answer_without_network() -> None:
    """Let names such as "openai:gpt-5-mini" stand for a model that needs no provider and no key."""
    from pydantic_ai import models
    from pydantic_ai.models.test import TestModel

    infer = models.infer_model
    models.ALLOW_MODEL_REQUESTS = False
    models.infer_model = lambda model, *args, **kwargs: (
        TestModel() if isinstance(model, str) else infer(model, *args, **kwargs)
    )


# ---------------------------------------------------------------- commands and links


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@cache
def sessile_has(command: str) -> bool:
    program = Path(sys.executable).with_name("sessile")
    call = [program, command, "--help"]
    done = subprocess.run(call, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return done.returncode == 0


@pytest.mark.parametrize("page", [*PAGES, *EXTRA], ids=name)
def test_commands_exist(page: Path) -> None:
    found = commands(page.read_text("utf-8"))
    missing = {("make", word) for tool, word in found if tool == "make" and word not in make_targets()}
    missing |= {("sessile", word) for tool, word in found if tool == "sessile" and not sessile_has(word)}
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, *EXTRA], ids=name)
def test_links_resolve(page: Path) -> None:
    broken: list[str] = []
    for match in LINK.finditer(prose(page.read_text("utf-8"))):
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        resolves = file.exists()
        if resolves and anchor and file.suffix == ".md":
            resolves = anchor in slugs(file.read_text("utf-8"))
        if not resolves:
            broken.append(target)
    assert not broken


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
    run_page(Path(sys.argv[1]))
