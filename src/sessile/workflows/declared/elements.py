"""Workflows that are declared as data: they can be drawn and looked through before they run.

Each element is given what the one before it returned. All that decides (conditions, routers, the end of a loop) is a
step itself, so that a decision is kept and never made twice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from ...errors import InvalidInputError
from ...records import Duration
from ...storage.checks import check_count, seconds_of
from ...storage.ids import check_id
from ..context import Context
from ..steps.step import Step, step_of
from .drawing import Drawing, Ends
from .words import given_to, is_agent, plain_words, says_yes


class Element(ABC):
    """A part of a declared workflow. `name` is what it is called in drawings and in the results of `Parallel`."""

    name: str

    @abstractmethod
    async def run(self, context: Context, value: Any) -> Any:
        """Its result, given the result of the element before it."""

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
        return await context.step(self.step, given_to(self.step, value))

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        return [(drawing.node(self.name, ends), "")]


class Wait(Element):
    """Waits for an event that `workflow.send_event` sends, and passes its value on; see `Context.wait_for_event`."""

    def __init__(self, event: str, *, timeout: Duration | None = None) -> None:
        self.name = check_id(event, "The name of an event")
        self.timeout = None if timeout is None else seconds_of(timeout, "timeout")

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        return await context.wait_for_event(self.name, timeout=self.timeout)

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        return [(drawing.node(f"wait for {self.name}", ends, ("([", "])")), "")]


class Parallel(Element):
    """Branches that run at the same time, each given the same value; the result is a dict of theirs, by name.

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
    """One way or another: `then` if `test` (a function or an agent, given the value) returns something true.

    The text of an agent's answer must begin with yes or no (or true or false); another answer is a failure of the step.

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
        chosen = self.then if await says_yes(context, self.test, value) else self.otherwise
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
    """Steps that are done again and again, each time given the result of the last time.

    Args:
        steps: a step, or a list of steps.
        until: a function or an agent that is given the result of each time, itself kept as a step: the loop ends when
            it returns something true. Default: `max_iterations` times.
        max_iterations: the loop ends after so many times in any case.
    """

    def __init__(self, steps: Any, *, until: Any = None, max_iterations: int = 10) -> None:
        self.steps = _sequence(steps)
        self.until = None if until is None else step_of(until)
        check_count(max_iterations, "max_iterations", least=1)
        self.max_iterations = max_iterations
        self.name = "loop"

    async def run(self, context: Context, value: Any) -> Any:
        """See `Element`."""
        for _ in range(self.max_iterations):
            value = await run_elements(context, self.steps, value)
            if self.until is not None and await says_yes(context, self.until, value):
                break
        return value

    def draw(self, drawing: Drawing, ends: Ends) -> Ends:
        """See `Element`."""
        node = drawing.new_name()
        text, again = (
            (f"{self.until.name}?", "no") if self.until is not None else (f"{self.max_iterations} times", "again")
        )
        ends = draw_elements(self.steps, drawing, [*ends, (node, again)])
        drawing.node(text, ends, ("{", "}"), node)
        return [(node, "yes" if self.until is not None else "")]

    def inside(self) -> Iterator[Sequence[Element]]:
        """See `Element`."""
        return iter((self.steps,))


class Router(Element):
    """One of several ways, chosen by name.

    Args:
        choose: a function or an agent that is given the value and returns the name of a route (text, or an `Enum`
            whose value is one); a step. A choice that is no route is a failure of the step: it is tried again as its
            `retry` says, and when the run is resumed.
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
        chosen: Any = await context.decide(self.choose, self._route, given_to(self.choose, value))
        return await run_elements(context, self.routes[self._route(chosen)], value)

    def _route(self, chosen: Any) -> str:
        """The route of that name; of an agent's text, also where it is written a little differently."""
        name = chosen.value if isinstance(chosen, Enum) else chosen
        if isinstance(name, str) and name in self.routes:
            return name
        if isinstance(name, str) and is_agent(self.choose):
            words = plain_words(name)
            alike = [route for route in self.routes if plain_words(route) == words]
            if len(alike) == 1:
                return alike[0]
        raise InvalidInputError(
            f"{self.name!r} has chosen {name!r:.200}; the routes are {', '.join(map(repr, self.routes))}."
        )

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
    """The result of the last one of some elements; the value itself if there are none."""
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
