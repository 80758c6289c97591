"""Workflows that are declared as data: they can be drawn and looked through before they run.

Each element is given what the one before it returned. All that decides (conditions, routers, the end of a loop) is a
step itself, so that a decision is kept and never made twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..errors import InvalidInputError
from ..storage.ids import check_id
from ..storage.reads import check_count
from .context import Context
from .steps import Step, step_of

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


class Element(ABC):
    """A part of a declared workflow. `name` is what it is called in drawings and in the results of `Parallel`."""

    name: str

    @abstractmethod
    async def run(self, context: Context, value: Any) -> Any:
        """What it comes to, given what came before it."""

    @abstractmethod
    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """Draw it after these ends; returns its own."""

    def inside(self) -> Iterator[Sequence[Element]]:
        """The sequences of elements inside it."""
        return iter(())


class Call(Element):
    """One step."""

    def __init__(self, step: Step[..., Any]) -> None:
        self.step, self.name = step, step.name

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        return await context.step(self.step, value)

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        return [(drawing.node(self.name, ends), "")]


class Wait(Element):
    """Waits for an event that `workflow.send` sends, and passes its value on; see `Context.wait`."""

    def __init__(self, event: str) -> None:
        self.name = check_id(event, "The name of an event")

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        return await context.wait(self.name)

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        return [(drawing.node(f"wait for {self.name}", ends, ("([", "])")), "")]


class Parallel(Element):
    """Branches that run at the same time, each given the same value; comes to their results, by name.

    ```python
    Parallel(research, outline, images=[find_images, choose_image])
    ```

    Args:
        steps: branches of one step each, called by the step's name.
        branches: branches with names of their own: a step, or a list of steps.
    """

    def __init__(self, *steps: Any, **branches: Any) -> None:
        self.branches: dict[str, tuple[Element, ...]] = {}
        self.name = "parallel"
        for element in checked_elements(steps):
            self._add(element.name, (element,))
        for name, branch in branches.items():
            self._add(name, checked_elements(branch if isinstance(branch, (list, tuple)) else [branch]))  # pyright: ignore[reportUnknownArgumentType]
        if not self.branches:
            raise InvalidInputError("Parallel needs at least one branch.")

    def _add(self, name: str, branch: tuple[Element, ...]) -> None:
        if name in self.branches:
            raise InvalidInputError(
                f"Two parallel branches are called {name!r}.", hint="Name them: Parallel(a=…, b=…)."
            )
        self.branches[name] = branch

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        results = await context.gather(*(run_elements(context, branch, value) for branch in self.branches.values()))
        return dict(zip(self.branches, results, strict=True))

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        return [end for branch in self.branches.values() for end in draw_elements(branch, drawing, ends)]

    def inside(self) -> Iterator[Sequence[Element]]:
        """See `Element`."""
        return iter(self.branches.values())


class Condition(Element):
    """One way or another: `then` if `test` (a function or an agent, given the value) comes to something true.

    Args:
        test: what decides; a step.
        then: a step, or a list of steps.
        otherwise: the same for the other case; by default the value is passed on as it is.
    """

    def __init__(self, test: Any, then: Any, otherwise: Any = ()) -> None:
        self.test = step_of(test)
        self.name = self.test.name
        self.then, self.otherwise = _sequence(then), _sequence(otherwise)

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        chosen = self.then if await context.step(self.test, value) else self.otherwise
        return await run_elements(context, chosen, value)

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        node = drawing.node(f"{self.name}?", ends, ("{", "}"))
        yes = draw_elements(self.then, drawing, [(node, "yes")])
        return [*yes, *draw_elements(self.otherwise, drawing, [(node, "no")])]

    def inside(self) -> Iterator[Sequence[Element]]:
        """See `Element`."""
        return iter((self.then, self.otherwise))


class Loop(Element):
    """Steps that are done again and again, each time given what they came to the last time.

    Args:
        steps: a step, or a list of steps.
        until: a function or an agent that is given what they came to, a step itself: the loop ends when it comes to
            something true. Default: `most` times.
        most: the loop ends after so many times in any case.
    """

    def __init__(self, steps: Any, *, until: Any = None, most: int = 10) -> None:
        self.steps = _sequence(steps)
        self.until = None if until is None else step_of(until)
        check_count(most, "most", least=1)
        self.most = most
        self.name = "loop"

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        for _ in range(self.most):
            value = await run_elements(context, self.steps, value)
            if self.until is not None and await context.step(self.until, value):
                break
        return value

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        node = drawing.new_name()
        text, again = (f"{self.until.name}?", "no") if self.until is not None else (f"{self.most} times", "again")
        ends = draw_elements(self.steps, drawing, [*ends, (node, again)])
        drawing.node(text, ends, ("{", "}"), node)
        return [(node, "yes" if self.until is not None else "")]

    def inside(self) -> Iterator[Sequence[Element]]:
        """See `Element`."""
        return iter((self.steps,))


class Router(Element):
    """One of several ways, chosen by name.

    Args:
        choose: a function or an agent that is given the value and comes to the name of a route (text, or an `Enum`
            whose value is one); a step.
        routes: for each name a step, or a list of steps.
    """

    def __init__(self, choose: Any, routes: Mapping[str, Any]) -> None:
        self.choose = step_of(choose)
        self.name = self.choose.name
        self.routes = {check_id(name, "The name of a route"): _sequence(steps) for name, steps in routes.items()}
        if not self.routes:
            raise InvalidInputError("A router needs at least one route.")

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        chosen: Any = await context.step(self.choose, value)
        route = chosen.value if isinstance(chosen, Enum) else chosen
        if not isinstance(route, str) or route not in self.routes:
            raise InvalidInputError(
                f"{self.name!r} has chosen {route!r}; the routes are {', '.join(map(repr, self.routes))}."
            )
        return await run_elements(context, self.routes[route], value)

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        node = drawing.node(f"{self.name}?", ends, ("{", "}"))
        return [end for name, route in self.routes.items() for end in draw_elements(route, drawing, [(node, name)])]

    def inside(self) -> Iterator[Sequence[Element]]:
        """See `Element`."""
        return iter(self.routes.values())


def checked_elements(steps: Sequence[Any]) -> tuple[Element, ...]:
    """What was given, as elements."""
    return tuple(step if isinstance(step, Element) else Call(step_of(step)) for step in steps)


def _sequence(steps: Any) -> tuple[Element, ...]:
    return checked_elements(steps if isinstance(steps, (list, tuple)) else [steps])  # pyright: ignore[reportUnknownArgumentType]


async def run_elements(context: Context, elements: Sequence[Element], value: Any) -> Any:
    """What the last one of some elements comes to; the value itself if there are none."""
    for element in elements:
        value = await element.run(context, value)
    return value


def draw_elements(elements: Sequence[Element], drawing: Drawing, ends: Ends) -> Ends:
    """Draw elements one after the other."""
    for element in elements:
        ends = element.draw(drawing, ends)
    return ends


def flowchart(elements: Sequence[Element]) -> str:
    """A Mermaid flowchart (mermaid.js.org) of a declared workflow, from `start` to `end`."""
    drawing = Drawing()
    drawing.lines.append("    start((start))")
    ends = draw_elements(elements, drawing, [("start", "")])
    drawing.lines.append("    finish((end))")
    drawing.link(ends, "finish")
    return "\n".join(drawing.lines) + "\n"
