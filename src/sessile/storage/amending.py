"""Amending: the end of a session is replaced, in one commit.

For those who keep a conversation as one list of messages, whose newest ones are taken away and put in their place
anew: other frameworks' sessions, an answer that was corrected, a message that was unsent. The log keeps what was there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ConflictError, InvalidInputError, RunNotFoundError
from ..records import FINISHED, Entry, JsonObject, Run, Status, Usage, UserId
from .checks import check_choice, check_count
from .core import Core
from .driver import Deadline
from .encoding import check_json
from .formats import format_of
from .given import checked_messages, checked_patch, checked_usage
from .ids import check_optional_id
from .remembered import page_for
from .runs import read_run
from .snapshots import Draft, Snapshot, owned
from .vocabulary import ABSENT, MessageAdded, RunAmended, kind_of


async def amend(
    core: Core,
    session_id: str,
    *,
    drop: int = 0,
    messages: Sequence[JsonObject] = (),
    format: str | None = None,
    status: Status | None = None,
    output: Any = ABSENT,
    error: JsonObject | None = ABSENT,
    usage: Usage | None = None,
    if_revision: int | None = None,
    key: str | None = None,
    user_id: UserId = None,
) -> Run:
    """Change the newest run of the current branch, which must have finished; returns it as it is afterwards.

    One commit: first the newest messages are taken away, then others are added. Of writers at once all come about, one
    after the other.

    Args:
        drop: how many of the run's own messages are taken away, the newest ones; those of its members stay.
        messages, format: messages that are added, JSON objects in the format that `format` names.
        status: `completed`, `failed` or `cancelled`, instead of what it was.
        output, error, usage: instead of what they were; `usage` is the run's own, without the runs below it.
        if_revision: amend only if nobody has committed since that revision.
        key: a key of the commit, by which it is found again.

    Raises `SessionNotFoundError`, `RunNotFoundError` if the branch has no run, `InvalidInputError` if it has fewer
    messages, and `ConflictError` if it has not finished, or `if_revision` does not hold.
    """
    user_id = core.check_access(session_id, user_id)
    check_count(drop, "drop", least=0)
    messages = checked_messages(messages)
    format = format_of(messages, format)
    for value, what in ((format, "format"), (key, "key")):
        check_optional_id(value, what)
    if status is not None:
        check_choice(status, "status", sorted(FINISHED))
    if output is not ABSENT:
        check_json(output, "output")
    if error is not ABSENT and error is not None:
        checked_patch(error, "error")
    if usage is not None:
        checked_usage(usage)
    deadline = core.deadline()
    amended: list[Run] = []

    async def change(snapshot: Snapshot) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        if if_revision is not None and head.revision != if_revision:
            raise ConflictError(f"Session {session_id!r} is at revision {head.revision}, not {if_revision}.")
        run = await _finished(core, snapshot, deadline)
        if drop > len(run.messages):
            raise InvalidInputError(f"Run {run.number} has {len(run.messages)} messages of its own, and not {drop}.")
        more = None if usage is None else (usage - run.own_usage).to_json()
        said = RunAmended(dropped=drop, status=status, output=output, error=error, usage=more)
        entries = [said.entry(run.run_id, run.number, None, run.agent)]
        entries += [MessageAdded(one).entry(run.run_id, run.number, None, run.agent, format) for one in messages]
        amended[:] = [run]
        return Draft(entries, run.number, key)

    known = await core.look(session_id, deadline, newest=page_for(1))
    committed = await core.commit(session_id, user_id, change, deadline, known=known)
    assert committed is not None, "this change always drafts something"
    return _after(amended[0], committed.entries)


async def _finished(core: Core, snapshot: Snapshot, deadline: Deadline) -> Run:
    """The run that may be amended."""
    head = snapshot.head
    if head is None or not head.tip:
        name = "" if head is None else head.session_id
        raise RunNotFoundError(f"The current branch of session {name!r} has no run.")
    run = await read_run(core, snapshot, head.tip, deadline)
    if run.number in head.open_runs or run.status not in FINISHED:
        raise ConflictError(
            f"Run {run.number} of session {head.session_id!r} is {run.status}.",
            hint="A run can be amended when it has finished.",
        )
    return run


def _after(run: Run, entries: Sequence[Entry]) -> Run:
    """The run after the commit that amends it."""
    for entry in entries:
        kind_of(entry).tell(run, entry)
    return run
