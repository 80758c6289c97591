"""Every command stands in docs/cli.md, and what the page shows of it is what it prints."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("typer")
pytest.importorskip("pydantic_ai")

from . import cli_page
from .test_terminal_commands import commands


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "SESSILE_STORAGE": ""})


def test_every_command_has_an_example() -> None:
    examples = cli_page.examples(cli_page.PAGE.read_text("utf-8"))
    shown = {command.split()[1] for command, _ in examples if command.startswith("sessile ")}
    assert shown - {"--version"} == commands().keys() - {"demo", "serve", "dashboard"}


def test_the_examples_print_what_the_page_says() -> None:
    page = cli_page.PAGE.read_text("utf-8")
    anew = cli_page.made_anew(page)
    for (command, now), (_, shown) in zip(cli_page.examples(anew), cli_page.examples(page), strict=True):
        if command == "sessile drivers":  # which libraries are there is another question
            now, shown = (" ".join(line.split()[0] for line in text.splitlines()) for text in (now, shown))
        assert now == shown, f"{command}: write it with: python -m tests.cli_page"


def test_what_differs_is_left_out() -> None:
    assert cli_page.steady("2026-01-02 03:04:05 x  \n09:08:07 y") == "2026-11-28 09:00:00 x\n09:00:00 y\n"
