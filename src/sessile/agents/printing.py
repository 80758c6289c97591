"""`print_response`: question and answer in the terminal, as they come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import UserContent

from ..errors import missing_dependency
from ..records import JsonObject, Usage
from .messages import plain_text
from .result import OutputT, RunResult
from .streaming import AsyncRunStream, RunStream, text_delta
from .team_events import MemberEnded, MemberStarted, TeamEvent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


class AnswerView:
    """The answer of an agent, out of the pieces of its text."""

    events = False
    """Whether it is made of a stream's events, and not only of the text."""

    def __init__(self) -> None:
        self._text: list[str] = []

    def add(self, item: Any) -> None:
        """Take the next item of a stream, or text to show after it."""
        self._text.append(item)

    def render(self) -> RenderableType:
        """What is to be seen now."""
        from rich.markdown import Markdown
        from rich.panel import Panel

        return Panel(Markdown("".join(self._text)), title="Answer", title_align="left", border_style="green")


@dataclass
class _Work:
    """A member's run, as far as it is known."""

    name: str
    task: Any
    text: str = ""
    ended: MemberEnded | None = None
    below: list[str] = field(default_factory=list[str])


class TeamView(AnswerView):
    """The members of a team at work, as a tree, and the answer of the team."""

    events = True

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._work: dict[str, _Work] = {}
        self._top: list[str] = []

    def add(self, item: Any) -> None:
        """See `AnswerView`."""
        if not isinstance(item, TeamEvent):
            super().add(item)
            return
        event = item.event
        if isinstance(event, MemberStarted):
            self._started(item, event)
        elif isinstance(event, MemberEnded):
            self._work[item.run_id].ended = event
        elif text := text_delta(event):
            if item.run_id in self._work:
                self._work[item.run_id].text += text
            if item.answering:
                super().add(text)

    def _started(self, item: TeamEvent, event: MemberStarted) -> None:
        above = self._work.get(item.parent_run_id or "")
        (self._top if above is None else above.below).append(item.run_id)
        self._work[item.run_id] = _Work(item.member, event.task)

    def render(self) -> RenderableType:
        """See `AnswerView`."""
        from rich.console import Group
        from rich.text import Text
        from rich.tree import Tree

        tree = Tree(Text(self._title, style="bold"))
        self._grow(tree, self._top)
        return Group(tree, super().render())

    def _grow(self, tree: Any, runs: Sequence[str]) -> None:
        from rich.text import Text

        for run_id in runs:
            work = self._work[run_id]
            line = Text.assemble((work.name, "bold cyan"), ": ", plain_text(work.task))  # not markup, whatever it holds
            branch = tree.add(line)
            self._grow(branch, work.below)
            if work.text.strip():
                branch.add(Text(work.text.strip()))
            if work.ended is not None:
                branch.add(Text(_ending(work.ended), style="dim" if work.ended.error is None else "red"))


def _ending(ended: MemberEnded) -> str:
    """How a member's run has ended, and what it took."""
    error = "" if ended.error is None else f" ({_problem(ended.error)})"
    return f"{ended.status}{error}, {_used(ended.usage)}"


def _problem(error: JsonObject) -> str:
    return f"{error['type']}: {error['message']}"


def _used(usage: Usage) -> str:
    tokens = usage.input_tokens + usage.output_tokens
    cost = f", ${usage.cost / 1e9:.4f}" if usage.cost else ""
    return f"{usage.requests} request{'' if usage.requests == 1 else 's'}, {tokens} tokens{cost}"


def print_stream(
    prompt: str | Sequence[UserContent], stream: RunStream[OutputT], view: AnswerView
) -> RunResult[OutputT]:
    """Show a stream to its end."""
    with _shown(prompt, view) as show, stream:
        for item in stream:
            show(item)
        return _finished(stream.result, show)


async def aprint_stream(
    prompt: str | Sequence[UserContent], stream: AsyncRunStream[OutputT], view: AnswerView
) -> RunResult[OutputT]:
    """The `async` twin of `print_stream`."""
    with _shown(prompt, view) as show:
        async with stream:
            async for item in stream:
                show(item)
            return _finished(stream.result, show)


def _finished(result: RunResult[OutputT], show: Callable[[str], None]) -> RunResult[OutputT]:
    """What has no text (structured output, a pause) is shown when it is there."""
    if result.pending is not None:
        calls = ", ".join(call.tool_name for call in (*result.pending.approvals, *result.pending.calls))
        show(f"\n\n*Waits for a decision about: {calls}*")
    elif not isinstance(result.output, str):
        show(f"\n\n```\n{result.output!r}\n```")
    return result


@contextmanager
def _shown(
    prompt: str | Sequence[UserContent], view: AnswerView, console: Console | None = None
) -> Generator[Callable[[Any], None]]:
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.panel import Panel
        from rich.text import Text
    except ImportError:
        raise missing_dependency("rich", "cli", "print_response") from None
    console = console or Console()
    question = Text(plain_text(prompt))  # not markup, whatever brackets it has
    console.print(Panel(question, title="Question", title_align="left", border_style="cyan"))

    def show(item: Any) -> None:
        view.add(item)
        live.update(view.render())

    with Live(view.render(), console=console, refresh_per_second=12, vertical_overflow="visible") as live:
        yield show
