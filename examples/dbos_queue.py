"""DBOS queues the work and starts it again after a crash; Sessile keeps the sessions and what was done already.

    python dbos_queue.py ask ID QUESTION     # queue a request and wait for its answer
    python dbos_queue.py recover ID          # after a crash: wait for the answer of a request that was queued before

Both keep SQLite files in the current folder; PostgreSQL for both needs other URLs and nothing else.
"""

import os
import sys

from dbos import DBOS, SetWorkflowID
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import Agent, Context, SqliteStorage, current_step, workflow

storage = SqliteStorage("sessions.db", lease=1.0)


def offline(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """A model that needs no network; put the name of yours in its place."""
    print("the model is asked", flush=True)
    return ModelResponse(parts=[TextPart(f"I have seen {len(messages)} messages.")])


support = Agent(FunctionModel(offline), name="support", storage=storage, history="all")


async def deliver(answer: str) -> str:
    print(f"delivered as {current_step().idempotency_key}: {answer}", flush=True)
    if os.environ.pop("CRASH", None):
        os._exit(9)
    return answer


@workflow(storage=storage)
async def handle(ctx: Context, question: str) -> str:
    answer = await ctx.step(support, question, session_id=f"chat-{ctx.user_id}")
    return await ctx.step(deliver, answer)


# DBOS tries again while the lease of a process that is gone has not run out yet.
@DBOS.step(retries_allowed=True, interval_seconds=0.5, max_attempts=10)
async def handled(request_id: str, user_id: str, question: str) -> str:
    result = await handle.arun(question, session_id=f"request-{request_id}", run_id=request_id, user_id=user_id)
    return result.output


@DBOS.workflow()
async def request(user_id: str, question: str) -> str:
    assert DBOS.workflow_id is not None
    return await handled(DBOS.workflow_id, user_id, question)


def main(command: str, request_id: str, question: str = "") -> None:
    DBOS(config={"name": "support", "system_database_url": "sqlite:///dbos.sqlite", "log_level": "ERROR"})
    DBOS.launch()  # starts again what was interrupted
    try:
        if command == "ask":
            DBOS.register_queue("requests", concurrency=2)
            with SetWorkflowID(request_id):
                handle_of = DBOS.enqueue_workflow("requests", request, "ada", question)
        else:
            handle_of = DBOS.retrieve_workflow(request_id)
        print("answer:", handle_of.get_result())
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main(*sys.argv[1:])
