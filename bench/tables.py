"""Tables on the terminal: with `rich` if it is installed, else plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """A title, a row of headings, rows of text, and notes printed below."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list[Sequence[str]])
    notes: list[str] = field(default_factory=list[str])

    def print(self) -> None:
        """Print it; the first column is aligned to the left, numbers to the right."""
        try:
            self._print_rich()
        except ImportError:
            self._print_plain()

    def _print_rich(self) -> None:
        from rich.console import Console
        from rich.table import Table as RichTable

        console = Console(width=None if Console().is_terminal else 150)
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number == 0 else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", style="dim", highlight=False, markup=False)
        console.print()

    def _print_plain(self) -> None:
        lines = [list(self.columns), *[list(row) for row in self.rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        print(self.title)
        for line in lines:
            cells = [cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(line)]
            print("  " + "  ".join(cells).rstrip())
        for note in self.notes:
            print(f"  {note}")
        print(flush=True)


def verdict(value: float, limit: float) -> str:
    """Whether a figure keeps the limit that is wanted."""
    return "ok" if value <= limit else "OVER"
