"""The session logic as a Pydantic AI capability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

from pydantic_ai import RunContext
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, WrapRunHandler
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT

from ..errors import InvalidInputError
from ..live.session import enter
from ..records import UserId
from ..storage.checks import check_choice, check_seconds
from ..storage.ids import uuid7
from ..storage.scopes import checked_scopes
from ..storage.storage import Storage, check_storage
from ..storage.turns import Durability, OnBusy, TurnSpec
from .history.accepted import accepted
from .history.past import SessionPast
from .history.windows import History, window_of
from .models import override_of
from .run.ending import store_failure, store_result
from .run.recorder import Recorder
from .run.steps import SessionSteps


@dataclass
class SessionCapability(SessionSteps[AgentDepsT]):
    """Gives a bare `pydantic_ai.Agent` sessions: history before a run, everything stored after it.

    ```python
    agent = pydantic_ai.Agent("openai:gpt-5-mini", capabilities=[SessionCapability(storage)])
    agent.run_sync("What is my name?", conversation_id="s1")
    ```

    The session's id is the run's `conversation_id` unless `session_id` is given; the history comes from the storage,
    so do not pass `message_history`. The state is there as in a Sessile `Agent` (`session_state()`, `{placeholders}`
    in instructions).

    What only `sessile.Agent` can do, because a capability cannot: continue a paused run with the user's decisions
    (`resume`; deferred tool results must be there before the run begins), resume an interrupted run, hold the run's
    lease beyond its first term, store on SIGTERM, and raise `NotStoredError` when a run has failed and could not be
    stored either: Pydantic AI then raises the run's own error, with ours as its context. An agent with a
    `system_prompt` (not `instructions`) needs Pydantic AI's `ReinjectSystemPrompt(replace_existing=True)` beside it,
    because the window may not reach back to the run that the prompt was stored with.

    Args:
        storage: where the sessions are kept.
        session_id, user_id: whose session; `session_id` defaults to the run's `conversation_id`.
        history: the window of earlier runs that is sent along; see `Agent`.
        state: what the state of a new session begins with.
        scopes: which states that outlive the session are at hand; see `Agent`.
        durability: `"run"`, `"step"` or `"exit"`; see `Agent`.
        on_busy, queue_timeout: see `Agent`.
        agent: the name to store; default: the agent's name.
    """

    partial_functions: ClassVar[bool] = True

    storage: Storage
    _: KW_ONLY
    session_id: str | None = None
    user_id: UserId = None
    history: History = 3
    state: dict[str, Any] | None = None
    scopes: Sequence[str] = ()
    durability: Durability = "run"
    on_busy: OnBusy = "parallel"
    queue_timeout: float = 600.0
    agent: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could only fail, or do something else, when the agent runs."""
        check_storage(self.storage)
        if self.storage is None:  # pyright: ignore[reportUnnecessaryComparison] (an agent may have none, this may not)
            raise InvalidInputError("A SessionCapability needs a storage.")
        check_choice(self.durability, "durability", ("run", "step", "exit"))
        check_choice(self.on_busy, "on_busy", ("parallel", "queue", "reject"))
        check_seconds(self.queue_timeout, "queue_timeout")

    def get_ordering(self) -> CapabilityOrdering | None:
        """Outermost: what is stored is the result of the run after all other capabilities."""
        return CapabilityOrdering(position="outermost")

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractCapability[AgentDepsT]:
        """A capability of the run's own, so that nothing of one run reaches another."""
        return replace(self, recorder=None)

    async def wrap_run(self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler) -> AgentRunResult[Any]:
        """Load the history, commit the start, run, and commit the end, whatever it is."""
        recorder = await self._begin(ctx)
        try:
            result = await handler()
        except BaseException as error:
            await store_failure(recorder, error)
            raise
        await store_result(recorder, result)
        return result

    async def _begin(self, ctx: RunContext[AgentDepsT]) -> Recorder:
        if ctx.messages:
            raise InvalidInputError("A run with a storage takes its history from there; do not pass message_history.")
        session_id = self.session_id or ctx.conversation_id or uuid7()
        agent = self.agent or (ctx.agent.name if ctx.agent is not None else None)
        spec = TurnSpec(
            session_id,
            run_id=ctx.run_id or uuid7(),
            input=None,
            user_id=self.user_id,
            agent=agent,
            durability=self.durability,
            on_busy=self.on_busy,
            queue_timeout=self.queue_timeout,
            session={"state": self.state} if self.state else {},
            scopes=checked_scopes(self.scopes),
        )
        window = window_of(self.history)
        recorder = await Recorder.begin(self.storage, spec, ctx.prompt, window.newest)
        past = SessionPast(self.storage, recorder.turn, recorder.media, ctx.model)
        past.override = override_of(ctx.agent)
        try:
            ctx.messages[:0] = accepted(await window.select(past), ctx.model)
        finally:
            recorder.meter.beside = past.used
        enter(recorder.session)
        self.recorder = recorder
        return recorder
