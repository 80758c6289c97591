"""What people and evaluators say about a run."""

from __future__ import annotations

from typing import Any

from ...records import Entry, Rating, Run
from .words import ERASED, Word, erased_value, field


def _erased_text(text: Any) -> Any:
    return ERASED if text else text


class RunNoted(Word, kind="run.noted"):
    """Somebody has rated a run, while it was running or after its end. Changes no head.

    Of several by one source the newest counts; all stay. Forks do not have them: they are about what happened there.
    """

    score: float | None = field("how good it was; which numbers there are the source decides", default=None)
    label: str | None = field("a category", default=None)
    comment: str | None = field("in words; of an evaluator: its reason", default=None, erased=_erased_text)
    correction: Any = field("what should have come out, JSON", default=None, erased=erased_value)
    by: str | None = field("who has said it: a person's or a program's id", default=None, erased=_erased_text)
    source: str = field("whose scale it is: `user`, `reviewer`, the name of an evaluator", default="user")

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """See `Word.tell`."""
        run.ratings.append(cls.rating(entry))

    @classmethod
    def rating(cls, entry: Entry) -> Rating:
        """The rating that the entry holds."""
        said = cls.of(entry.data)
        texts: tuple[Any, ...] = (said.label, said.comment, said.by, said.source)
        if type(said.score) not in (int, float, type(None)) or any(
            not (text is None or isinstance(text, str) or text == ERASED) for text in texts
        ):
            raise TypeError("a rating that no program has made")
        return Rating(
            said.source, said.score, said.label, said.comment, said.by, entry.seq, entry.time_us, said.correction
        )

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """See `Word.fork`."""
        return None
