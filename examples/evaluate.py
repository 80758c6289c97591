"""A changed agent is tried on what people have really asked, and compared with what they got.

python evaluate.py            runs again, prints the report, and writes report.html
"""

from pathlib import Path

from sessile import ANY_USER, Agent, SqliteStorage
from sessile.agents.offline import OfflineModel
from sessile.evaluation import Contains, Outcome, cases, replay


def price(item: str) -> str:
    """What something costs."""
    return {"bread": "3 euros", "milk": "2 euros"}.get(item, "nobody knows")


def agent(model: OfflineModel) -> Agent[str]:
    """The agent of the shop, with one model or another."""
    return Agent(model, name="shop", storage=storage, tools=[price])


def is_short(outcome: Outcome) -> bool:
    """An evaluator of our own."""
    return len(str(outcome.output)) < 60


storage = SqliteStorage("shop.db")
if not storage.count_sessions(user_id=ANY_USER):
    old = agent(OfflineModel(introduce=True))
    for text in ("My name is Ada.", "What is my name?", 'call price {"item": "bread"}'):
        old.run(text, session_id="s1", user_id="ada")

report = replay(
    agent(OfflineModel(introduce=False)),
    cases(storage, user_id=ANY_USER, agent="shop"),
    evaluators=[Contains("Ada"), is_short],
    experiment="no introduction",  # run it again: nothing is asked twice
    tools="log",
)
print(report.text())
Path("report.html").write_text(report.html(), "utf-8")
storage.close()
