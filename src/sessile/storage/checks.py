"""Checks of what a caller passes, before any I/O: numbers, seconds, choices. Each raises `InvalidInputError`."""

from __future__ import annotations

import reprlib
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, get_args

from ..errors import InvalidInputError
from ..records import MICROSECOND, Status, micros_of

LARGEST = 2**53
"""The largest number that a caller may name: every database and every JSON reader takes it."""

_REPR = reprlib.Repr()
_REPR.maxother = _REPR.maxstring = 100

STATUSES: tuple[str, ...] = get_args(Status)
"""All statuses that a run can have."""


def shown(value: Any) -> str:
    """A value as messages show it: no more than a line, whatever it is."""
    try:
        return _REPR.repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return f"an {type(value).__name__} that is too long to be shown"


def check_count(value: Any, what: str, *, least: int, most: int = LARGEST) -> None:
    """Refuse what is not a whole number of the range."""
    if type(value) is not int or not least <= value <= most:
        bounds = f"from {least} to {most}"
        raise InvalidInputError(f"{what} must be a whole number, {bounds}; it is {shown(value)}.")


def check_seconds(value: Any, what: str) -> None:
    """Refuse what is not a number of seconds above 0 that a clock can count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1e9:
        raise InvalidInputError(f"{what} must be a number of seconds above 0, up to 1e9; it is {shown(value)}.")


def in_seconds(duration: Any) -> Any:
    """A `timedelta` in seconds; anything else as it is."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def check_pause(value: Any, what: str) -> None:
    """Refuse what is not a number of seconds, or a `timedelta`, of at least 0 that a clock can count."""
    seconds = in_seconds(value)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e9:
        raise InvalidInputError(f"{what} must be a number of seconds or a timedelta, at least 0; it is {value!r}.")


def check_choice(value: Any, what: str, choices: Collection[str]) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise InvalidInputError(f"{what} must be one of {', '.join(map(repr, choices))}; it is {shown(value)}.")


def ttl_micros(ttl: Any, what: str = "ttl") -> int | None:
    """Seconds or a `timedelta` as microseconds; refuses what is not None, or a duration of at least 0."""
    if ttl is None:
        return None
    seconds = in_seconds(ttl)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e10:
        raise InvalidInputError(f"{what} must be a number of seconds, a timedelta, or None; it is {shown(ttl)}.")
    return ttl // timedelta(microseconds=1) if isinstance(ttl, timedelta) else round(ttl * MICROSECOND)


def moment_micros(value: Any, what: str) -> int | None:
    """A datetime as microseconds UTC; refuses what is not None, or a datetime that names its time zone."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise InvalidInputError(f"{what} must be a datetime; it is {shown(value)}.")
    if value.utcoffset() is None:
        hint = "Say what zone it is in: datetime(…, tzinfo=timezone.utc), or value.astimezone()."
        raise InvalidInputError(f"{what} has no time zone: {value!r}.", hint=hint)
    return max(-LARGEST, min(LARGEST, micros_of(value)))


def seconds_of(value: Any, what: str) -> float:
    """A time, a number of seconds or a `timedelta`, in seconds; refused if it is not above 0."""
    seconds = in_seconds(value)
    check_seconds(seconds, what)
    return seconds
