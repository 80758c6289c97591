"""Objects of the user's programs, by `MODULE:NAME`."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from ..errors import InvalidInputError


def named_object(text: str) -> Any:
    """What `module:name` means; modules of the current folder are found, too."""
    module, _, name = text.partition(":")
    if not module or not name:
        raise InvalidInputError(f"{text!r} names nothing.", hint="Write MODULE:NAME, as in shop.agents:support.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(f"{text!r} cannot be imported: {error}") from error
    return found
