"""What happens in a run: its start, its messages, its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from ...records import Entry, Handoff, JsonObject, Message, OpenRun, Run, Session, Status
from ...usage import with_counts
from .messages import erased_message
from .words import ERASED, Fields, Word, erased_value, field

KEPT_INTERRUPTED = 16
KEPT_PAUSED = 64
"""How many interrupted and paused runs the head remembers, and how many failed ones that can be resumed (as many as
interrupted ones); older ones stay in the log and cannot be resumed."""


def erased_error(error: Any) -> Any:
    """What is left of an error: of which type it was."""
    return {**cast(JsonObject, error), "message": ERASED} if isinstance(error, dict) else error


class Given(Fields):
    """What a run was given beside its input, for when it is resumed."""

    kept: JsonObject | None = field("the options that hold, by name: limits, settings of the model, …", default=None)
    asked: list[str] | None = field(
        "the names of options that have no JSON form, and must be passed again", default=None
    )
    examples: list[JsonObject] | None = field(
        "the runs that were shown as examples before the history: `session_id`, `run` (number) and `run_id` of each",
        default=None,
    )
    members: list[str] | None = field(
        "of a team's run whose members were chosen when it began: their names, in their order", default=None
    )


class RunStarted(Word, kind="run.started"):
    """A run begins. With `parent_run_id`: a run below another one, of a team's member or of an agent in a step.

    In the head, where it is none below another: `run_count` and `tip` become its number, and it is open, with epoch 1
    and this lease. If the tip was not the newest run before, or there was none, the segment `[tip before, its number]`
    is added.
    """

    input: Any = field(
        "what was asked: text, a list of text and media, or the arguments of a workflow by name",
        default=None,
        erased=erased_value,
    )
    durability: str = field("`run`, `step`, `exit` or `workflow`: what is committed when", default="run")
    until: int = field("when the lease ends that the run begins with, microseconds UTC", default=0)
    key: str | None = field("of a member's run: the tool call of the team's run that it answers", default=None)
    metadata: JsonObject | None = field(
        "what the application keeps beside the run; of a member or step with a session of its own: its `session_id`",
        default=None,
        erased=erased_value,
    )
    given: JsonObject | None = field(
        "what an agent's run was given beside its input: `kept`, options that hold when it is resumed; `asked`, the "
        "names of those that must be given again; `examples`, the runs that were shown before the history; `members`, "
        "the names of those that were chosen to work in a team's run",
        default=None,
        erased=erased_value,
    )
    started_at: int | None = field("when it began, where that is not the time of the commit", default=None)
    answers: bool = field("of a member's run: it answers the user in the place of its team", default=False)
    again: bool = field(
        "the run had begun under another number, and that was lost: a backup was put back, or a failover lost it",
        default=False,
    )

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        if entry.parent_run_id is not None or entry.run is None:
            return
        if not head.segments or head.tip != head.run_count:
            head.segments = [*head.segments, (head.tip, entry.run)]
        head.run_count = head.tip = entry.run
        head.last_status = "running"
        opened = OpenRun(entry.run_id or "", "running", 1, entry.data.get("until", 0))
        head.open_runs = {**head.open_runs, entry.run: opened}

    @classmethod
    def begun(cls, entry: Entry) -> Run:
        """The run as it begins."""
        data: JsonObject = entry.data
        get = data.get
        return Run(
            entry.run or 0,
            entry.run_id or "",
            "running",
            get("input"),
            agent=entry.agent,
            parent_run_id=entry.parent_run_id,
            durability=get("durability", "run"),
            metadata=get("metadata") or {},
            key=get("key"),
            given=get("given") or {},
            started_us=get("started_at", entry.time_us),
            answers=bool(get("answers")),
        )

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`."""
        began = cls.of(entry.data)
        started = entry.time_us if began.started_at is None else began.started_at
        return super().fork(replace(entry, data=began.but(until=None, started_at=started).json), number)


class RunTaken(Word, kind="run.taken"):
    """A process has taken over a run that was paused, interrupted, or failed; whoever had it before has lost it.

    In the head, where it is none below another: the run is open and running, with this epoch and lease.
    """

    epoch: int = field("one more than the run's epoch before")
    until: int = field("when the lease ends that the process begins with, microseconds UTC")
    was: str = field("the run's status before", name="from")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        if entry.parent_run_id is not None or entry.run is None:
            return
        said = cls.of(entry.data)
        taken = OpenRun(entry.run_id or "", "running", said.epoch, said.until)
        head.open_runs = {**head.open_runs, entry.run: taken}
        if entry.run == head.run_count:
            head.last_status = "running"

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """See `Word.tell`."""
        run.status, run.ended_us, run.pending = "running", None, None
        run.epoch = cls.of(entry.data).epoch


class Pending(Fields):
    """What a paused run waits for."""

    requests: JsonObject | None = field(
        "Pydantic AI's `DeferredToolRequests`, of an agent or a team, or of those in a workflow's steps", default=None
    )
    asked: JsonObject | None = field(
        "of a workflow's run: the ids of the runs of agents that wait, each with the ids of its calls", default=None
    )
    delegated: list[str] | None = field(
        "of a team's run: the leader's tool calls that wait because members wait", default=None
    )
    unsure: bool = field("whether it is asked about calls that may have happened before an interruption", default=False)
    waits: list[str] | None = field("of a workflow's run: the names of the events", default=None)
    until: int | None = field(
        "of a workflow's run: when the first of its waits has lasted too long, microseconds UTC", default=None
    )
    forms: JsonObject | None = field(
        "of a workflow's run: by the name of an event, the form that a person is to fill: `question`, and the JSON "
        "`schema` of the value",
        default=None,
    )


