"""What a run has committed beside its own messages, kept in case a backup that is put back takes it away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...records import FINISHED, Entry, Run
from ...storage import patch
from ...storage.packing import Packed
from ...storage.vocabulary import MessageAdded, RunEnded, RunStarted, Word


class Written(NamedTuple):
    """One commit, as it was before it was written."""

    packed: Packed
    changes: patch.Patch


def entries_of(run: Run) -> Iterator[Entry]:
    """What a run that is taken over has in the log but for its start and ends: its messages, and the runs below it."""
    for message in run.messages:
        yield _entry(run, MessageAdded(message.data), message.format)
    for child in run.children:
        yield _entry(
            child,
            RunStarted(
                input=child.input,
                durability=child.durability,
                key=child.key,
                metadata=child.metadata or None,
                started_at=child.started_us,
            ),
        )
        yield from entries_of(child)
        if child.status == "paused" or child.status in FINISHED:
            usage = child.own_usage.to_json()
            ended = RunEnded(
                status=child.status, output=child.output, error=child.error, usage=usage, pending=child.pending
            )
            yield _entry(child, ended)


def _entry(run: Run, said: Word, format: str | None = None) -> Entry:
    return said.entry(run.run_id, run.number, run.parent_run_id, run.agent, format)
