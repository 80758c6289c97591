"""`sessile serve`: agents, teams and workflows of the user's own modules, and the sessions of a storage, over HTTP."""

from __future__ import annotations

import json
import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ..errors import InvalidInputError, missing_dependency
from ..storage import Storage, open_storage
from ..terminal import say
from .opening import VARIABLE, Url, url_of, with_keys

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

serving = typer.Typer()


@serving.command()
def serve(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODULE:NAME]...", help="What to serve: agents, teams, workflows, or lists of them."),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help=f"The database. Default: that of the agents, or ${VARIABLE}.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port.")] = 8000,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='Who may ask: JSON, {"TOKEN": "USER", "TOKEN": {"user": …, "administrator": true}}.'
        ),
    ] = None,
    index: Annotated[
        str | None, typer.Option(metavar="URL", help="The SQL database of the index, if it is not beside the log.")
    ] = None,
    access_log: Annotated[bool, typer.Option(help="Write a line of JSON for each request.")] = True,
) -> None:
    """Serve agents over HTTP.

    Without modules: the sessions of a storage, to look at. Without tokens only this machine is served.
    """
    _check_installed("sessile serve")
    if tokens is None and host not in LOOPBACK:
        raise InvalidInputError(
            f"Without tokens the server listens on this machine alone, not on {host}.",
            hint="Pass --tokens FILE, or make an application with sessile.server.create_app(…, auth=…).",
        )
    from ..server.app import create_app
    from ..server.uvicorned import serve_app

    things = [thing for named in modules or [] for thing in found(named)]
    own = None if storage is None and any(thing.storage is not None for thing in things) else _open(storage)
    try:
        app = create_app(things, storage=own, auth=None if tokens is None else _tokens(tokens), index=index)
        who = "this machine alone, without authentication" if tokens is None else "whoever has a token"
        say("Serving {} on http://{}:{} for {}.", ", ".join(app.state.sessile.served) or "sessions", host, port, who)
        if access_log:
            _write_access_log()
        serve_app(app, host, port)
    finally:
        if own is not None:
            own.close()


@serving.command()
def dashboard(
    url: Url = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = 8000,
    index: Annotated[
        str | None, typer.Option(metavar="URL", help="The SQL database of the index, if it is not beside the log.")
    ] = None,
) -> None:
    """See the sessions of a storage in a browser, on this machine."""
    _check_installed("sessile dashboard")
    from ..server.app import create_app
    from ..server.uvicorned import listening, serve_app

    with _open(url) as storage, listening("127.0.0.1", port) as (socket, address):
        say("The dashboard: {}", address)
        serve_app(create_app(storage=storage, index=index), "127.0.0.1", port, fd=socket.fileno())


def _check_installed(what: str) -> None:
    for needed in ("fastapi", "uvicorn"):
        try:
            import_module(needed)
        except ImportError:
            raise missing_dependency(needed, "server", what) from None


def _open(url: str | None) -> Storage:
    return with_keys(open_storage(url_of(url)))


def found(named: str) -> list[Any]:
    """What a `module:name` names; raises `InvalidInputError`."""
    from ..agents import Agent
    from ..workflows import Workflow

    module, _, name = named.partition(":")
    if not module or not name:
        raise InvalidInputError(f"{named!r} names nothing to serve.", hint="Write module:name, as in app:agent.")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        thing: Any = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise InvalidInputError(f"There is no module {module!r}.", hint="Run it in the folder that has it.") from None
    for part in name.split("."):
        if not hasattr(thing, part):
            raise InvalidInputError(f"Module {module!r} has no {name!r}.", hint="Look at how it is called there.")
        thing = getattr(thing, part)
    things: list[Any] = list(cast("list[Any]", thing)) if isinstance(thing, (list, tuple)) else [thing]
    for one in things:
        if not isinstance(one, (Agent, Workflow)):
            raise InvalidInputError(f"{named!r} is a {type(one).__name__}, not an agent, team or workflow.")
    return things


def _tokens(path: Path) -> Any:
    """The tokens of a file."""
    from ..server.auth import Caller, Tokens

    hint = 'Write {"a long random token": "ada", "another one": {"user": "root", "administrator": true}}.'
    try:
        data = json.loads(path.read_text("utf-8"))
        callers = {token: _caller(Caller, who) for token, who in data.items()}
    except OSError as error:
        raise InvalidInputError(f"The file of tokens cannot be read: {error.strerror}.") from None
    except (ValueError, AttributeError, TypeError, KeyError):
        raise InvalidInputError("The file of tokens is not as it should be.", hint=hint) from None
    return Tokens(callers)


def _caller(make: Any, who: Any) -> Any:
    if isinstance(who, str):
        return make(who)
    if set(who) - {"user", "administrator"} or not isinstance(who["user"], str):
        raise ValueError
    return make(who["user"], administrator=who.get("administrator", False) is True)


def _write_access_log() -> None:
    logger, handler = logging.getLogger("sessile.access"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
