"""Agents with sessions: on Pydantic AI, which does models, tools, streaming, retries and approval."""

from ..live.result import RunResult
from ..live.session import CurrentSession, app_state, current_session, session_state, temp_state, user_state
from ..records import Handoff
from .agent import Agent
from .capability import SessionCapability
from .events import MemberEnded, MemberStarted, TeamEvent
from .filing import session_files
from .forms import ask_person
from .handle import AgentSession
from .history.chosen import Auto, Relevant
from .history.measured import Budget
from .history.shortened import Shortened
from .history.summary import RollingSummary
from .history.tools import PastSessions
from .history.windows import AllRuns, LastRuns, TokenBudget, Window
from .memory import Memory
from .messages.openai import from_openai, to_openai
from .run.company import TeamRequest
from .started import StartedRun
from .team import Team
from .team.modes import Members

__all__ = [
    "Agent",
    "AllRuns",
    "Auto",
    "Budget",
    "CurrentSession",
    "Handoff",
    "LastRuns",
    "MemberEnded",
    "MemberStarted",
    "Members",
    "Memory",
    "PastSessions",
    "Relevant",
    "RollingSummary",
    "RunResult",
    "SessionCapability",
    "Shortened",
    "AgentSession",
    "StartedRun",
    "Team",
    "TeamEvent",
    "TeamRequest",
    "TokenBudget",
    "Window",
    "app_state",
    "ask_person",
    "current_session",
    "from_openai",
    "session_files",
    "session_state",
    "temp_state",
    "to_openai",
    "user_state",
]
