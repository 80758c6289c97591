"""The words of the log: one class per kind of entry, each of which owns its JSON.

A class says which fields its JSON has, which readers can read it, what it changes in the head and in its run, what a
fork copies of it, and what may be erased. Whoever folds, builds runs, forks or replays a log asks the entries' words;
nobody else looks into their JSON. `docs/format.md` is made of these classes.

To write a word: `RunEnded(status="completed").entry(run_id, number)`. To read one: `RunEnded.read(entry)`, None if the
entry is something else. What every kind answers, one asks its class: `kind_of(entry).fold(head, entry)`.
"""

from .amended import RunAmended
from .files import FilesDeleted, FileWritten
from .heads import SCOPE, HeadBody, body_of, session_of
from .leads import LeadPassed
from .memories import MemoryForgotten, MemoryWritten
from .noted import RunNoted
from .records import CancelRequest, Lease, MediaIndex, Waits
from .runs import (
    KEPT_INTERRUPTED,
    KEPT_PAUSED,
    Given,
    MessageAdded,
    Pending,
    RunEnded,
    RunStarted,
    RunTaken,
    handoff_of,
)
from .scopes import ScopesPatched, ScopesSettled, ScopeWritten
from .sessions import (
    ERASING,
    MetadataPatched,
    ResultKept,
    SessionClaimed,
    SessionCreated,
    SessionDeleted,
    SessionErased,
    SessionHeld,
    SessionReady,
    SessionRenamed,
    SessionRepaired,
    SessionResealed,
    SessionRewound,
    SessionRewritten,
    SessionSummarized,
    SessionTrimmed,
    StateKept,
    StatePatched,
    TtlSet,
)
from .tools import (
    ApprovalGranted,
    ApprovalRevoked,
    CallApproved,
    DecisionSent,
    RunDecided,
    ToolEnded,
    ToolStarted,
)
from .words import (
    ABSENT,
    ERASED,
    ERASED_VALUE,
    FOLDING,
    RENAMED,
    WORDS,
    Unknown,
    Word,
    copies,
    kind_of,
    newest_version,
    version_needed,
)
from .workflows import EventSent, PatchPassed, Step, StepFailed, StepFinished, StepsAgain

__all__ = [
    "ABSENT",
    "ERASED",
    "ERASED_VALUE",
    "ERASING",
    "FOLDING",
    "KEPT_INTERRUPTED",
    "KEPT_PAUSED",
    "RENAMED",
    "SCOPE",
    "WORDS",
    "ApprovalGranted",
    "ApprovalRevoked",
    "CallApproved",
    "CancelRequest",
    "DecisionSent",
    "EventSent",
    "FileWritten",
    "FilesDeleted",
    "Given",
    "HeadBody",
    "LeadPassed",
    "Lease",
    "MediaIndex",
    "MemoryForgotten",
    "MemoryWritten",
    "MessageAdded",
    "MetadataPatched",
    "ResultKept",
    "PatchPassed",
    "Pending",
    "RunAmended",
    "RunDecided",
    "RunEnded",
    "RunNoted",
    "RunStarted",
    "RunTaken",
    "ScopeWritten",
    "ScopesPatched",
    "ScopesSettled",
    "SessionClaimed",
    "SessionCreated",
    "SessionDeleted",
    "SessionErased",
    "SessionHeld",
    "SessionReady",
    "SessionRenamed",
    "SessionRepaired",
    "SessionRewound",
    "SessionResealed",
    "SessionRewritten",
    "SessionSummarized",
    "SessionTrimmed",
    "StateKept",
    "StatePatched",
    "Step",
    "StepFailed",
    "StepFinished",
    "StepsAgain",
    "ToolEnded",
    "ToolStarted",
    "TtlSet",
    "Unknown",
    "Waits",
    "Word",
    "body_of",
    "copies",
    "handoff_of",
    "kind_of",
    "newest_version",
    "session_of",
    "version_needed",
]
