"""An agent that remembers: run this program twice, and the second process knows what the first one asked."""

from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel  # or a name, for example "openai:gpt-5-mini"

agent = Agent(OfflineModel(), name="remember", storage=SqliteStorage("remember.db"))

for question in ("What was my last question?", "What is the capital of France?"):
    print(f"> {question}\n{agent.run(question, session_id='s1').output}")
