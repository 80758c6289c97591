"""What is imported when it is first used: modules, and the names that a package gives.

A process that loads a session and adds a run to it imports half as much as one that does all that a storage can; one
that only imports a package imports nearly nothing. Type checkers see the imports themselves, under `TYPE_CHECKING`.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which takes as long to import as Python to start
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class Later:
    """Stands for a module, which is imported when something of it is asked for."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        from importlib import import_module

        return getattr(import_module(self._name), name)


def names_of(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose names are imported when they are first used (PEP 562).

    Args:
        package: its `__name__`.
        homes: of each name the module below the package that has it: `module`, or `module:name` if it has it under
            another one.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        module, _, there = homes[name].partition(":")
        return getattr(import_module(f".{module}", package), there or name)

    def every() -> list[str]:
        import sys

        return sorted({*vars(sys.modules[package]), *homes})

    return find, every
