"""Every error of the library, in one tree.

Each error answers four questions: what happened (the message), what to do now (`hint`), whether the same
call may succeed when it is made again (`retryable`), and whether the write happened (`written`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Literal

Written = Literal["no", "yes", "unknown"]
"""Whether the write that failed is in the database: `no`, `yes`, or `unknown` (the answer was lost)."""


class SessileError(Exception):
    """The root of all errors of Sessile.

    Attributes:
        hint: what to do now, one sentence.
        retryable: whether the same call may succeed when it is repeated unchanged.
        written: whether the write happened; `no` for reads.
        result: the run's result, where a run had one before the error; else None.
    """

    default_hint: ClassVar[str] = ""
    default_retryable: ClassVar[bool] = False
    default_written: ClassVar[Written] = "no"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retryable: bool | None = None,
        written: Written | None = None,
    ) -> None:
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.retryable = self.default_retryable if retryable is None else retryable
        self.written: Written = self.default_written if written is None else written
        self.result: Any = None
        super().__init__(message)

    def __str__(self) -> str:
        parts = [self.message, self.hint]
        if self.written != "no":
            parts.append(f"(The write happened: {self.written}.)")
        return " ".join(part for part in parts if part)


# ---------------------------------------------------------------- the caller's input


class InvalidInputError(SessileError, ValueError):
    """An argument was refused before any I/O; nothing was written."""

    default_hint = "Correct the argument; nothing was written."


class InvalidIdError(InvalidInputError):
    """An id is empty, not a string, over 255 bytes of UTF-8, or holds NUL or a lone surrogate."""

    default_hint = "Use a string of 1 to 255 bytes of UTF-8 without NUL and lone surrogates."


class InvalidStateError(InvalidInputError):
    """State, metadata or another value is not JSON (NaN, sets, bytes, cycles, too deep)."""

    default_hint = "Use only JSON values: objects with string keys, lists, strings, finite numbers, booleans, None."


class TooLargeError(InvalidInputError):
    """A value is larger than the limit that the storage was made with."""

    default_hint = "Store less, keep large parts as media, or raise the limit when making the storage."


class UserRequiredError(InvalidInputError):
    """The storage was made with `require_user=True` and the call named no `user_id`."""

    default_hint = "Pass user_id=."


# ---------------------------------------------------------------- what is or is not there


class SessionNotFoundError(SessileError, LookupError):
    """There is no such session, or it belongs to another user (which is answered the same way)."""

    default_hint = "Check session_id and user_id."


class RunNotFoundError(SessileError, LookupError):
    """The session has no run of that number."""

    default_hint = "Look at the numbers that storage.runs() gives."


class MemoryNotFoundError(SessileError, LookupError):
    """The user has no memory of that id, or it has expired."""

    default_hint = "Look at the ids that storage.memories(user_id=…).all() gives."


class SessionFileNotFoundError(SessileError, LookupError):
    """The session has no file of that name, or not that version of it."""

    default_hint = "Look at the names that storage.files(session_id).all() gives."


class AlreadyExistsError(SessileError):
    """A session of that id exists already."""

    default_hint = "Choose another session_id, or delete the session first."


class ConflictError(SessileError):
    """Somebody else changed the same thing first, and the caller asked to be told."""

    default_hint = "Read the session again and decide anew."


class SessionBusyError(SessileError):
    """Another run of the session is running, and the agent was told not to work beside it.

    Attributes:
        at_work: the ids of the runs that are.
    """

    default_hint = 'Try again later, or use on_busy="queue" or "parallel".'
    default_retryable = True
    at_work: tuple[str, ...] = ()


class MemberFailedError(SessileError):
    """A member of a team has failed, or was cancelled on its own; its run is stored, and `result` says what it did.

    Raised where a team's own function asks a member. The leader of a team is told instead.
    """

    default_hint = "Look at error.result.error, and go on without the member, or let the team's run fail."


class LeaseLostError(SessileError):
    """Another process has taken this run over; this one must stop working on it."""

    default_hint = "Let the other process finish the run."


class NotResumableError(SessileError):
    """The run cannot be resumed: it is finished, still running, or too little of it was stored."""

    default_hint = "Start a new run instead."


class RunWentOnError(NotResumableError):
    """What was decided about is not what the run waits for now: it has gone on since, to other calls."""

    default_hint = "Look at the run again, and decide about what it asks now; nothing was written."


class WorkflowChangedError(SessileError):
    """The code of a workflow has changed, so that it does not fit what a run has done already."""

    default_hint = (
        "Resume the run with the code that it began with, or make the change behind `if ctx.patched(…)`; "
        "the run is left as it was."
    )


class RunCancelledError(SessileError):
    """A workflow's run was cancelled, by `storage.cancel_run`, while it was running here."""

    default_hint = "The results of its finished steps are kept; start a new run if it is needed after all."


class StepFailedError(SessileError):
    """A step of a workflow has failed; `__cause__` is what it raised, in the process where it did.

    Attributes:
        step: the step's name.
        path: its position in the run.
        error_type: the name of the type of what it raised, also when the failure is replayed.
    """

    default_hint = "Repair the cause and resume the run: finished steps do not run again."

    def __init__(self, message: str, *, step: str = "", path: str = "", error_type: str = "") -> None:
        super().__init__(message)
        self.step, self.path, self.error_type = step, path, error_type


