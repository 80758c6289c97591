"""What the commands print: tables and headings, with rich on a terminal if it is installed, as plain text else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from ..records import MICROSECOND

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_C1 = re.compile(r"[\x7f-\x9f]")

GAP = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text below column names. Columns in `wrapped` may be broken over lines on a narrow terminal."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    wrapped: frozenset[str] = frozenset()


def clean(text: str) -> str:
    """Text that can do nothing to a terminal: control characters, except newline and tab, become their escapes."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def clip(text: str, length: int) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def moment(time: int) -> str:
    """A time in microseconds as people read it, in UTC."""
    return datetime.fromtimestamp(time / MICROSECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text that survives any encoding of the output and leaves terminals alone."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")
    text = json.dumps(value, ensure_ascii=not utf8, indent=indent)
    return _C1.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_heading(text: str) -> None:
    """A heading, bold on a terminal, after an empty line."""
    console = _console()
    if console is None:
        print(f"\n{clean(text)}")
    else:
        console.print(f"\n{clean(text)}", style="bold", markup=False, highlight=False)


def print_table(table: Table) -> None:
    """A table: with lines on a terminal, in aligned columns that cut nothing off elsewhere."""
    console = _console()
    rows = [[clean(cell) for cell in row] for row in table.rows]
    if console is None:
        _print_plain(table.columns, rows)
        return
    rich_table: Any = import_module("rich.table").Table(show_edge=False, pad_edge=False)
    text: Any = import_module("rich.text").Text
    for column in table.columns:
        rich_table.add_column(column, overflow="fold", no_wrap=column not in table.wrapped)
    for row in rows:
        rich_table.add_row(*[text(cell) for cell in row])
    console.print(rich_table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    flat = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(len(row[index]) for row in [list(columns), *flat]) for index in range(len(columns))]
    for row in [list(columns), ["-" * width for width in widths], *flat]:
        print(GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _console() -> Any:
    """The console of rich if it is installed and the output is a terminal, else None."""
    try:
        console: Any = import_module("rich.console").Console()
    except ImportError:
        return None
    return console if console.is_terminal else None
