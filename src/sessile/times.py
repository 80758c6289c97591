"""Times: integers inside (microseconds UTC), aware datetimes, `timedelta`s and seconds outside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROSECOND = 1_000_000
"""Microseconds in a second."""

Duration = float | timedelta
"""A length of time: seconds, or a `timedelta`."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def datetime_of(micros: int) -> datetime:
    """A time in microseconds UTC as an aware datetime; what no calendar has becomes the first or last that it has."""
    try:
        return EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if micros > 0 else datetime.min.replace(tzinfo=UTC)


def timedelta_of(micros: int) -> timedelta:
    """A number of microseconds as a duration; one that is too long for that becomes the longest."""
    try:
        return timedelta(microseconds=micros)
    except OverflowError:
        return timedelta.max


def micros_of(moment: datetime) -> int:
    """An aware datetime in microseconds UTC."""
    return (moment - EPOCH) // timedelta(microseconds=1)


class Timed:
    """What begins and ends, with the integers of that as datetimes."""

    __slots__ = ()

    started_us: int
    ended_us: int | None

    @property
    def started_at(self) -> datetime:
        """When it began."""
        return datetime_of(self.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it has not."""
        return None if self.ended_us is None else datetime_of(self.ended_us)
