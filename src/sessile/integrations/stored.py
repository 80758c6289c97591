"""What adapters read is what whoever can write to the database has put there: an error of Sessile's if it has no form.

A session whose content is not what its adapter writes costs that session: who asks for it has one clear error, and who
asks for many has the others, and a line in the log `sessile.integrations`.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from ..errors import ClosedError, DeadlineError, SessileError, StorageUnavailableError, UnknownFormatError

logger = logging.getLogger("sessile.integrations")

F = TypeVar("F", bound=Callable[..., Any])

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, NotImplementedError)
"""What code raises that takes something apart which has another form."""


@contextmanager
def reading() -> Generator[None]:
    """What is done inside takes stored values apart: errors of that are `UnknownFormatError`, without their text."""
    try:
        yield
    except SessileError:
        raise
    except MALFORMED as error:
        kind = type(error).__name__
    else:
        return
    raise UnknownFormatError(  # outside of what was caught, whose text may be what is stored
        f"What is stored is not what this adapter writes ({kind}).",
        hint="Another program has changed it, or a newer version has written it; it can still be exported and deleted.",
    )


def reads_stored(function: F) -> F:
    """The same for a whole function, `async` or not."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            with reading():
                return await function(*args, **kwargs)

        return cast(F, awaited)

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        with reading():
            return function(*args, **kwargs)

    return cast(F, called)


@contextmanager
def passing_over(session_id: str) -> Generator[None]:
    """One session of many: what is wrong with it is told in the log, and those that follow are read.

    What the database itself has against it (it is gone, it takes too long) is raised.
    """
    try:
        with reading():
            yield
    except (StorageUnavailableError, DeadlineError, ClosedError):
        raise
    except SessileError as error:
        logger.warning("Session %r is left out of a list: %s", session_id, error)
