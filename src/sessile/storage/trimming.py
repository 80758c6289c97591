"""Taking out what is old of a session that goes on: its oldest runs, and branches that were left."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..errors import SessionBusyError, UnsupportedError
from ..records import ANY_USER, Entry, Session, UserId
from .absence import check_free
from .core import Core
from .driver import Span
from .erasing import remove_orphans
from .media import references
from .rewriting import erase, rewrite_commits, runs_to_erase
from .runs import ranges
from .snapshots import Committed, Draft, Snapshot, owned
from .vocabulary import SessionTrimmed


def trimmable(head: Session, keep: int) -> int:
    """Up to which run a session can be trimmed so that `keep` runs of its current branch stay; 0: there is nothing to.

    A run that is not over stays, and all that follow it.
    """
    newest = head.last_on_path(keep + 1)
    if len(newest) <= keep:
        return 0
    last = min([newest[0], *(number - 1 for number in head.open_runs)])
    return last if last > head.trimmed else 0


def left_runs(head: Session) -> list[int]:
    """The numbers of the runs that lie on no current branch, because somebody went back; of those that are over."""
    on_path = {number for first, last in head.path() for number in range(first, last + 1)}
    numbers = range(head.trimmed + 1, head.run_count + 1)
    return [number for number in numbers if number not in on_path and number not in head.open_runs]


async def trim(
    core: Core, session_id: str, upto: int, *, spare: Collection[int] = (), user_id: UserId = ANY_USER
) -> Session:
    """Remove the contents of all runs up to a number, but for those that are to be spared; they are on no branch then.

    May be repeated after an error. Raises `HeldError`, `SessionNotFoundError` and `UnsupportedError`.
    """
    head = check_there(await core.head_of(session_id, user_id, core.deadline()))
    await _erase(core, head, [number for number in range(head.trimmed + 1, upto + 1) if number not in spare])
    entry = SessionTrimmed(upto=upto).entry()

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, session_id, user_id)
        return Draft([entry], free=True)

    committed = await core.commit(session_id, user_id, change, core.deadline())
    assert committed is not None, "this change always drafts something"
    await _orphans(core, committed)
    return committed.head


async def erase_runs(core: Core, session_id: str, numbers: Collection[int], *, user_id: UserId = ANY_USER) -> int:
    """Remove the contents of runs; how many commits were changed. Raises as `trim`."""
    head = check_there(await core.head_of(session_id, user_id, core.deadline()))
    changed = await _erase(core, head, numbers)
    if changed:
        await _orphans(core, Committed(await core.head_of(session_id, user_id, core.deadline()), []))
    return changed


async def runs_left_over(core: Core, head: Session, numbers: Iterable[int]) -> list[int]:
    """Of these runs those that `erase_runs` would take something from. Changes nothing; raises as `erase_runs`."""
    found: set[int] = set()
    for first, last in ranges(sorted(numbers)):
        found |= await runs_to_erase(core, head, Span(runs=(first, last)), drop=True)
    return sorted(found)


def check_trimmable(core: Core, head: Session) -> None:
    """Raise what `trim` would, before it has changed anything."""
    check_free(head)
    if not core.driver.capabilities.rewrites:
        raise UnsupportedError(f"The driver {core.driver.name!r} cannot rewrite commits.")


def check_there(head: Session) -> Session:
    """The head, of which things may be deleted."""
    check_free(head)
    return head


async def _erase(core: Core, head: Session, numbers: Iterable[int]) -> int:
    changed = 0
    for first, last in ranges(sorted(numbers)):
        done = await erase(core, head.session_id, Span(runs=(first, last)), drop=True, user_id=ANY_USER)
        changed += done.commits
    return changed


async def _orphans(core: Core, committed: Committed) -> None:
    """Remove media that nothing names any more, unless that cannot be said at this moment."""
    passed: list[int] = []
    named: set[str] = set()

    def note(place: int, entry: Entry) -> Entry:
        named.update(references(entry.data))
        return entry

    await rewrite_commits(core, committed.head, Span(), note, passed=passed)
    if not passed:
        try:
            await remove_orphans(core, committed, named)
        except SessionBusyError:
            return  # a run in progress may need them: the next time
