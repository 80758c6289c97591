"""An agent that learns from good answers: a person corrects one, and the next question like it is answered that way.

python few_shot.py
"""

from sessile import ANY_USER, Agent, SqliteStorage
from sessile.agents.offline import OfflineModel
from sessile.insight import Examples, Index

storage = SqliteStorage("support.db")
index = Index(storage)


def good_answers(question: str) -> Examples:
    """Up to three good answers to questions like this one, as the index knows them at this moment."""
    return index.examples(user_id=ANY_USER, agent="support", label="good", like=question, limit=3, tokens=1000)


agent = Agent(OfflineModel(introduce=False), name="support", storage=storage, examples=good_answers)

first = agent.run("How do I cancel my subscription?", session_id="monday", user_id="ada")
print("before:", first.output)

# The corrected answer is feedback: an entry of the log, which makes the run an example.
storage.rate(
    "monday",
    first.run_id,
    label="good",
    correction="Under Account, choose “Cancel”. It ends with the month.",
    source="editor",
    user_id="ada",
)
print(index.examples(user_id=ANY_USER, label="good").prompt())

second = agent.run("Can I cancel the subscription?", session_id="tuesday", user_id="bob")
shown = storage.get_run("tuesday", 1, user_id="bob").examples
print("shown to the model:", [(one["session_id"], one["run"]) for one in shown])
storage.close()
