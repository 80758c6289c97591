"""Modules of operations that most processes never use, imported with their first use.

A process that loads a session and adds a run to it imports half as much as one that does all that a storage can.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """Stands for a module of `sessile.storage`, which is imported when something of it is asked for.

    Type checkers see the module itself, under `TYPE_CHECKING`.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = f"sessile.storage.{name}"

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)
