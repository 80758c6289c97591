"""DBOS keeps the time: a request that is sent later, and one that comes by a schedule. Sessile keeps the sessions.

    python dbos_later.py later ID SECONDS QUESTION   # ask after so many seconds, and wait for the answer
    python dbos_later.py daily COUNT CRON            # ask by a schedule, and wait until it has come so many times

What was sent survives the process: whichever runs when it is due asks. Each delivery is one run, by its id.
"""

import sys
import time
from datetime import datetime

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, SqliteStorage

storage = SqliteStorage("sessions.db")


def offline(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """A model that needs no network; put the name of yours in its place."""
    return ModelResponse(parts=[TextPart(f"I have seen {len(messages)} messages.")])


support = Agent(FunctionModel(offline), name="support", storage=storage, history="all", on_busy="queue")


@DBOS.step(retries_allowed=True, max_attempts=5)
async def asked(run_id: str, question: str) -> str:
    result = await support.arun(question, session_id="chat", user_id="ada", run_id=run_id)
    return result.output


@DBOS.workflow()
async def request(question: str) -> str:
    assert DBOS.workflow_id is not None
    return await asked(DBOS.workflow_id, question)


@DBOS.workflow()
async def report(due: datetime, question: str) -> str:
    assert DBOS.workflow_id is not None
    return await asked(DBOS.workflow_id, f"{question} ({due:%A})")


def later(request_id: str, seconds: str, question: str) -> None:
    DBOS.register_queue("requests")
    with SetWorkflowID(request_id), SetEnqueueOptions(delay_seconds=float(seconds)):
        sent = DBOS.enqueue_workflow("requests", request, question)
    print("runs now:", support.session("chat", user_id="ada").runs())
    print("answer:", sent.get_result())


def daily(count: str, cron: str = "0 8 * * *") -> None:
    if not DBOS.get_schedule("report"):
        DBOS.create_schedule(schedule_name="report", workflow_fn=report, schedule=cron, context="What is new?")
    while len(done := support.session("chat", user_id="ada").runs()) < int(count):
        time.sleep(0.1)
    print("asked:", done[0].input)
    DBOS.delete_schedule("report")


def main(command: str, *arguments: str) -> None:
    DBOS(config={"name": "support", "system_database_url": "sqlite:///dbos.sqlite", "log_level": "ERROR"})
    DBOS.launch()
    try:
        {"later": later, "daily": daily}[command](*arguments)
    finally:
        DBOS.destroy(workflow_completion_timeout_sec=2)


if __name__ == "__main__":
    main(*sys.argv[1:])
