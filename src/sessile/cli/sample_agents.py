"""Agents, a team and a workflow that `sessile demo --dashboard` serves, with a stand-in for a model: no key needed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pydantic_ai import Tool

from ..agents import Agent, Team
from ..agents.offline import OfflineModel
from ..storage import Storage
from ..workflows import Context, Retry, Workflow, step

_tries: dict[str, int] = {}


def find_order(order: str) -> dict[str, Any]:
    """Look an order up."""
    return {"order": order, "status": "delivered", "total": 89.0}


def pay(to: str, amount: float) -> str:
    """Pay somebody."""
    return f"${amount:.2f} are on their way to {to}."


@step
async def find_customer(name: str) -> dict[str, Any]:
    """Who it is about."""
    await asyncio.sleep(0.05)
    return {"name": name, "country": "FR"}


@step(retry=Retry(on=ConnectionError, attempts=3, wait_initial=0.1, wait_jitter=0))
async def check_address(customer: dict[str, Any]) -> bool:
    """Ask a service that does not answer at first."""
    _tries[customer["name"]] = _tries.get(customer["name"], 0) + 1
    await asyncio.sleep(0.06)
    if _tries[customer["name"]] == 1:
        raise ConnectionError("the service did not answer")
    return True


@step
async def make_account(customer: dict[str, Any]) -> str:
    """An account."""
    await asyncio.sleep(0.18)
    return f"account of {customer['name']}"


@step(cache=3600)
async def read_terms(country: str) -> str:
    """The terms of a country."""
    await asyncio.sleep(0.04)
    return f"terms of {country}, 2026"


@step
async def send_welcome(account: str, terms: str) -> str:
    """A letter."""
    await asyncio.sleep(0.07)
    return f"Sent to the {account}, with the {terms}."


async def onboard(ctx: Context, name: str) -> str:
    """Take a customer in."""
    customer = await ctx.step(find_customer, name)
    _, account, terms = await ctx.gather(
        ctx.step(check_address, customer), ctx.step(make_account, customer), ctx.step(read_terms, customer["country"])
    )
    ctx.state["customers"] = [*ctx.state.get("customers", []), name]
    return await ctx.step(send_welcome, account, terms)


def sample_agents(storage: Storage) -> list[Any]:
    """What is served, over this storage."""
    model = OfflineModel(introduce=False)
    support = Agent(model, name="support", storage=storage, durability="step", tools=[find_order])
    payments = Agent(
        model, name="payments", storage=storage, durability="step", tools=[Tool(pay, requires_approval=True)]
    )
    researcher = Agent(model, name="researcher", description="Knows countries and capitals.")
    writer = Agent(model, name="writer", description="Writes what customers read.", tools=[find_order])
    desk = Team([researcher, writer], model, name="desk", storage=storage)
    onboarding = Workflow(onboard, name="onboarding", storage=storage)
    return [support, payments, desk, onboarding]


def run_samples(things: list[Any]) -> None:
    """What they have done by themselves: a payment that waits, a team's work, a workflow."""
    _, payments, desk, onboarding = things
    payments.run(
        f"call pay {json.dumps({'to': 'Curie & Co.', 'amount': 1840.0})}",
        session_id="invoice-curie",
        user_id="margaret",
    )
    payments.storage.rename("invoice-curie", "Invoice of Curie & Co.", user_id="margaret")
    desk.run(
        "call delegate_task "
        + json.dumps({"member": "researcher", "task": "What is the capital of France?"})
        + "\ncall delegate_task "
        + json.dumps({"member": "writer", "task": 'call find_order {"order": "4711"}'}),
        session_id="desk-paris",
        user_id="grace",
    )
    desk.storage.rename("desk-paris", "A letter to Paris", user_id="grace")
    for name in ("Marie", "Irène"):
        onboarding.run(name, session_id="onboarding-curie", user_id="linus")
    onboarding.storage.rename("onboarding-curie", "The Curies become customers", user_id="linus")
