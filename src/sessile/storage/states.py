"""Heads without their states: lists bring no states unless they are asked for, because a page of them may be large."""

from __future__ import annotations

from typing import Any, NoReturn

from ..errors import InvalidInputError

MARK = ',"state":'
"""What stands before the state in the body of a head, of which it is the last field (`encoding.encode_head`)."""


def without_state(body: str) -> str:
    """The body of a head without the state; what has none stays as it is.

    What later versions keep in heads might have a field of this name as well. Then what is left is no JSON, and the
    head has to be read whole.
    """
    place = body.find(MARK)
    return body if place < 0 else f"{body[:place]}}}"


def columns_without_state(head: str, database: str) -> str:
    """The columns of a head in SQL, its body as `without_state` leaves it: the state does not leave the server."""
    place = f"{'strpos' if database == 'postgres' else 'instr'}(body, '{MARK}')"
    cut = f"substr(body, 1, {place} - 1)"
    closed = f"concat({cut}, '}}')" if database == "mysql" else f"{cut} || '}}'"
    return head.replace("body", f"CASE WHEN {place} > 0 THEN {closed} ELSE body END AS body")


class UnreadState(dict[str, Any]):
    """Stands in the place of a state that was not read: whoever looks into it is told so, and not that it is empty."""

    def __init__(self) -> None:
        super().__init__({"not read": "with_state=True brings it"})  # for whoever reads dictionaries by other ways

    def __repr__(self) -> str:
        return "<not read>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UnreadState)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __reduce__(self) -> tuple[type[UnreadState], tuple[()]]:
        return UnreadState, ()

    __hash__ = None


def _refuse(*_: object, **__: object) -> NoReturn:
    raise InvalidInputError(
        "The state of this session was not read: lists bring none.",
        hint="Ask the list for it with with_state=True, or read the session with get_session.",
    )


for _name in [name for name in dir(dict) if name not in dir(object) or name in ("__or__", "__ror__", "__ior__")]:
    if _name not in ("__class_getitem__", "fromkeys"):
        setattr(UnreadState, _name, _refuse)
