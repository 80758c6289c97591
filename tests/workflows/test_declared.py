"""Workflows that are declared: what they do, and how they are drawn."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from pydantic_ai.models.test import TestModel

from sessile import (
    Agent,
    Condition,
    Context,
    Loop,
    Parallel,
    Router,
    SqliteStorage,
    Step,
    Wait,
    Workflow,
    workflow,
)
from sessile.errors import InvalidInputError, StepFailedError, UnsupportedError


def double(value: int) -> int:
    return value * 2


async def increase(value: int) -> int:
    return value + 1


def is_large(value: Any) -> bool:
    return value > 10


class Kind(enum.Enum):
    EVEN = "even"
    ODD = "odd"


def kind(value: int) -> Kind:
    return Kind.ODD if value % 2 else Kind.EVEN


def total(values: dict[str, int]) -> int:
    return sum(values.values())


EVERYTHING = [
    double,
    Parallel(increase, both=[double, increase]),
    total,
    Condition(is_large, then=[increase], otherwise=Loop([double], until=is_large, max_iterations=5)),
    Router(kind, {"even": increase, "odd": [double, increase]}),
    Loop(increase, max_iterations=2),
]


def test_everything(storage: SqliteStorage) -> None:
    flow: Workflow[int] = Workflow(steps=EVERYTHING, name="all", storage=storage)
    # 1: 2; {3, 5}; 8; not large: 16, large; even: 17; 18; 19
    assert flow.run(1, session_id="s").output == 19
    # 5: 10; {11, 21}; 32; large: 33; odd: 66, 67; 68; 69
    assert flow.run(5).output == 69
    assert [one.name for one in flow.journal("s")] == [
        "double",
        "increase",
        "double",
        "increase",
        "total",
        "is_large",
        "double",
        "is_large",
        "kind",
        "increase",
        "increase",
        "increase",
    ]
    assert repr(flow) == "Workflow('all')"


def test_going_on(storage: SqliteStorage) -> None:
    fail = [True]
    calls: list[int] = []

    def decide(value: int) -> bool:
        calls.append(value)
        return True

    def maybe(value: int) -> int:
        if fail:
            raise OSError("down")
        return value

    flow: Workflow[int] = Workflow(
        steps=[Condition(decide, Parallel(double, maybe)), total, Wait("go")], name="flow", storage=storage
    )
    with pytest.raises(StepFailedError):
        flow.run(4, session_id="s")
    fail.clear()
    assert flow.resume("s").waiting_for == ("go",)
    assert flow.send_event("s", "go", "gone").output == "gone"
    assert calls == [4]


def test_the_drawing() -> None:
    flow: Workflow[Any] = Workflow(steps=[*EVERYTHING, Wait('the "boss"')])
    assert (
        flow.mermaid()
        == """\
flowchart TD
    start((start))
    n1["double"]
    start --> n1
    n2["increase"]
    n1 --> n2
    n3["double"]
    n1 --> n3
    n4["increase"]
    n3 --> n4
    n5["total"]
    n2 --> n5
    n4 --> n5
    n6{"is_large?"}
    n5 --> n6
    n7["increase"]
    n6 -->|"yes"| n7
    n9["double"]
    n6 -->|"no"| n9
    n8 -->|"no"| n9
    n8{"is_large?"}
    n9 --> n8
    n10{"kind?"}
    n7 --> n10
    n8 -->|"yes"| n10
    n11["increase"]
    n10 -->|"even"| n11
    n12["double"]
    n10 -->|"odd"| n12
    n13["increase"]
    n12 --> n13
    n15["increase"]
    n11 --> n15
    n13 --> n15
    n14 -->|"again"| n15
    n14{"2 times"}
    n15 --> n14
    n16(["wait for the #quot;boss#quot;"])
    n14 --> n16
    finish((end))
    n16 --> finish
"""
    )


def test_all_branches_of_a_loop_are_drawn_as_done_again() -> None:
    flow: Workflow[Any] = Workflow(steps=[Loop(Parallel(double, increase), max_iterations=2)])
    again = [line for line in flow.mermaid().splitlines() if "again" in line]
    assert again == ['    n1 -->|"again"| n2', '    n1 -->|"again"| n3']


def test_names_in_the_drawing_are_only_text() -> None:
    name = '`a`"]\n    click n1 "javascript:x"\r<b>#9829; & %% '
    flow: Workflow[Any] = Workflow(steps=[Router(Step(int, name), {name: [Wait(name)]})])
    shown = "#96;a#96;#quot;]     click n1 #quot;javascript:x#quot; #lt;b#gt;#35;9829; #amp; %% "
    assert flow.mermaid().splitlines()[2:6] == [
        f'    n1{{"{shown}?"}}',
        "    start --> n1",
        f'    n2(["wait for {shown}"])',
        f'    n1 -->|"{shown}"| n2',
    ]


def test_looking_through() -> None:
    flow: Workflow[Any] = Workflow(steps=EVERYTHING)

    def names(elements: Any) -> list[Any]:
        return [
            [one.name, *(names(inner) for inner in one.inside())] if any(one.inside()) else one.name for one in elements
        ]

    assert names(flow.steps) == [
        "double",
        ["parallel", ["increase"], ["double", "increase"]],
        "total",
        ["is_large", ["increase"], [["loop", ["double"]]]],
        ["kind", ["increase"], ["double", "increase"]],
        ["loop", ["increase"]],
    ]


def test_an_agent_chooses(storage: SqliteStorage) -> None:
    router = Router(Agent(TestModel(custom_output_text="nowhere"), name="clerk"), {"here": double})
    flow: Workflow[Any] = Workflow(steps=[router], storage=storage)
    with pytest.raises(StepFailedError, match="'clerk' has chosen 'nowhere'; the routes are 'here'"):
        flow.run("x")


def test_inside_a_function(storage: SqliteStorage) -> None:
    declared: Workflow[int] = Workflow(steps=[double, increase], name="declared")

    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        return await ctx.step(declared, 3) + await ctx.step(declared, 4)

    assert flow.run().output == 16
    with pytest.raises(UnsupportedError, match="is a function"):
        flow.mermaid()


def test_what_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Two parallel branches are called 'double'"):
        Parallel(double, Step(double))
    with pytest.raises(InvalidInputError, match="at least one branch"):
        Parallel()
    with pytest.raises(InvalidInputError, match="at least one route"):
        Router(kind, {})
    with pytest.raises(InvalidInputError, match="max_iterations must be"):
        Loop(double, max_iterations=0)
