"""The examples of docs/cli.md: `python -m tests.cli_page` runs them and writes what they print into the page.

The page's Python makes a database; then each `$ sessile …` of its console blocks is run, in the order of the page.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

from sessile.cli import main

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "cli.md"

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?"), "2026-11-28 09:00:00"),
    (re.compile(r"^\d\d:\d\d:\d\d ", re.MULTILINE), "09:00:00 "),
    (re.compile(r"20\d\d-\d\d-\d\d(?! 09:00:00)"), "2026-11-28"),
    (
        re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"),
        "01a223ee-4229-7ec4-9716-c300cd751c6b",
    ),
    (re.compile(r"\b[0-9a-f]{8}(?=  ada )"), "4f1c09aa"),
    (re.compile(r"\b[0-9a-f]{16}(?=  support )"), "6f1c09aa52d07be3"),
    (re.compile(r"offline_[0-9a-f]{16}"), "offline_f0bbcbbd55f4846e"),
    (re.compile(r"(?<=, )\d\.\d s\b"), "0.0 s"),
)
"""What differs from one time to the next, and what stands for it on the page."""


SECONDS = re.compile(r"(?<=  )\d{1,3}\.\d{1,3} *(?= |$)", re.MULTILINE)
"""How long something took, in a table, with the blanks up to the next column."""


def steady(text: str) -> str:
    """Text without what differs from one time to the next."""
    for pattern, instead in CHANGING:
        text = pattern.sub(instead, text)
    text = SECONDS.sub(lambda match: "0.0".ljust(len(match[0])), text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def examples(page: str) -> Iterator[tuple[str, str]]:
    """The commands of the page, and what it says that each prints."""
    for block in BLOCK.findall(page):
        for one in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = one.partition("\n")
            yield command, printed


def made_anew(page: str) -> str:
    """The page with what its commands print now."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        (program,) = PYTHON.findall(page)
        Path("shop.py").write_text(program, "utf-8")
        subprocess.run([sys.executable, "shop.py"], check=True)

        def anew(match: re.Match[str]) -> str:
            shown = "".join(f"$ {command}\n{printed_by(command)}" for command, _ in examples(match[0]))
            return f"```console\n{shown}```"

        return BLOCK.sub(anew, page)


def printed_by(command: str) -> str:
    """What a command prints, errors too, and a pipe's second half left out of it."""
    words = shlex.split(command)
    variables = [word.partition("=") for word in words if "=" in word and word.split("=")[0].isupper()]
    os.environ.update({name: value for name, _, value in variables})
    words = [word for word in words if (word.partition("=")) not in variables]
    if words[:1] != ["sessile"]:
        return ""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            code = main(words[1:])
        except SystemExit as end:
            code = int(end.code or 0)
    return steady(out.getvalue()) + (f"(exit code {code})\n" if code else "")


if __name__ == "__main__":
    PAGE.write_text(made_anew(PAGE.read_text("utf-8")), "utf-8")
