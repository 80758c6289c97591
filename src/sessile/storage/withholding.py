"""Errors without the conversations: what a client library says of a refused write may hold what was to be written.

SQLAlchemy shows the parameters of a statement, PostgreSQL the row that failed, PyMongo the document, Pydantic values.
Tracebacks go to logs, and from there to other people than those who may read sessions. So below an error of ours there
is the type of what caused it, and where it was raised, but never its text. What of a text can be told without harm,
drivers put into their own message, by `reason_of`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import SessileError

LONGEST = 300
"""How much of another library's text a message of ours repeats, in characters."""

_DATA = re.compile(
    r"\n| CONTEXT: | DETAIL: |, full error: |, Timeout: | with text '|, with args beginning with: | dup key: |, value: "
    r"|\[parameters: |: Entry '|Duplicate entry '|Incorrect \w+ value: "
)
"""What values follow in the texts of databases and their clients."""

_SYSTEMS_OWN = {"builtins", "socket", "ssl"}


class WithheldError(Exception):
    """In place of another library's error, below one of ours: its type and where it was raised, without its text."""


def reason_of(error: BaseException | str) -> str:
    """What went wrong, in one line without its end, as far as another library's text tells it without stored values."""
    text = str(error).strip()
    found = _DATA.search(text)
    said = " ".join((text if found is None else text[: found.start()]).split())[:LONGEST].rstrip(" .:,(")
    return said or ("" if isinstance(error, str) else type(error).__name__)


def damage_of(error: BaseException) -> str:
    """What is wrong with stored data that raised this: the type, and what key is missing, but no value."""
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    return f"{type(error).__name__}({key!r:.60})" if isinstance(key, str) else type(error).__name__


def withhold(error: SessileError) -> None:
    """Take the texts of other libraries out of all that the traceback of an error shows below it.

    Errors of ours stay, and so do those of the operating system, which speak of files and connections.
    """
    stand_ins: dict[int, BaseException] = {}
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        cause, context = one.__cause__, one.__context__
        if cause is not None:
            one.__cause__ = _told(cause, stand_ins)
            todo.append(one.__cause__)
        if context is not None:
            one.__context__ = _told(context, stand_ins)
            todo.append(one.__context__)


def withhold_all(errors: Mapping[str, SessileError]) -> None:
    """The same for errors that are not raised, but handed out."""
    for error in errors.values():
        withhold(error)


def withheld(error: BaseException) -> BaseException:
    """What may stand as the cause of one of our errors: the error itself, or one in its place."""
    return _told(error, {})


def _told(error: BaseException, stand_ins: dict[int, BaseException]) -> BaseException:
    """The error itself if its text is harmless, else what stands in its place; of each error there is one."""
    if _is_harmless(error):
        return error
    if id(error) not in stand_ins:
        stand_in = WithheldError(f"{_name(type(error))} (its text may hold what is stored, and is withheld)")
        stand_in.__traceback__ = error.__traceback__
        stand_in.__context__ = error.__context__
        if error.__cause__ is not None:
            stand_in.__cause__ = error.__cause__
        stand_in.__suppress_context__ = error.__suppress_context__
        stand_ins[id(error)] = stand_in
    return stand_ins[id(error)]


def _is_harmless(error: BaseException) -> bool:
    if isinstance(error, (SessileError, WithheldError)):
        return True
    if isinstance(error, OSError) and type(error).__module__ in _SYSTEMS_OWN:
        return error.errno is not None or not error.args
    return not error.args and not str(error)


def _name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
