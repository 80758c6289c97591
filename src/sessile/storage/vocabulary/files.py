"""Files of a session: what agents and people keep there by name, each writing of it a version of its own."""

from __future__ import annotations

from typing import Any

from ...records import Entry, JsonObject
from .words import ERASED, Word, erased_value, field


def _erased_name(name: Any) -> Any:
    return ERASED if name else name


class FileWritten(Word, kind="file.written"):
    """A file has been written: its first version, or another one. The commit has the key `sessile:files` and no run.

    Changes no head. Forks write anew what the session had by then; a version that is deleted loses name and content.
    """

    id: str = field("random, the same in forks; by it the version is deleted")
    name: str = field("the name of the file; `[erased]` once the version is deleted", erased=_erased_name)
    version: int = field("which of its versions it is, from 1")
    content: JsonObject = field(
        'the bytes, always as media: `{kind: "binary", media_type: …, data: {$blob: HASH, size: BYTES}}`',
        erased=erased_value,
    )
    run_id: str | None = field("the id of the run that has written it; absent: somebody outside of runs", default=None)
    agent: str | None = field("the name of who has written it in that run", default=None)
    written_at: int | None = field(
        "in a fork: when it was written first, microseconds UTC; absent: with its commit", default=None
    )

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`: it belongs to no run."""
        return None


class FilesDeleted(Word, kind="file.deleted"):
    """Versions of files are deleted: in no list from now on. What they had been is taken out of the log after that."""

    ids: list[str] = field("their ids")

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`: it belongs to no run."""
        return None
