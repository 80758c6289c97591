"""`print_response`: question and answer in the terminal, as they come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import UserContent

from ..errors import missing_dependency
from ..live.result import OutputT, RunResult
from ..live.streams import AsyncRunStream, RunStream
from ..terminal import safe_console
from .messages.spoken import plain_text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class AnswerView:
    """The answer of an agent, out of the pieces of its text, or the output as far as it has come."""

    events = False
    """Whether it is made of a stream's events, and not only of the text."""

    def __init__(self, *, in_pieces: bool = True) -> None:
        self._in_pieces = in_pieces
        self._text: list[str] = []

    def add(self, item: Any) -> None:
        """Take the next item of a stream."""
        if self._in_pieces:
            self._text.append(item)
        else:
            self._text = [item if isinstance(item, str) else _code(item)]

    def end(self, result: RunResult[Any]) -> None:
        """Show what a run has ended with that was not in its stream: a pause, or what has no text."""
        if result.pending is not None:
            calls = ", ".join(call.tool_name for call in (*result.pending.approvals, *result.pending.calls))
            self._text.append(f"\n\n*Waits for a decision about: {calls}*")
        elif self._in_pieces and not isinstance(result.output, str):
            self._text.append(_code(result.output))

    def render(self) -> RenderableType:
        """What is to be seen now."""
        from rich.markdown import Markdown
        from rich.panel import Panel

        answer = Markdown("".join(self._text), hyperlinks=False)
        return Panel(answer, title="Answer", title_align="left", border_style="green")


def print_stream(
    prompt: str | Sequence[UserContent], stream: RunStream[OutputT, Any], view: AnswerView
) -> RunResult[OutputT]:
    """Show a stream to its end."""
    with _shown(prompt, view) as show, stream:
        for item in stream:
            show(view.add, item)
        show(view.end, stream.result)
        return stream.result


async def aprint_stream(
    prompt: str | Sequence[UserContent], stream: AsyncRunStream[OutputT, Any], view: AnswerView
) -> RunResult[OutputT]:
    """The `async` version of `print_stream`."""
    with _shown(prompt, view) as show:
        async with stream:
            async for item in stream:
                show(view.add, item)
            show(view.end, stream.result)
            return stream.result


def _code(value: Any) -> str:
    return f"\n\n```\n{value!r}\n```"


@contextmanager
def _shown(
    prompt: str | Sequence[UserContent], view: AnswerView, console: Console | None = None
) -> Generator[Callable[[Callable[[Any], None], Any], None]]:
    try:
        from rich.live import Live
        from rich.panel import Panel
        from rich.text import Text

        console = console or safe_console()
    except ImportError:
        raise missing_dependency("rich", "cli", "print_response") from None
    question = Text(plain_text(prompt))  # not markup, whatever brackets it has
    console.print(Panel(question, title="Question", title_align="left", border_style="cyan"))

    def show(take: Callable[[Any], None], item: Any) -> None:
        take(item)
        live.update(view.render())

    with Live(view.render(), console=console, refresh_per_second=12, vertical_overflow="visible") as live:
        yield show
