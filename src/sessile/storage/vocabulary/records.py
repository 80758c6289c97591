"""The records that lie beside the log, one small value under a key each. All but media are JSON."""

from __future__ import annotations

from typing import Any

from .words import Fields, field


class Lease(Fields):
    """`lease/N`: the newest renewal of the lease of run N. Runs that end within their first term have none."""

    epoch: int = field("the epoch of the process that holds it")
    until: int = field("when it runs out, microseconds UTC")
    note: Any = field("what the run is doing, JSON: of a workflow, the running steps", default=None)


class CancelRequest(Fields):
    """`cancel/N`: somebody has asked the process that works on run N to cancel it."""

    epoch: int = field("the epoch of the process that is asked; later ones are not")


class Waits(Fields):
    """`waits/RUN`: run RUN (an id) of the session does not end before other runs have ended, which it waits for."""

    others: list[list[str]] = field("the session and the id of each of these runs")
    until: int = field("until when that is believed unless it is said again, microseconds UTC")


class MediaIndex(Fields):
    """`media/HASH`: a binary part, under the SHA-256 hash of its bytes, which lie in `media/HASH/0` and following."""

    size: int = field("how many bytes it has")
    parts: int = field("in how many records they lie")
