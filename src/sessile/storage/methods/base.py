"""What the methods stand on: an operation that is written once, run for callers of either kind."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..core import Core

P = ParamSpec("P")
R = TypeVar("R")


class Operated:
    """Runs operations; `Storage` says how."""

    def _run(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        raise NotImplementedError

    async def _arun(
        self, operation: Callable[Concatenate[Core, P], Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        raise NotImplementedError
