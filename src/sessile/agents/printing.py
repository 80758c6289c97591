"""`print_response`: question and answer in the terminal, as they come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_ai.messages import UserContent

from ..errors import missing_dependency
from .messages import plain_text
from .result import RunResult
from .streaming import AsyncRunStream, RunStream

if TYPE_CHECKING:
    from rich.console import Console

OutputT = TypeVar("OutputT")


def print_stream(prompt: str | Sequence[UserContent], stream: RunStream[OutputT]) -> RunResult[OutputT]:
    """Show a stream to its end."""
    with _shown(prompt) as show, stream:
        for piece in stream:
            show(piece)
        return _finished(stream.result, show)


async def aprint_stream(prompt: str | Sequence[UserContent], stream: AsyncRunStream[OutputT]) -> RunResult[OutputT]:
    """The `async` twin of `print_stream`."""
    with _shown(prompt) as show:
        async with stream:
            async for piece in stream:
                show(piece)
            return _finished(stream.result, show)


def _finished(result: RunResult[OutputT], show: Callable[[str], None]) -> RunResult[OutputT]:
    """What has no text (structured output, a pause) is shown when it is there."""
    if result.pending is not None:
        calls = ", ".join(call.tool_name for call in (*result.pending.approvals, *result.pending.calls))
        show(f"\n\n*Waits for a decision about: {calls}*")
    elif not isinstance(result.output, str):
        show(f"```\n{result.output!r}\n```")
    return result


@contextmanager
def _shown(prompt: str | Sequence[UserContent], console: Console | None = None) -> Generator[Callable[[str], None]]:
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.markdown import Markdown
        from rich.panel import Panel
        from rich.text import Text
    except ImportError:
        raise missing_dependency("rich", "cli", "print_response") from None
    console = console or Console()
    question = Text(plain_text(prompt))  # not markup, whatever brackets it has
    console.print(Panel(question, title="Question", title_align="left", border_style="cyan"))
    text: list[str] = []

    def panel() -> Panel:
        return Panel(Markdown("".join(text)), title="Answer", title_align="left", border_style="green")

    def show(piece: Any) -> None:
        text.append(piece)
        live.update(panel())

    with Live(panel(), console=console, refresh_per_second=12, vertical_overflow="visible") as live:
        yield show
