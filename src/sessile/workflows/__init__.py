"""Workflows: plain Python as steps, whose results are kept in the session that they belong to."""

from .context import Context, SyncContext
from .declared.elements import Condition, Loop, Parallel, Router, Wait
from .run.earlier import EarlierRun
from .run.events import WorkflowEvent
from .run.result import StepRecord, WorkflowResult
from .run.runtime import CurrentStep, current_step
from .run.values import register_value_type
from .steps.step import Retry, Step, step
from .streaming import AsyncWorkflowStream, WorkflowStream
from .workflow import Workflow
from .written import WrittenWorkflow, workflow

__all__ = [
    "AsyncWorkflowStream",
    "Condition",
    "Context",
    "CurrentStep",
    "EarlierRun",
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
    "WrittenWorkflow",
    "current_step",
    "register_value_type",
    "step",
    "workflow",
]
