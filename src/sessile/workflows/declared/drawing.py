"""Flowcharts of declared workflows, in the language of Mermaid."""

from __future__ import annotations

from dataclasses import dataclass, field

Ends = list[tuple[str, str]]
"""The loose ends of a drawing: nodes that the next one follows, each with what is written on the arrow."""


@dataclass(slots=True)
class Drawing:
    """A Mermaid flowchart in the making."""

    lines: list[str] = field(default_factory=lambda: ["flowchart TD"])
    nodes: int = 0

    def new_name(self) -> str:
        """An id for a node."""
        self.nodes += 1
        return f"n{self.nodes}"

    def node(self, text: str, ends: Ends, shape: tuple[str, str] = ("[", "]"), name: str = "") -> str:
        """A node after these ends; of an id that was used before, or a new one."""
        name = name or self.new_name()
        self.lines.append(f'    {name}{shape[0]}"{_escaped(text)}"{shape[1]}')
        self.link(ends, name)
        return name

    def link(self, ends: Ends, name: str) -> None:
        """Arrows from these ends to a node."""
        for end, label in ends:
            arrow = f'-->|"{_escaped(label)}"|' if label else "-->"
            self.lines.append(f"    {end} {arrow} {name}")


_CODES = str.maketrans(
    {"#": "#35;", "&": "#amp;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "\n": " ", "\r": " "}
)
"""What would be read as something else than text, by Mermaid (a code, a quote, Markdown) or by the page around it.

The codes are Mermaid's own: mermaid.js.org/syntax/flowchart.html#entity-codes-to-escape-characters.
"""


def _escaped(text: str) -> str:
    return text.translate(_CODES)
