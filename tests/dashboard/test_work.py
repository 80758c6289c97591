"""What teams and workflows have done, and what is decided where no agent is served."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect
from pydantic_ai import Tool
from tests.dashboard.conftest import OpenPage, serving

from sessile import Agent, Context, SqliteStorage, Team, workflow
from sessile.agents.offline import OfflineModel
from sessile.server import create_app


def test_a_teams_run_says_what_it_has_used_itself(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    member = Agent(OfflineModel(introduce=False), name="researcher", description="Finds facts.")
    team = Team([member], OfflineModel(introduce=False), name="desk", storage=storage)
    team.run('call delegate_task {"member": "researcher", "task": "What is the capital of France?"}', session_id="s1")
    run = storage.get_run("s1", 1)
    assert run.children
    assert run.usage.input_tokens > run.own_usage.input_tokens > 0
    page = open_page(f"{address}#/session/s1")
    head = page.get_by_role("article", name="Run 1").locator(".run-head .facts")
    used = run.own_usage.input_tokens + run.own_usage.output_tokens
    all_used = run.usage.input_tokens + run.usage.output_tokens
    expect(head).to_contain_text(f"{all_used:,} tok")
    expect(head).to_contain_text(f"own {used:,} tok")
    # In the list of runs, too, a run's figures are with its members.
    page.goto(f"{address}#/runs")
    row = page.get_by_role("row").nth(1)
    expect(row).to_contain_text(f"{all_used:,} tok")
    expect(row).to_contain_text(f"own {used:,} tok")


def test_all_steps_of_a_long_workflow_can_be_seen(storage: SqliteStorage, address: str, open_page: OpenPage) -> None:
    async def show(number: int) -> str:
        return f"number {number}"

    @workflow(storage=storage)
    async def many(ctx: Context, count: int) -> int:
        for number in range(count):
            await ctx.step(show, number)
        return count

    many.run(230, session_id="s1")
    many.run(1, session_id="s1")
    page = open_page(f"{address}#/session/s1?run=2")
    expect(page.get_by_role("article", name="Run 2")).to_be_in_viewport()  # below the many steps of run 1
    expect(page.get_by_role("textbox", name="Go to run")).to_have_value("2")
    steps = page.get_by_role("region", name="Steps, Run 1")
    expect(steps.get_by_role("listitem")).to_have_count(200)
    steps.get_by_role("button", name="Show more: 200 of 230 steps").click()
    expect(steps.get_by_role("listitem")).to_have_count(230)
    steps.get_by_role("listitem").last.get_by_role("button").click()
    expect(steps.locator(".step-opened")).to_contain_text("number 229")


def test_a_decision_where_the_agent_is_not_served_waits_for_whoever_serves_it(
    storage: SqliteStorage, address: str, open_page: OpenPage
) -> None:
    paid: list[str] = []

    def pay(to: str) -> str:
        """Pay somebody."""
        paid.append(to)
        return f"Paid {to}."

    tools = [Tool(pay, requires_approval=True)]
    agent = Agent(OfflineModel(introduce=False), name="payments", storage=storage, durability="step", tools=tools)
    agent.run('call pay {"to": "Curie"}', session_id="s1")
    page = open_page(f"{address}#/waiting")
    expect(page.get_by_text("What you decide is kept")).to_be_visible()
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("Decided.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Decided.")).to_be_visible()
    assert paid == []
    agent.resume("s1")
    assert paid == ["Curie"]
    page.reload()
    expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()


def test_a_decision_that_was_made_elsewhere_is_carried_out_here(
    storage: SqliteStorage, open_page: OpenPage, tmp_path: Path
) -> None:
    def read(name: str) -> str:
        """Read a file."""
        return f"{name} was read."

    tools = [Tool(read, requires_approval=True)]
    agent = Agent(OfflineModel(introduce=False), name="reader", storage=storage, durability="step", tools=tools)
    agent.run('call read {"name": "notes"}', session_id="s1")
    (waits,) = storage.waiting().items
    storage.decide("s1", approvals={waits.asked[0]["tool_call_id"]: True})
    with serving(create_app([agent], storage=storage)) as served:
        page = open_page(f"{served}#/waiting")
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_role("heading", name="Nothing waits for you")).to_be_visible()
    assert "notes was read." in str(storage.get_run("s1", 1).output)
