"""A tool that needs a person's approval. One process asks for it and ends; another one continues with the decision.

python approval.py            runs both, one after the other
python approval.py ask        the first: the run pauses, and is stored
python approval.py approve    the second; `deny` refuses
"""

import os
import subprocess
import sys

from pydantic_ai import Tool

from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel


def refund(order: int, amount: float) -> str:
    """Pay money back."""
    return f"paid {amount:.2f} back for order {order}"


storage = SqliteStorage("approval.db")
agent = Agent(
    OfflineModel(introduce=False), name="support", storage=storage, tools=[Tool(refund, requires_approval=True)]
)


def ask() -> None:
    """Begin a run that asks for a tool which must not be called yet."""
    result = agent.run('Please call refund {"order": 7, "amount": 12.5}.', session_id="order-7")
    print(f"process {os.getpid()}: the run is {result.status}")


def decide(approved: bool) -> None:
    """Look up what the stored runs wait for, and resume them."""
    for run in storage.runs("order-7", status="paused"):
        decisions: dict[str, bool] = {}
        for call in run.pending["requests"]["approvals"]:
            print(f"process {os.getpid()}: {'approved' if approved else 'denied'} {call['tool_name']} {call['args']}")
            decisions[call["tool_call_id"]] = approved
        result = agent.resume("order-7", run_number=run.number, approvals=decisions)
        print(f"process {os.getpid()}: the run is {result.status}: {result.output}")


if __name__ == "__main__":
    step = sys.argv[1] if len(sys.argv) > 1 else "both"
    if step == "both":
        for argument in ("ask", "approve"):
            subprocess.run([sys.executable, __file__, argument], check=True)
    elif step == "ask":
        ask()
    else:
        decide(step == "approve")
