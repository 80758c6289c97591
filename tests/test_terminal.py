"""Stored text, and what a model says, do nothing to a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from rich.console import Console
from rich.markdown import Markdown
from rich.style import Style
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from sessile import Agent, MemoryStorage, Team, workflow
from sessile.errors import StepFailedError
from sessile.terminal import clean, clean_line, safe_console
from sessile.workflows import Context

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\x1b]8;;http://evil\x1b\\click\x1b[8m\u202eevil\u2066\r\nforged\x08\x00\u2028\x7f\U000e0041"
STYLE = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[[0-9]*[AKG]|\r")
"""What rich itself sends: colours, the cursor, lines drawn again."""

ACTIVE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\U000e0041]")


def active(text: str) -> str:
    """What acts in an output, rich's own aside."""
    return "".join(
        re.findall(
            r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\U000e0041]", STYLE.sub("", text)
        )
    )


def test_what_acts_becomes_its_escape() -> None:
    assert active(EVIL)
    assert not active(clean(EVIL))
    assert clean(EVIL).count("\n") == 1
    assert clean("plain ä 🦪 日本\tand\nlines") == "plain ä 🦪 日本\tand\nlines"
    assert clean(clean(EVIL)) == clean(EVIL)
    assert clean_line("a\nSession b\tx") == "a\\nSession b\\tx"
    assert clean("\ud800") == "\\ud800"


@pytest.mark.parametrize("kind", ["text", "markdown", "table", "tree", "markup", "link"])
def test_whatever_it_is_printed_in(kind: str) -> None:
    out = io.StringIO()
    console = safe_console(file=out, force_terminal=True, width=60)
    table = Table(EVIL.replace("[", ""))
    table.add_row(Text(EVIL))
    shown = {
        "text": Text(EVIL),
        "markdown": Markdown(f"# {EVIL}\n\n[{EVIL}](http://x/\x1b[2J) `{EVIL}`\n\n```\n{EVIL}\n```", hyperlinks=True),
        "table": table,
        "tree": Tree(Text(EVIL)),
        "markup": EVIL.replace("[", "\\["),
        "link": Text("here", style=Style(link="http://x/\x1b[2J")),
    }
    console.print(shown[kind])
    assert out.getvalue().strip()
    assert not active(out.getvalue())
    plain = io.StringIO()
    Console(file=plain, force_terminal=True, width=60).print(shown[kind])
    assert active(plain.getvalue()), "what rich prints by itself acts: else this test tests nothing"


@pytest.mark.parametrize("who", ["agent", "team", "workflow"])
def test_answers_in_the_terminal(who: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    async def pieces(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        yield EVIL

    model = FunctionModel(lambda messages, info: ModelResponse(parts=[TextPart(EVIL)]), stream_function=pieces)
    storage = MemoryStorage()
    agent = Agent(model, name="a", storage=storage)
    if who == "agent":
        agent.print_response(EVIL, session_id="s")
    elif who == "team":
        team = Team([Agent(model, name="b")], model=model, name=EVIL.replace("\0", ""), storage=storage)
        team.print_response("Hi", session_id="s")
    else:

        def fail() -> None:
            raise ValueError(EVIL)

        @workflow(storage=storage)
        async def flow(ctx: Context) -> None:
            with suppress(StepFailedError):
                await ctx.step(fail)

        flow.print_run(session_id="s")
    out = capsys.readouterr().out
    assert "evil" in out
    assert not active(out)
