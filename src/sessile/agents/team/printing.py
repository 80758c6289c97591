"""A team in the terminal: what its members do, as a tree, and its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...live.streams import text_delta
from ...records import Handoff, JsonObject, Usage
from ..events import MemberEnded, MemberStarted, TeamEvent
from ..messages.spoken import plain_text
from ..printing import AnswerView

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass
class _Work:
    """A member's run, as far as it is known."""

    name: str
    task: Any
    text: str = ""
    ended: MemberEnded | None = None
    below: list[str] = field(default_factory=list[str])


class TeamView(AnswerView):
    """What the members of a team do, as a tree, and the answer of the team."""

    events = True

    def __init__(self, title: str) -> None:
        super().__init__(in_pieces=True)
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
    if isinstance(ended.output, Handoff):
        reason = f" ({ended.output.reason})" if ended.output.reason else ""
        return f"handed over to {ended.output.to}{reason}, {_used(ended.usage)}"
    error = "" if ended.error is None else f" ({_problem(ended.error)})"
    return f"{ended.status}{error}, {_used(ended.usage)}"


def _problem(error: JsonObject) -> str:
    return f"{error['type']}: {error['message']}"


def _used(usage: Usage) -> str:
    tokens = usage.input_tokens + usage.output_tokens
    cost = f", ${usage.cost:.4f}" if usage.cost else ""
    return f"{usage.requests} request{'' if usage.requests == 1 else 's'}, {tokens} tokens{cost}"
