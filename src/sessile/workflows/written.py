"""`@workflow`: a function as a workflow, whose arguments a type checker knows."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ..records import JsonObject, UserId
from ..storage.storage import Storage
from .context import Context, SyncContext
from .run.result import OutputT, WorkflowResult
from .workflow import Workflow

P = ParamSpec("P")
R = TypeVar("R")


class WrittenWorkflow(Workflow[OutputT], Generic[P, OutputT]):
    """A workflow that is written as a function: a `Workflow` that type checkers hold calls of against its parameters.

    They do where no session is named, because no type can add names to those of a function. `write_post.run("Rain")` is
    held against `write_post`, and `write_post.run("Rain", session_id="s1")` is not.
    """

    if TYPE_CHECKING:

        @overload
        def run(self, *args: P.args, **kwargs: P.kwargs) -> WorkflowResult[OutputT]: ...
        @overload
        def run(
            self,
            *args: Any,
            session_id: str | None,
            user_id: UserId = None,
            run_id: str | None = None,
            run_metadata: JsonObject | None = None,
            **kwargs: Any,
        ) -> WorkflowResult[OutputT]: ...
        @overload
        def run(
            self,
            *args: Any,
            user_id: UserId,
            run_id: str | None = None,
            run_metadata: JsonObject | None = None,
            **kwargs: Any,
        ) -> WorkflowResult[OutputT]: ...
        @overload
        def run(
            self, *args: Any, run_id: str | None, run_metadata: JsonObject | None = None, **kwargs: Any
        ) -> WorkflowResult[OutputT]: ...
        @overload
        def run(self, *args: Any, run_metadata: JsonObject | None, **kwargs: Any) -> WorkflowResult[OutputT]: ...
        def run(self, *args: Any, **kwargs: Any) -> Any:
            """See `Workflow.run`."""

        @overload
        async def arun(self, *args: P.args, **kwargs: P.kwargs) -> WorkflowResult[OutputT]: ...
        @overload
        async def arun(
            self,
            *args: Any,
            session_id: str | None,
            user_id: UserId = None,
            run_id: str | None = None,
            run_metadata: JsonObject | None = None,
            **kwargs: Any,
        ) -> WorkflowResult[OutputT]: ...
        @overload
        async def arun(
            self,
            *args: Any,
            user_id: UserId,
            run_id: str | None = None,
            run_metadata: JsonObject | None = None,
            **kwargs: Any,
        ) -> WorkflowResult[OutputT]: ...
        @overload
        async def arun(
            self, *args: Any, run_id: str | None, run_metadata: JsonObject | None = None, **kwargs: Any
        ) -> WorkflowResult[OutputT]: ...
        @overload
        async def arun(self, *args: Any, run_metadata: JsonObject | None, **kwargs: Any) -> WorkflowResult[OutputT]: ...
        async def arun(self, *args: Any, **kwargs: Any) -> Any:
            """See `Workflow.arun`."""


@overload
def workflow(function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> WrittenWorkflow[P, R]: ...
@overload
def workflow(function: Callable[Concatenate[SyncContext, P], R], /) -> WrittenWorkflow[P, R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    storage: Storage | None = None,
    state: JsonObject | None = None,
    scopes: Sequence[str] = (),
    timeout: float | None = None,
) -> _Decorator: ...
def workflow(function: Any = None, /, **options: Any) -> Any:
    """Make a function a `Workflow`: `@workflow(storage=…)`; the options are those of `Workflow`."""

    def decorate(function: Callable[..., Any]) -> Any:
        return WrittenWorkflow(function, **options)  # pyright: ignore[reportUnknownVariableType]

    return decorate if function is None else decorate(function)


class _Decorator:
    """How a type checker sees `@workflow(…)`."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /
    ) -> WrittenWorkflow[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[SyncContext, P], R], /) -> WrittenWorkflow[P, R]: ...
    def __call__(self, function: Any, /) -> Any: ...
