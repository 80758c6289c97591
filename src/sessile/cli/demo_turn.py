"""One process of the demo: it makes an agent, asks it some questions, prints the answers, and is gone.

    python -m sessile.cli.demo_turn MODEL DATABASE QUESTION...

An empty DATABASE makes an agent without storage. Each line of the output is a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from ..agents import Agent
from ..agents.offline import OfflineModel
from ..drivers.sqlite import SqliteStorage

SESSION = "demo"
USER = "ada"
INSTRUCTIONS = "Answer in one short sentence, from what was said in this conversation and what you know."


def main(arguments: Sequence[str]) -> None:
    """Ask the questions of the command line, one after the other, in one session."""
    model, database, *questions = arguments
    storage = SqliteStorage(database) if database else None
    agent = Agent(
        OfflineModel() if model == "offline" else model,
        name="demo",
        instructions=INSTRUCTIONS,
        storage=storage,
        history=3,
    )
    for question in questions:
        result = agent.run(question, session_id=SESSION, user_id=USER)
        print(json.dumps({"process": os.getpid(), "question": question, "answer": str(result.output)}), flush=True)
    if storage is not None:
        storage.close()


if __name__ == "__main__":
    main(sys.argv[1:])
