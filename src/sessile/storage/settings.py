"""What a storage is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from ..errors import InvalidInputError
from ..records import Duration
from ..redaction import Redaction
from .checks import check_count, check_seconds, ttl_micros


class SettingsOptions(TypedDict, total=False):
    """The arguments of `Settings`, as every storage takes them."""

    timeout: float
    require_user: bool
    ttl: Duration | None
    lease: float
    max_commit_bytes: int
    max_state_bytes: int
    max_metadata_bytes: int
    inline_media_bytes: int
    max_media_bytes: int
    max_read_bytes: int
    redact: Redaction | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a storage was made with.

    Attributes:
        timeout: seconds that any one operation may take; then `DeadlineError`.
        require_user: refuse calls that name neither a user nor `ANY_USER`.
        ttl: how long after its last change a new session expires, if it does not say itself; seconds or a `timedelta`.
        lease: seconds after which a process that does not answer is taken for gone.
        max_commit_bytes: limit of one commit, in bytes of JSON.
        max_state_bytes, max_metadata_bytes: limits of a session's state and metadata, in bytes of JSON.
        inline_media_bytes: binary parts up to this size stay inside their message.
        max_media_bytes: limit of one binary part.
        max_read_bytes: how much of a session's log one call reads, in bytes of JSON: of runs, messages and entries
            that are larger together it brings fewer, at least one.

    Raises:
        InvalidInputError: one of them is no such number, or below its least value.
    """

    timeout: float = 30.0
    require_user: bool = False
    ttl: Duration | None = None
    lease: float = 30.0
    max_commit_bytes: int = 16 * 1024 * 1024
    max_state_bytes: int = 256 * 1024
    max_metadata_bytes: int = 16 * 1024
    inline_media_bytes: int = 4 * 1024
    max_media_bytes: int = 64 * 1024 * 1024
    max_read_bytes: int = 64 * 1024 * 1024
    redact: Redaction | None = None

    def __post_init__(self) -> None:
        for name in ("timeout", "lease"):
            check_seconds(getattr(self, name), name)
        for name in ("commit", "state", "metadata", "media"):
            check_count(getattr(self, f"max_{name}_bytes"), f"max_{name}_bytes", least=0)
        check_count(self.inline_media_bytes, "inline_media_bytes", least=0)
        check_count(self.max_read_bytes, "max_read_bytes", least=1)
        ttl_micros(self.ttl)
        if self.redact is not None and not callable(self.redact):
            raise InvalidInputError("redact is a function that is given a text and returns one.")

    @property
    def ttl_us(self) -> int | None:
        """`ttl` in microseconds."""
        return ttl_micros(self.ttl)
