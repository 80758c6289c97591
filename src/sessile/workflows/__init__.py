"""Workflows: plain Python as steps, whose results are kept in the session that they belong to."""

from .context import Context, SyncContext
from .declared import Condition, Loop, Parallel, Router, Wait
from .events import WorkflowEvent
from .result import StepRecord, WorkflowResult
from .runtime import CurrentStep, current_step
from .steps import Retry, Step, step
from .streaming import AsyncWorkflowStream, WorkflowStream
from .workflow import Workflow, workflow

__all__ = [
    "AsyncWorkflowStream",
    "Condition",
    "Context",
    "CurrentStep",
    "Loop",
    "Parallel",
    "Retry",
    "Router",
    "Step",
    "StepRecord",
    "SyncContext",
    "Wait",
    "Workflow",
    "WorkflowEvent",
    "WorkflowResult",
    "WorkflowStream",
    "current_step",
    "step",
    "workflow",
]
