"""What is changed of a run after its end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...records import Entry, JsonObject, Run, Session, Status, Usage
from .runs import erased_error
from .words import ABSENT, Word, erased_value, field


class RunAmended(Word, kind="run.amended", version=2):
    """The end of a finished run has been replaced: its newest messages taken away, its outcome changed.

    What is not written stays as it was. The messages that were taken away are in the log still; those that follow in
    the same commit are the run's from now on.
    """

    dropped: int = field("how many of the run's own messages were taken away, the newest ones", default=0)
    status: Status | None = field("`completed`, `failed` or `cancelled`", default=None)
    output: Any = field("what came out, JSON", default=ABSENT, erased=erased_value)
    error: JsonObject | None = field(
        "of a failed run; null: there is none any more", default=ABSENT, erased=erased_error
    )
    usage: JsonObject | None = field(
        "by how much the run's own usage has changed: counts, also below zero", default=None
    )
    copied: bool = field("in a fork: its usage was counted in the session that it comes from", default=False)

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        said = cls.of(entry.data)
        if said.usage and not said.copied:
            head.usage = head.usage + Usage.from_json(said.usage)
        if said.status is not None and entry.run == head.run_count:
            head.last_status = said.status

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """See `Word.tell`."""
        said = cls.of(entry.data)
        if said.dropped:
            del run.messages[-said.dropped :]
        if said.status is not None:
            run.status = said.status
        if said.output is not ABSENT:
            run.output = said.output
        if said.error is not ABSENT:
            run.error = said.error
        if said.usage:
            run.usage.count(said.usage)

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`."""
        return super().fork(replace(entry, data={**entry.data, "copied": True}), number)
