"""Stored text on a terminal: nothing that was stored can act there, or pose as a line of ours."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline: escape sequences begin with them
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # change the direction of what follows: ids and words can be forged
    "\u2028\u2029"  # lines and paragraphs
    "\U000e0000-\U000e007f"  # tags, which nobody sees
    "\ud800-\udfff]"  # no terminal's encoding has these
)


def clean(text: str) -> str:
    """Text that can do nothing to a terminal: what would act becomes its escape; tabs and newlines stay.

    Columns of SQLite's hold values of any type, so that what should be text may be none.
    """
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def clean_line(text: str) -> str:
    """As `clean`, for what must stay on its line (ids, names): tabs and newlines become their escapes, too."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def clean_json(value: Any, *, indent: int | None = None) -> str:
    """JSON text that survives any encoding of the standard output, and can do nothing to a terminal."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")
    text = json.dumps(value, ensure_ascii=not utf8, indent=indent, default=str)  # SQLite's columns may hold anything
    return _ACTIVE.sub(_json_escape, text.replace("\x7f", "\\u007f"))


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]


def say(template: str = "", *values: object, err: bool = False) -> None:
    """Print a line of ours, with values in its `{}`, which stay on that line and do nothing: the way commands print.

    Args:
        template: the line, whole of our own words; `{}` for each value.
        values: what was stored, given, or said by others.
        err: on the standard error.
    """
    say_text(template.format(*(clean_line(str(value)) for value in values)), err=err)


def say_text(text: str, *, err: bool = False) -> None:
    """Print text of several lines, as `clean` makes it."""
    print(clean(text), file=sys.stderr if err else sys.stdout)


def say_block(label: str, text: str, indent: str = "") -> None:
    """Print `label: text`; the lines of the text after its first stand further in than any label at this place."""
    lines = clean(text).replace("\n", f"\n{indent}  ")
    say_text(f"{indent}{clean_line(label)}: {lines}")


def safe_console(**options: Any) -> Console:
    """A console of rich that prints everything as `clean` does, whatever it is made of; links show their address.

    `options` are those of `rich.console.Console`. Raises `ImportError` if rich is not installed.
    """
    from rich.console import Console
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                text, style, control = segment
                if control:  # rich's own
                    yield segment
                else:
                    yield Segment(clean(text), style.update_link(None) if style and style.link else style)

    return SafeConsole(**options)
