"""The names that a user may choose for what we keep in a database."""

from __future__ import annotations

import re
from typing import Any

from ...errors import InvalidInputError

_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]{0,31}")


def check_names(schema: Any, prefix: Any) -> None:
    """Raise `InvalidInputError` unless both can stand in SQL as they are; `schema` may be None."""
    for value, what in ((schema, "schema"), (prefix, "prefix")):
        if what == "schema" and value is None:
            continue
        if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
            raise InvalidInputError(
                f"{what} must be up to 32 letters, digits and underscores, not beginning with a digit; it is {value!r}."
            )