class EventTimeoutError(StepFailedError, TimeoutError):
    """The event that a workflow waits for was not sent in time; `step` names the wait."""

    default_hint = "Go on without it, or send it and resume the run: the wait is then looked at again."


class UnknownFormatError(SessileError):
    """Stored messages are of a format or kind that this program cannot send to a model."""

    default_hint = "They are kept and can be listed and exported; update the program to send them."


# ---------------------------------------------------------------- the database


class StorageError(SessileError):
    """The database refused or failed an operation."""

    default_hint = "Look at what the database says; what was acknowledged before is not touched."


class StorageUnavailableError(StorageError):
    """The database cannot be reached or is busy."""

    default_hint = "Try again; check that the database is up and reachable."
    default_retryable = True


class DeadlineError(StorageError, TimeoutError):
    """An operation did not end within the storage's `timeout`."""

    default_hint = "Try again, or make the storage with a longer timeout."
    default_retryable = True


class StorageFullError(StorageError):
    """There is no space left where the database keeps its data; what was stored before is intact."""

    default_hint = "Free some space and try again."
    default_retryable = True


class ReadOnlyError(StorageError):
    """The database may be read but not written."""

    default_hint = "Check the permissions of the file and its folder, or of the database user."


class CorruptDataError(StorageError):
    """What was read is damaged, or is not a Sessile database at all."""

    default_hint = "Check the path, or restore the data from a copy."


class ConstraintError(StorageError):
    """A constraint or a trigger of the database has refused the write; nothing was written."""

    default_hint = "Sessile's own tables have none but their keys: look at what was added to them."


class SealedError(CorruptDataError):
    """What was read is encrypted, and cannot be decrypted with the keys that there are; or is not what was encrypted.

    Never taken for absence: a session whose key is missing is there, and can be deleted.
    """

    default_hint = "Open it with EncryptedStorage and the keys that it was written with."


class NewerVersionError(StorageError):
    """The data was written by a newer version of Sessile, in a way that this one would misread."""

    default_hint = "Update Sessile to read it."


class ClosedError(StorageError):
    """The storage was closed."""

    default_hint = "Make a new storage object."


class HeldError(StorageError):
    """Nothing of the session may be deleted: it is held (`storage.hold`)."""

    default_hint = "Release it first, if it may be deleted: storage.release(session_id)."


class UnsupportedError(SessileError):
    """This database or driver cannot do what was asked."""

    default_hint = "Look at storage.capabilities, or use another database."


class MissingDependencyError(SessileError, ImportError):
    """A library that an optional part needs is not installed."""

    default_hint = "Install it."


# ---------------------------------------------------------------- a run whose answer could not be stored


class NotStoredError(StorageError):
    """The model has answered, but the run could not be stored: the answer is here, not lost.

    Attributes:
        result: the run's result, as `run` would have returned it; None if the run itself failed or was cancelled.
        cause: the error of the database.

    `retry_commit()` (or `await aretry_commit()`) stores the run again, under the same commit id, so that it
    is stored once even if the first try had arrived after all. It returns `result` or raises as before.
    """

    default_hint = "Use error.result, and call error.retry_commit() to store it again."
    default_retryable = False

    def __init__(
        self,
        message: str,
        *,
        result: Any,
        cause: SessileError,
        again: Callable[[], Coroutine[Any, Any, Any]],
        step: Callable[[Coroutine[Any, Any, Any]], Any],
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, written=cause.written)
        self.result = result
        self.cause = cause
        self._again = again
        self._step = step

    def retry_commit(self) -> Any:
        """Store the run again and return its result; raises the database's error if that fails."""
        return self._step(self._again())

    async def aretry_commit(self) -> Any:
        """The `async` version of `retry_commit`."""
        return await self._again()


def problem_of(error: BaseException) -> dict[str, str]:
    """An error as it is stored: its type and its text, which is cut after 10,000 characters."""
    try:
        message = str(error)
    except Exception as problem:  # noqa: BLE001 (an error's own code, which may raise anything)
        message = f"(its text cannot be made: {type(problem).__name__})"
    return {"type": type(error).__name__, "message": message[:10_000]}


def missing_dependency(
    package: str, extra: str, purpose: str, cause: ImportError | None = None
) -> MissingDependencyError:
    """The one clear error of an optional part whose library is not installed.

    With `cause` it also tells that from a library that is there, in a version that lacks what is needed of it.
    """
    installed = None if cause is None else _installed(package)
    if installed is not None:
        return MissingDependencyError(
            f"{purpose} cannot use version {installed} of the package {package!r}: {cause}.",
            hint=f'Install one that it can: pip install --upgrade "sessile[{extra}]".',
        )
    return MissingDependencyError(
        f"{purpose} needs the package {package!r}, which is not installed.",
        hint=f'Install it with: pip install "sessile[{extra}]".',
    )


def _installed(package: str) -> str | None:
    """The version of a package that is installed, by its name, of which a version may be asked for."""
    from importlib.metadata import (  # takes time, and only who is told of an error needs it
        PackageNotFoundError,
        version,
    )

    try:
        return version(package.partition(">")[0])
    except PackageNotFoundError:
        return None
