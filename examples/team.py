"""A team whose members share a session and its state. Run it twice: the second process continues the first one's.

The stand-in for a language model does what it is told: `call TOOL {json}`. A real leader chooses by itself.
"""

import json

from sessile import Agent, SqliteStorage, Team, session_state
from sessile.agents.offline import OfflineModel  # or a name, for example "openai:gpt-5-mini"


def note(text: str) -> str:
    """Write something down for the whole team."""
    notes = session_state().setdefault("notes", [])
    notes.append(text)
    return f"{len(notes)} on the list"


model = OfflineModel(introduce=False)
storage = SqliteStorage("team.db")
geographer = Agent(model, name="geographer", description="Knows countries and capitals.")
secretary = Agent(model, name="secretary", description="Writes things down.", tools=[note])
team = Team([geographer, secretary], model, name="office", storage=storage, session_id="s1")


def ask(member: str, task: str) -> str:
    """What makes the stand-in ask a member."""
    return f"call delegate_task {json.dumps({'member': member, 'task': task})}"


for request in (
    ask("geographer", "What was my last question?"),
    ask("geographer", "What is the capital of France?") + "\n" + ask("secretary", 'call note {"text": "Paris"}'),
):
    result = team.run(request)
    print(f"run {result.number} of {result.agent}, {result.status}, {result.usage.requests} requests")
    for child in storage.get_run("s1", result.number).children:
        print(f"  {child.agent}, {child.usage.requests} requests: {child.output}")

print("state:", team.session().state())
