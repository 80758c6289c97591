"""What a policy says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..errors import InvalidInputError
from ..records import Duration
from ..storage.checks import check_count, check_seconds, in_seconds
from ..storage.ids import check_optional_id

_TEXT = re.compile(r"([0-9]{1,6})([hdwy])")
_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}


@dataclass(frozen=True, slots=True)
class Policy:
    """Which sessions are deleted, and what of the others.

    It holds for the sessions that all of `kind`, `agent`, `user_id` and `label` choose; without any of them for all. Of
    several policies each takes what it takes: a session goes if one of them says so.

    Attributes:
        keep: delete sessions that have not changed for so long: `"90d"` (h, d, w, y), seconds, or a `timedelta`.
        runs: of sessions that stay, remove the contents of the oldest runs, so that so many of the current branch stay.
        branches: of sessions that stay, remove the contents of runs that lie on no current branch, because somebody
            went back.
        spare_rated: leave alone what somebody has rated: such sessions are not deleted, and the contents of such runs
            stay.
        kind: `agent`, `team`, `workflow`, …; `cache` are kept results of steps, which are in no list. States that
            outlive sessions go only where their kind is named: `scope` (of users and applications), `memories`,
            `approvals`.
        agent: of an agent, team or workflow.
        user_id: of a user.
        label: with a run that was given this label.

    Raises:
        InvalidInputError: a value is wrong, or it says nothing to be done.
    """

    keep: Duration | str | None = None
    runs: int | None = None
    branches: bool = False
    spare_rated: bool = False
    kind: str | None = None
    agent: str | None = None
    user_id: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.keep is None and self.runs is None and not self.branches:
            raise InvalidInputError("A policy says how long to keep sessions, or how many runs, or to drop branches.")
        if self.runs is not None:
            check_count(self.runs, "runs", least=1)
        for name in ("kind", "agent", "user_id", "label"):
            check_optional_id(getattr(self, name), name)
        seconds_of(self.keep)

    @property
    def age_us(self) -> int | None:
        """`keep` in microseconds."""
        seconds = seconds_of(self.keep)
        return None if seconds is None else int(seconds * 1_000_000)


def seconds_of(keep: Any) -> float | None:
    """A length of time in seconds. Raises `InvalidInputError`."""
    if keep is None:
        return None
    if isinstance(keep, str):
        found = _TEXT.fullmatch(keep)
        if found is None:
            raise InvalidInputError(f"keep is no length of time: {keep!r}.", hint="Write 24h, 90d, 12w or 2y.")
        keep = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    seconds: float = in_seconds(keep)
    check_seconds(seconds, "keep")
    return seconds