def handoff_of(said: JsonObject | None) -> Handoff | None:
    """A handoff as a record."""
    return None if said is None else Handoff(said["to"], said.get("reason") or "")


def erased_handoff(said: Any) -> Any:
    """What is left of a handoff: to whom."""
    return {**cast(JsonObject, said), "reason": ERASED} if isinstance(said, dict) else said


class RunEnded(Word, kind="run.ended"):
    """A run has ended, or pauses; or somebody has noted that its process is gone.

    In the head: `usage` is added, unless it is `copied`. Where it is no run below another, it is not open any more; but
    one that is paused, interrupted or `resumable` is, with this epoch (or the one before) and no lease. Of those only
    the newest stay: 64 paused, 16 interrupted, 16 failed ones. One that was `noted` by somebody else is no change of
    the session: `updated_at` and `expires_at` stay.
    """

    status: Status = field("`completed`, `failed`, `cancelled`, `paused` or `interrupted`")
    output: Any = field("what came out, JSON", default=None, erased=erased_value)
    error: JsonObject | None = field('of a failed run: `{"type": …, "message": …}`', default=None, erased=erased_error)
    pending: JsonObject | None = field(
        "of a paused run: what it waits for, see below", default=None, erased=erased_value
    )
    usage: JsonObject | None = field(
        "what the run has used itself since it began or was taken, without the runs below it: counts, see below",
        default=None,
    )
    resumable: bool = field("of a failed run: that it can be resumed all the same (a workflow's)", default=False)
    epoch: int | None = field("the epoch of the process that ended it", default=None)
    copied: bool = field("in a fork: its usage was counted in the session that it comes from", default=False)
    ended_at: int | None = field("when it ended, where that is not the time of the commit", default=None)
    counted_there: bool = field(
        "of a run below another one: it has worked in a session of its own in the same database, and a sum over all "
        "sessions takes what it has used from there",
        default=False,
    )
    first_token: int | None = field(
        "how long after it began the first part of its first model response came, microseconds; only where responses "
        "are streamed",
        default=None,
    )
    handoff: JsonObject | None = field(
        'of a member\'s run that has handed the conversation over, and has no output: `{"to": …, "reason": …}`',
        default=None,
        erased=erased_handoff,
    )
    noted: bool = field(
        "of an interrupted run: a sweep has noted it, in a commit of nothing else", default=False, since=3
    )

    @classmethod
    def is_quiet(cls, entry: Entry) -> bool:
        """See `Word.is_quiet`."""
        return bool(entry.data.get("noted"))

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        if entry.run is None:
            return
        data: JsonObject = entry.data
        if not data.get("copied"):  # the runs of a fork were paid for in the session that they come from
            head.usage = with_counts(head.usage, data.get("usage") or {})
        if entry.parent_run_id is not None:
            return
        others = {number: run for number, run in head.open_runs.items() if number != entry.run}
        if data["status"] in ("paused", "interrupted") or data.get("resumable"):
            before = head.open_runs.get(entry.run)
            epoch = data.get("epoch", before.epoch if before else 1)
            others[entry.run] = OpenRun(entry.run_id or "", data["status"], epoch, 0)
        head.open_runs = _without_old(others)
        if entry.run == head.run_count:
            head.last_status = data["status"]

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """See `Word.tell`."""
        data: JsonObject = entry.data
        run.status = data["status"]
        run.ended_us = None if run.status == "paused" else data.get("ended_at", entry.time_us)
        run.output, run.error, run.pending = data.get("output"), data.get("error"), data.get("pending")
        counts = data.get("usage")
        if counts:
            run.usage.count(counts)
        run.first_token_us = data.get("first_token", run.first_token_us)
        run.counted_there = run.counted_there or bool(data.get("counted_there"))
        handoff = data.get("handoff")
        run.handoff = None if handoff is None else handoff_of(handoff)

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`."""
        ended = cls.of(entry.data)
        when = entry.time_us if ended.ended_at is None else ended.ended_at
        return super().fork(replace(entry, data=ended.but(copied=True, ended_at=when).json), number)


def _without_old(runs: dict[int, OpenRun]) -> dict[int, OpenRun]:
    """Crashes and forgotten approvals must not let the head grow: only the newest few such runs stay in it."""
    if len(runs) <= KEPT_INTERRUPTED:
        return runs
    for status, kept in (("interrupted", KEPT_INTERRUPTED), ("failed", KEPT_INTERRUPTED), ("paused", KEPT_PAUSED)):
        old = sorted(number for number, run in runs.items() if run.status == status)[:-kept]
        if old:
            runs = {number: run for number, run in runs.items() if number not in old}
    return runs


class MessageAdded(Word, kind="message"):
    """A message of the run, or of a run below it: `data` is the message itself, in the format that `format` names.

    `pydantic-ai/2` is the JSON of Pydantic AI's `ModelMessage`. Large binary parts lie beside the log: their `data` is
    `{"$blob": hash, "size": bytes}`.

    Erased messages keep their places, because `run.amended` counts them.
    """

    def __init__(self, message: Any) -> None:
        self.json = message  # whatever it is: it has no fields of ours

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """See `Word.tell`."""
        run.messages.append(
            Message(entry.data, entry.format, entry.run or 0, entry.run_id, entry.agent, entry.seq, entry.time_us)
        )

    @classmethod
    def erase(cls, entry: Entry) -> Any:
        """See `Word.erase`."""
        return erased_message(entry.data, entry.format)
