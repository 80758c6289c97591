"""Agents with sessions: on Pydantic AI, which does models, tools, streaming, retries and approval."""

from .agent import Agent
from .capability import SessionCapability
from .handle import SessionHandle
from .history import AllRuns, LastRuns, RollingSummary, TokenBudget, Window
from .result import RunResult
from .state import CurrentSession, current_session, session_state

__all__ = [
    "Agent",
    "AllRuns",
    "CurrentSession",
    "LastRuns",
    "RollingSummary",
    "RunResult",
    "SessionCapability",
    "SessionHandle",
    "TokenBudget",
    "Window",
    "current_session",
    "session_state",
]
