"""Agents with sessions: on Pydantic AI, which does models, tools, streaming, retries and approval."""

from .agent import Agent
from .capability import SessionCapability
from .handle import SessionHandle
from .history import AllRuns, LastRuns, RollingSummary, TokenBudget, Window
from .result import RunResult
from .state import CurrentSession, current_session, session_state
from .team import Team
from .team_events import MemberEnded, MemberStarted, TeamEvent
from .teamwork import Members

__all__ = [
    "Agent",
    "AllRuns",
    "CurrentSession",
    "LastRuns",
    "MemberEnded",
    "MemberStarted",
    "Members",
    "RollingSummary",
    "RunResult",
    "SessionCapability",
    "SessionHandle",
    "Team",
    "TeamEvent",
    "TokenBudget",
    "Window",
    "current_session",
    "session_state",
]
