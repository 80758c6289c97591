"""What was asked, found, rated and spent: questions over all sessions, and a user's budget before the next run.

python looking_back.py
"""

from datetime import UTC, datetime, timedelta

from sessile import ANY_USER, Agent, SqliteStorage
from sessile.agents.offline import OfflineModel
from sessile.insight import Index

storage = SqliteStorage("support.db")
agent = Agent(OfflineModel(introduce=False), name="support", storage=storage)
index = Index(storage)
BUDGET = 500  # tokens a day
today = datetime.now(UTC) - timedelta(days=1)

for user, question in (
    ("ada", "Where is my order ORD-7781?"),
    ("ada", "I want a refund."),
    ("bob", "A refund for bob."),
):
    spent = index.usage(user_id=user, since=today).total.usage  # exact up to the newest commit
    if spent.input_tokens + spent.output_tokens > BUDGET:
        print(user, "has nothing left for", repr(question))
        continue
    result = agent.run(question, session_id=f"{user}-1", user_id=user)
    storage.rate(f"{user}-1", result.run_id, score="refund" not in question, source="user", user_id=user)

for hit in index.search("refund", user_id=ANY_USER):
    print(f"{hit.session_id}: {hit.snippets[0].text}")
for run in index.runs(user_id=ANY_USER, source="user", max_score=0):
    print(f"not good: {run.session_id} {run.number}")
for row in index.usage(user_id=ANY_USER, by="user").rows:
    print(f"{row.group[0]}: {row.runs} runs, {row.usage.input_tokens + row.usage.output_tokens} tokens")
storage.close()
