"""The session on the spans of a run: Pydantic AI's, and those of all that works inside it."""

from __future__ import annotations

from typing import Any

from ..errors import SessileError
from ..live.session import current_session

SESSION, RUN, USER, AGENT = "sessile.session.id", "sessile.run.id", "user.id", "sessile.agent.name"
CONVERSATION = "gen_ai.conversation.id"
"""The conventions' own name for a session (semantic-conventions-genai, in development)."""


def ids_here() -> dict[str, str]:
    """Which session, run and user the code at hand works for; empty outside a run."""
    try:
        session = current_session()
    except SessileError:
        return {}
    if session.ended:
        return {}
    found = {SESSION: session.session_id, CONVERSATION: session.session_id, RUN: session.run_id}
    for name, value in ((USER, session.user_id), (AGENT, session.agent)):
        if value is not None:
            found[name] = value
    return found


class SessionSpans:
    """A span processor for the SDK: every span that begins inside a run says whose it is.

    It gets `sessile.session.id` (and, as the conventions have it, `gen_ai.conversation.id`), `sessile.run.id`,
    `user.id` and `sessile.agent.name`.

    ```python
    provider.add_span_processor(SessionSpans())
    ```
    """

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """Called by the SDK when a span begins."""
        ids = ids_here()
        if ids:
            span.set_attributes(ids)

    def on_end(self, span: Any) -> None:
        """Called by the SDK when a span has ended: nothing is left to do."""

    def _on_ending(self, span: Any) -> None:
        """Called by the SDK just before a span ends."""

    def shutdown(self) -> None:
        """Called by the SDK at its end: nothing is held."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Called by the SDK; nothing waits to be sent."""
        return True
