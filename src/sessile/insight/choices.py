"""What a filter can be set to, as one types: by prefix, a few at a time, and never all that there is."""

from __future__ import annotations

from typing import Literal

from ..records import ANY_USER
from .filters import Whose
from .place import Place

Field = Literal["user", "agent", "model", "tool", "label", "error", "kind"]

COLUMNS: dict[Field, tuple[str, str]] = {
    "user": ("{runs}", "user_id"),
    "agent": ("{runs}", "agent"),
    "model": ("{models}", "model"),
    "tool": ("{tools}", "tool"),
    "label": ("{ratings}", "label"),
    "error": ("{runs}", "error"),
    "kind": ("{runs}", "kind"),
}
"""Where each stands; an index begins with it."""

LOOKED_AT = 300
"""Among how many of a user's newest runs the user's own choices are looked for."""


def choices(place: Place, field: Field, prefix: str, limit: int, whose: Whose) -> list[str]:
    """The first values that begin with a prefix, in the order of the database; each costs one look into an index.

    Of one user's runs: those among the newest.
    """
    table, column = COLUMNS[field]
    if whose.user_id is not ANY_USER:
        return _among_newest(place, field, prefix, limit, whose)
    found: list[str] = []
    values = {"prefix": prefix}
    condition = f"{column} >= :prefix"
    while len(found) < limit:
        rows = place.read(f"SELECT MIN({column}) FROM {table} WHERE {condition}", values)
        value = rows[0][0]
        if value is None or not value.startswith(prefix):
            break
        found.append(value)
        values, condition = {"last": value}, f"{column} > :last"
    return found


def _among_newest(place: Place, field: Field, prefix: str, limit: int, whose: Whose) -> list[str]:
    table, column = COLUMNS[field]
    user = "r.user_id IS NULL" if whose.user_id is None else "r.user_id = :user_id"
    own = ""
    values: dict[str, object] = {"newest": LOOKED_AT}
    if whose.user_id is not None:
        values["user_id"] = whose.user_id
    if whose.space:
        inside = "SELECT 1 FROM {sessions} o WHERE o.id = r.session AND SUBSTR(o.session_id, 1, :length) = :space"
        own = f" AND EXISTS ({inside})"
        values |= {"space": whose.space, "length": len(whose.space)}
    newest = f"SELECT r.id AS id FROM {{runs}} r WHERE {user}{own} ORDER BY r.id DESC LIMIT :newest"
    key = "id" if table == "{runs}" else "run"
    rows = place.read(f"SELECT DISTINCT x.{column} FROM {table} x JOIN ({newest}) n ON x.{key} = n.id", values)
    return sorted(row[0] for row in rows if row[0] is not None and row[0].startswith(prefix))[:limit]
