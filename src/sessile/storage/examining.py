"""Whether a database keeps what it is given: what its settings risk, and whether its newest sessions are sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import CorruptDataError, NewerVersionError, SessionNotFoundError
from ..records import ANY_USER, Page, Session
from .storage import Storage


@dataclass(slots=True)
class Examined:
    """What was found.

    Attributes:
        warnings: what may be lost, and what to do about it.
        wrong: sessions that cannot be read, or whose head is not what their log adds up to, and why.
        sound: how many are.
    """

    warnings: list[str] = field(default_factory=list[str])
    wrong: dict[str, str] = field(default_factory=dict[str, str])
    sound: int = 0


def warnings_of(storage: Storage) -> list[str]:
    """What may be lost with the database as it is set up."""
    warnings = list(storage.warnings())
    if not storage.capabilities.durable:
        warnings.append("what is acknowledged may be gone when the database's process or machine ends.")
    return warnings


def examine(storage: Storage, sessions: int, progress: Callable[[int, int], object] | None = None) -> Examined:
    """Look at the settings, and verify so many of the newest sessions; `progress` is told how many are done."""
    found = Examined(warnings_of(storage))
    page = storage.sessions(user_id=ANY_USER, limit=sessions) if sessions else Page[Session]([])
    found.wrong = {session_id: str(error) for session_id, error in page.unreadable.items()}
    for number, head in enumerate(page):
        if progress is not None:
            progress(number, len(page))
        try:
            storage.verify(head.session_id, user_id=ANY_USER)
        except (CorruptDataError, NewerVersionError) as error:
            found.wrong[head.session_id] = str(error)
        except SessionNotFoundError:
            continue  # deleted meanwhile
    found.sound = len(page) + len(page.unreadable) - len(found.wrong)
    return found
