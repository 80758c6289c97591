"""What somebody has made of an index's tables by hand: one clear error, whatever the values in them have led to."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from ..errors import CorruptDataError, SessileError
from ..storage.withholding import damage_of, withheld

P = ParamSpec("P")
R = TypeVar("R")

_DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, zlib.error)
"""What values of another type, or none, lead to."""

_OWN = "_sessile_callers_own"


def tells_damage(question: Callable[P, R]) -> Callable[P, R]:
    """What reads an index; raises `CorruptDataError` where its tables hold what no version of ours has written."""

    @wraps(question)
    def asked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return question(*args, **kwargs)
        except SessileError:
            raise
        except _DAMAGE as error:
            below = error.__traceback__ and error.__traceback__.tb_next
            if below is None or getattr(error, _OWN, False):  # of the call itself, or of a function of the caller's
                raise
            raise CorruptDataError(
                f"The index is damaged: {damage_of(error)}.",
                hint="It is made of the log: make it anew with index.rebuild(), or `sessile index --rebuild`.",
            ) from withheld(error)

    return asked


@contextmanager
def callers_own() -> Generator[None]:
    """Around functions of the caller's: what they raise says nothing of the index."""
    try:
        yield
    except _DAMAGE as error:
        setattr(error, _OWN, True)
        raise
