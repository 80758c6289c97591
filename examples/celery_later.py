"""Celery keeps the time: a request that is sent later, and one that comes by a schedule. Sessile keeps the sessions.

    celery -A celery_later worker --beat               # a worker, which also sends what a schedule says
    python celery_later.py ID SECONDS QUESTION         # ask after so many seconds, and wait for the answer

Each delivery is one run, by the id of Celery's task: what is delivered again after a crash continues it.
"""

import os
import sys
import time

from celery import Celery
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, SqliteStorage
from sessile.errors import NotResumableError

app = Celery("celery_later", broker=os.environ.get("BROKER", "redis://localhost"))
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    beat_schedule={
        "report": {
            "task": "celery_later.ask",
            "schedule": float(os.environ.get("EVERY", "86400")),
            "args": ("report", "What is new?"),
        }
    },
)


def offline(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """A model that needs no network; put the name of yours in its place."""
    return ModelResponse(parts=[TextPart(f"I have seen {len(messages)} messages.")])


storage = SqliteStorage("sessions.db")
support = Agent(FunctionModel(offline), name="support", storage=storage, history="all", on_busy="queue")


@app.task(bind=True, autoretry_for=(NotResumableError,), retry_backoff=True)
def ask(self, session_id: str, question: str) -> str:
    return support.run(question, session_id=session_id, user_id="ada", run_id=self.request.id).output


def main(request_id: str, seconds: str, question: str) -> None:
    ask.apply_async(("chat", question), countdown=float(seconds), task_id=request_id)
    print("runs now:", support.session("chat", user_id="ada").runs())
    while not (done := support.session("chat", user_id="ada").runs()) or done[-1].status != "completed":
        time.sleep(0.1)
    print("answer:", done[-1].output)


if __name__ == "__main__":
    main(*sys.argv[1:])
