"""Finding the keys of records that were written before the first release under names which do not tell them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count, takewhile

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def old_keys(is_there: Callable[[str], bool], bodies: Iterable[str], last_run: int) -> Iterator[str]:
    """The keys of which `is_there` says that there is a record: leases by the numbers of runs, media by the log.

    `bodies` are those of the session's commits, which name the hash of each content.
    """
    for number in range(1, last_run + 1):
        yield from filter(is_there, (f"lease/{number}", f"cancel/{number}"))
    for digest in {found for body in bodies for found in _DIGEST.findall(body)}:
        yield from takewhile(is_there, (f"media/{digest}/{number}" for number in count()))
        yield from filter(is_there, (f"media/{digest}",))
