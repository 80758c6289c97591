"""`print_run`: a workflow in the terminal while it works: its steps, their times and attempts, what agents say."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..errors import missing_dependency
from ..terminal import safe_console
from .run.events import WorkflowEvent
from .run.result import OutputT, WorkflowResult
from .streaming import AsyncWorkflowStream, WorkflowStream

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


TEXT_SHOWN = 400
"""How many characters of an agent's answer are shown, the last ones."""

_MARKS = {
    "step.started": "[yellow]…[/]",
    "step.retrying": "[yellow]↻[/]",
    "step.finished": "[green]✓[/]",
    "step.failed": "[red]✗[/]",
}


@dataclass(slots=True)
class Line:
    """One step as it is shown."""

    name: str
    mark: str = _MARKS["step.started"]
    attempt: int = 1
    began: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    about: str = ""
    text: str = ""


class View:
    """What is shown of a run: made of its events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[str, Line] = {}
        self.end = ""

    def take(self, event: WorkflowEvent) -> None:
        """Put an event into the picture."""
        if event.step is None:
            if event.kind == "run.paused":
                self.end = f"waits for {event.text}"
            elif event.kind == "run.ended":
                self.end = event.error or "completed"
            return
        line = self.lines.setdefault(event.path, Line(event.step))
        line.attempt = event.attempt if event.kind != "step.text" else line.attempt
        if event.kind == "step.text":
            line.text += event.text
            return
        line.mark = _MARKS[event.kind]
        if event.kind == "step.started":
            line.began, line.seconds, line.about, line.text = time.monotonic(), None, "", ""
        else:
            line.seconds = event.seconds if event.kind != "step.retrying" else time.monotonic() - line.began
            line.about = _about(event)

    def render(self) -> RenderableType:
        """The picture as it is now."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        table = Table("", "step", "time", "attempt", "", title=escape(self.name), title_justify="left", box=None)
        for path, line in self.lines.items():
            seconds = time.monotonic() - line.began if line.seconds is None else line.seconds
            indent = "  " * path.count(".")
            attempt = "" if line.attempt == 1 else str(line.attempt)
            table.add_row(line.mark, escape(indent + line.name), f"{seconds:.1f} s", attempt, escape(line.about))
            if line.text and line.seconds is None:
                table.add_row("", Text(line.text[-TEXT_SHOWN:], style="dim"), "", "", "")
        return Group(table, Text(self.end))


def _about(event: WorkflowEvent) -> str:
    if event.kind == "step.retrying":
        return f"{event.error}; again in {event.seconds:.1f} s"
    if event.error:
        return event.error
    return "cached" if event.cached else "kept from before" if event.replayed else ""


def print_stream(name: str, stream: WorkflowStream[OutputT], console: Console | None = None) -> WorkflowResult[OutputT]:
    """Show a run to its end; returns its result, and raises what it raises."""
    with _shown(name, console) as view, stream:
        for event in stream:
            view.take(event)
    return stream.result


async def aprint_stream(
    name: str, stream: AsyncWorkflowStream[OutputT], console: Console | None = None
) -> WorkflowResult[OutputT]:
    """The `async` version of `print_stream`."""
    with _shown(name, console) as view:
        async with stream:
            async for event in stream:
                view.take(event)
    return stream.result


@contextmanager
def _shown(name: str, console: Console | None) -> Generator[View]:
    try:
        from rich.live import Live

        console = console or safe_console()
    except ImportError:
        raise missing_dependency("rich", "cli", "print_run") from None
    view = View(name)
    with Live(get_renderable=view.render, console=console, refresh_per_second=8):
        yield view
