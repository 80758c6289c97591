"""Which sessions are moved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..records import ANY_USER, UserId
from ..storage.filters import WhichSessions, query_of
from ..storage.rows import ListQuery

PAGE = 200
"""How many sessions are listed at a time."""


class SessionChoice(WhichSessions, total=False):
    """Which sessions are moved; all filters hold at once, and none of them means all sessions.

    `user_id=None` means those that have no user; left out, all users'. `since <= updated_at < until`.
    """

    user_id: UserId


def query_of_choice(choice: SessionChoice) -> ListQuery:
    """The query of the first page, oldest change first, with sessions that are in no list. Raises `InvalidInputError`.

    The oldest come first, so that what changes meanwhile comes once more, and nothing is passed over.
    """
    user_id: UserId = choice.get("user_id", ANY_USER)
    filters: Any = {name: value for name, value in choice.items() if name != "user_id"}
    return replace(query_of(user_id, **filters), hidden=None, ascending=True, limit=PAGE)
