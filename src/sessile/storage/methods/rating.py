"""What people and evaluators say about runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...later import Later
from ...records import Rating, UserId
from .base import Operated

if TYPE_CHECKING:
    from .. import rating
else:
    rating = Later("sessile.storage.rating")


class Judging(Operated):
    """Feedback on runs."""

    def rate(
        self,
        session_id: str,
        run: int | str,
        *,
        score: float | None = None,
        label: str | None = None,
        comment: str | None = None,
        correction: Any = None,
        by: str | None = None,
        source: str = "user",
        user_id: UserId = None,
    ) -> Rating:
        """Rate a run: thumbs, a scale, a category, words; by people, or by evaluators with their reason.

        One commit. If a source rates a run several times, the newest rating counts: `Run.rating(source)`. All of
        them stay in `Run.ratings`.

        ```python
        storage.rate("s1", result.run_id, score=True, comment="Exactly.", by="ada", user_id="ada")
        storage.rate("s1", 3, score=0.4, label="wrong tool", source="tool judge", user_id="ada")
        ```

        Args:
            session_id: which session.
            run: the run's number, or its id (`run_id`), which also names members' runs.
            score: a number of the source's own scale; `True` is 1 and `False` 0.
            label: a category.
            comment: words; of an evaluator: its reason.
            correction: what should have come out, JSON: with it the run is an example of a good answer.
            by: who says it.
            source: whose scale it is: `user`, `reviewer`, the name of an evaluator.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no such run.
            InvalidInputError: an argument is wrong, it says nothing at all, or no user is named where the storage
                requires one.
            StorageError: the database failed; `error.written` says whether the rating is stored.
        """
        return self._run(
            rating.rate,
            session_id,
            run,
            score=score,
            label=label,
            comment=comment,
            correction=correction,
            by=by,
            source=source,
            user_id=user_id,
        )

    async def arate(
        self,
        session_id: str,
        run: int | str,
        *,
        score: float | None = None,
        label: str | None = None,
        comment: str | None = None,
        correction: Any = None,
        by: str | None = None,
        source: str = "user",
        user_id: UserId = None,
    ) -> Rating:
        """As `rate`, for asynchronous callers."""
        return await self._arun(
            rating.rate,
            session_id,
            run,
            score=score,
            label=label,
            comment=comment,
            correction=correction,
            by=by,
            source=source,
            user_id=user_id,
        )
