"""What the commands print: tables and headings, with rich on a terminal if it is installed, as plain text else.

Long output on a terminal comes a page at a time; how far long work has come is told on the standard error.
"""

from __future__ import annotations

import io
import os
import pydoc
import shutil
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..records import JsonObject
from ..terminal import clean_json, clean_line, safe_console, say, say_text

_paging: ContextVar[bool] = ContextVar("_paging", default=False)
"""Whether what is printed goes to a pager."""

GAP = "  "

LEAST = (20, 12, 4)
"""How wide columns stay that are broken over lines: as wide as a time is, where that can be."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below column names.

    On a terminal columns without any text are left out, and those that are too wide for it are broken over lines. What
    still does not fit goes without the columns in `spare`, the first of them first, and says so.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    spare: Sequence[str] = ()


def print_heading(template: str, *values: object) -> None:
    """A heading, bold on a terminal, after an empty line; as `say`."""
    console = _console()
    if console is None:
        say()
        say(template, *values)
    else:
        text = template.format(*(clean_line(str(value)) for value in values))
        console.print(f"\n{text}", style="bold", markup=False, highlight=False, soft_wrap=True)


def told(as_json: JsonObject, template: str, *values: object, json: bool) -> None:
    """Say what was done: as a line, as `say` does, or as JSON."""
    if json:
        say_text(clean_json(as_json, indent=2))
    else:
        say(template, *values)


def print_table(table: Table) -> None:
    """A table: with lines on a terminal, in aligned columns that cut nothing off elsewhere."""
    console = _console()
    rows = [[clean_line(cell) for cell in row] for row in table.rows]
    if console is None:
        _print_plain(table.columns, rows)
        return
    widths = _fitted(table, rows, console.width)
    rich_table: Any = import_module("rich.table").Table(show_edge=False, pad_edge=False)
    text: Any = import_module("rich.text").Text
    for index, width in widths.items():
        rich_table.add_column(table.columns[index], overflow="fold", width=width)
    for row in rows:
        rich_table.add_row(*[text(row[index]) for index in widths])
    console.print(rich_table)
    hidden = [table.columns[index] for index in _with_text(rows, len(table.columns)) if index not in widths]
    if hidden:
        say("No room for: {}. A wider terminal or --json shows it.", ", ".join(hidden))


def _with_text(rows: Sequence[Sequence[str]], count: int) -> list[int]:
    return [index for index in range(count) if not rows or any(row[index] for row in rows)]


def _fitted(table: Table, rows: Sequence[Sequence[str]], room: int) -> dict[int, int]:
    """Which columns are shown, and how wide."""
    length: Callable[[str], int] = import_module("rich.cells").cell_len
    natural = {
        index: max(length(row[index]) for row in [table.columns, *rows])
        for index in _with_text(rows, len(table.columns))
    }
    shown = natural
    for least in LEAST:
        shown = dict(natural)
        for spare in (None, *table.spare):
            if spare is not None:
                shown.pop(table.columns.index(spare), None)
            left = room - 3 * (len(shown) - 1)
            for widest in range(max(shown.values(), default=0), least - 1, -1):
                if sum(min(width, widest) for width in shown.values()) <= left:
                    return {index: min(width, widest) for index, width in shown.items()}
    return dict.fromkeys(shown, 1)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    for row in [columns, ["-" * width for width in widths], *rows]:
        say_text(GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _console() -> Any:
    """The console of rich if it is installed and the output is a terminal, else None."""
    try:
        console = safe_console(force_terminal=True, width=_width()) if _paging.get() else safe_console()
    except ImportError:
        return None
    return console if console.is_terminal else None


def _width() -> int:
    return shutil.get_terminal_size().columns


@contextmanager
def paged() -> Generator[None]:
    """What is printed meanwhile is shown a page at a time, if it goes to a terminal and is longer than that.

    The pager is the one that `PAGER` names, or `less`; `PAGER=cat` does without.
    """
    terminal = sys.stdout
    if not (terminal.isatty() and sys.stdin.isatty()) or _paging.get():
        yield
        return
    written = io.StringIO()
    token = _paging.set(True)
    try:
        with redirect_stdout(written):
            yield
    finally:
        _paging.reset(token)
        text = written.getvalue()
        if text.count("\n") >= shutil.get_terminal_size().lines:
            os.environ.setdefault("LESS", "-FRX")  # the colours are rich's own: all else was made harmless
            pydoc.pager(text)
        else:
            terminal.write(text)


@contextmanager
def progress(what: str, total: int | None = None) -> Generator[Progress]:
    """Tells how far long work has come, on one line of the standard error, where that is a terminal."""
    told = Progress(what, total)
    try:
        yield told
    finally:
        told.end()


class Progress:
    """How far something has come."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total, self._told = what, total, False

    def __call__(self, done: int, total: int | None = None) -> None:
        """Tell how many are done, and perhaps of how many."""
        total = self._total if total is None else total
        if sys.stderr.isatty():
            self._told = True
            sys.stderr.write(f"\r{done}{'' if total is None else f' of {total}'} {self._what}\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._told:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
