"""Applying policies: session by session, each as it is at that moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ..errors import (
    CorruptDataError,
    HeldError,
    InvalidInputError,
    NewerVersionError,
    SessileError,
    SessionNotFoundError,
    UnsupportedError,
)
from ..records import ANY_USER, JsonObject, Session
from ..storage import Storage
from ..storage.absence import as_row, check_free, hidden_because
from ..storage.core import Core
from ..storage.encoding import decode_head
from ..storage.leases import shown_heads
from ..storage.readable import rows_to_entries
from ..storage.rows import HeadRow, Listing, ListQuery, Span
from ..storage.storage import operate
from ..storage.trimming import check_trimmable, erase_runs, left_runs, runs_left_over, trim, trimmable
from ..storage.vocabulary import SCOPE, RunNoted
from .policies import Policy

PAGE = 200
"""How many sessions, or commits, are read at a time."""


@dataclass(slots=True)
class Retained:
    """What went; with `dry_run` what would go.

    Attributes:
        dry_run: whether nothing was changed.
        deleted: the ids of sessions that were deleted, and why.
        trimmed: by session, up to which run the contents were removed.
        branches: by session, the numbers of the runs on branches that were left, whose contents were removed.
        held: sessions that are held, and why: they stay as they are.
        skipped: sessions that could not be read or changed, and why.
    """

    dry_run: bool = False
    deleted: dict[str, str] = field(default_factory=dict[str, str])
    trimmed: dict[str, int] = field(default_factory=dict[str, int])
    branches: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    held: dict[str, str] = field(default_factory=dict[str, str])
    skipped: dict[str, SessileError] = field(default_factory=dict[str, SessileError])

    def to_json(self) -> JsonObject:
        """As JSON, errors as text."""
        skipped = {session_id: str(error) for session_id, error in self.skipped.items()}
        return {
            "dry_run": self.dry_run, "deleted": self.deleted, "trimmed": self.trimmed, "branches": self.branches,
            "held": self.held, "skipped": skipped,
        }  # fmt: skip


Progress = Callable[[Retained], None]

Step = Callable[[Core, Policy, Session, set[int], Retained], Awaitable[None]]
"""What a policy does to a session, but for the runs that are to be spared."""


def retain(
    storage: Storage, policies: Sequence[Policy], *, dry_run: bool = False, progress: Progress | None = None
) -> Retained:
    """Delete and trim what policies say. Call it now and then; `storage.sweep()` removes what has expired by itself.

    Sessions that change meanwhile stay, as do those that are held, and those in which a run is running. What is trimmed
    is what `erase_run` erases: texts, inputs, outputs, calls, media that nothing else names. The commits stay, small;
    so do state patches, and the rolling summary that agents use. Trimmed runs are on no branch any more, and are
    not sent along; trimming counts as a change of the session. May be repeated after an error; what is done already is
    passed over.

    Args:
        storage: where the sessions are. Policies reach all users' sessions, unless they name one.
        policies: at least one.
        dry_run: change nothing, and say what would go.
        progress: is called after each session.

    Raises:
        InvalidInputError: there is no policy.
        StorageError: the database failed; call it again.
    """
    if not policies or not all(isinstance(policy, Policy) for policy in policies):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError("Retention needs policies.", hint='For example [Policy(keep="90d")].')
    done = Retained(dry_run=dry_run)
    # Whole sessions first: what is trimmed counts as changed, and would not be old any more.
    steps: list[tuple[Policy, Step, int | None]] = [
        (policy, _delete, policy.age_us) for policy in policies if policy.age_us is not None
    ]
    steps += [(policy, _trim, None) for policy in policies if policy.runs is not None or policy.branches]
    for policy, step, age in steps:
        for row in _rows(storage, policy, age, done):
            try:
                operate(storage, _apply, policy, step, row, done)
            except SessionNotFoundError:
                continue  # deleted meanwhile
            except HeldError:
                continue  # held meanwhile
            except (CorruptDataError, NewerVersionError, UnsupportedError, InvalidInputError) as error:
                done.skipped[row.session_id] = error
            if progress is not None:
                progress(done)
    return done


def _rows(storage: Storage, policy: Policy, age: int | None, done: Retained) -> Iterator[HeadRow]:
    """The sessions that a policy chooses by what lists know, the oldest first; of an age, in microseconds, if given."""
    until = None if age is None else operate(storage, _now) - age
    query = ListQuery(
        kind=policy.kind,
        agent=policy.agent,
        user_id=ANY_USER if policy.user_id is None else policy.user_id,
        until=until,
        hidden=None,
        ascending=True,
        limit=PAGE,
    )
    seen: set[str] = set()
    while True:
        page = operate(storage, _list, query)
        done.skipped.update(page.unreadable)
        for row in page.rows:
            if row.session_id not in seen and row.session_id not in done.deleted:
                seen.add(row.session_id)
                yield row
        if page.after is None:
            return
        query = replace(query, after=page.after)


async def _now(core: Core) -> int:
    await core.prepare(core.deadline())
    await core.set_clock(core.deadline())
    return core.clock.now()


async def _list(core: Core, query: ListQuery) -> Listing:
    await core.prepare(core.deadline())
    return await core.driver.list(query, core.deadline())


# ---------------------------------------------------------------- one session


async def _apply(core: Core, policy: Policy, step: Step, row: HeadRow, done: Retained) -> None:
    """What one policy says about one session."""
    why = hidden_because(row)
    if why not in (None, "cache", SCOPE) or (why == SCOPE and policy.kind is None):
        return  # states that outlive sessions go only where their kind is named
    head = decode_head(row)
    if head.hold is not None:
        done.held[head.session_id] = head.hold
        return
    rated, labels = await _rated(core, head) if policy.spare_rated or policy.label else (set[int](), set[str]())
    if policy.label is None or policy.label in labels:
        await step(core, policy, head, rated if policy.spare_rated else set(), done)


async def _is_over(core: Core, policy: Policy, head: Session) -> bool:
    """Whether the time of a session is over, and nobody works in it."""
    if policy.age_us is None or head.updated_us > core.clock.now() - policy.age_us:
        return False
    shown = decode_head(as_row(head))
    await shown_heads(core, [shown], core.deadline())
    return shown.status != "running"


async def _delete(core: Core, policy: Policy, head: Session, spare: set[int], done: Retained) -> None:
    if spare or not await _is_over(core, policy, head):
        return
    if not done.dry_run:
        now = (await core.look(head.session_id, core.deadline())).found
        if now is None or (now.incarnation, now.revision) != (head.incarnation, head.revision):
            return  # somebody has continued it
        check_free(now)
        if not await core.bury(as_row(now), core.deadline()):
            return
        await core.remove(head.session_id, head.incarnation, core.deadline())
    done.deleted[head.session_id] = f"unchanged since {head.updated_at.isoformat()}"


async def _trim(core: Core, policy: Policy, head: Session, spare: set[int], done: Retained) -> None:
    """Remove what the oldest runs have, and those on branches that were left, if they have anything any more.

    In a dry run what another policy has taken is still there, and not counted again.
    """
    if head.hidden is not None:
        return
    session_id = head.session_id
    before = done.trimmed.get(session_id, 0)
    upto = 0 if policy.runs is None else trimmable(head, policy.runs)
    if upto > before:
        check_trimmable(core, head)
        if not done.dry_run:
            await trim(core, session_id, upto, spare=spare)
        done.trimmed[session_id] = upto
    past = {*spare, *done.branches.get(session_id, ())}
    left = [number for number in left_runs(head) if number > max(upto, before) and number not in past]
    going = await runs_left_over(core, head, left) if policy.branches else []
    if going and (done.dry_run or await erase_runs(core, session_id, going)):
        done.branches[session_id] = sorted([*done.branches.get(session_id, ()), *going])


async def _rated(core: Core, head: Session) -> tuple[set[int], set[str]]:
    """The numbers of the runs that somebody has said something about, and the labels that were given."""
    rated, labels = set[int](), set[str]()
    first = 1
    while first <= head.revision:
        span = Span(first=first, last=head.revision, limit=PAGE)
        rows = await core.driver.entries(head.session_id, head.incarnation, span, core.deadline())
        if not rows:
            break
        for entry in rows_to_entries(rows):
            noted = RunNoted.read(entry)
            if noted is not None:
                rated.add(entry.run or 0)
                labels.update([noted.label] if noted.label is not None else [])
        first = rows[-1].seq + 1
    return rated, labels
