"""A tool that changes the session's state, and instructions that show it. The state stays when the process is gone.

The offline model calls a tool when it is told to (`call TOOL {json}`); a language model decides that by itself.
"""

from sessile import Agent, SqliteStorage, session_state
from sessile.agents.offline import OfflineModel


def put(item: str) -> str:
    """Put an item into the user's basket."""
    basket = session_state()["basket"]
    basket.append(item)
    return f"{len(basket)} in the basket"


storage = SqliteStorage("basket.db")
agent = Agent(
    OfflineModel(introduce=False),
    name="shop",
    storage=storage,
    tools=[put],
    state={"customer": "Ada", "basket": []},  # what a new session begins with
    instructions="You serve {customer}, whose basket holds {basket}.",
)

for text in ('call put {"item": "bread"}', 'call put {"item": "milk"}', "What are your instructions?"):
    print(f"> {text}\n{agent.run(text, session_id='s1', user_id='ada').output}")

session = storage.get_session("s1", user_id="ada")
print("In the database:", session.state if session else "no session")
