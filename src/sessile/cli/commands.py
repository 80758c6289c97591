"""The commands beside `demo`: looking into a database, and taking care of it. Needs the extra `cli`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, cast, get_args

import typer

from .._version import __version__
from ..errors import InvalidInputError, NewerVersionError, SessileError
from ..insight import Index
from ..jsons import session_json
from ..records import Page, Session, Status
from ..storage import Storage, open_storage
from ..storage.examining import examine
from ..storage.registry import BUILT_IN, ENTRY_POINT_GROUP
from ..terminal import clean_json, say, say_text
from ..transcripts import moment
from .backing import backing
from .changing import changing
from .deciding import deciding
from .evaluating import evaluating
from .filing import filing
from .looking import looking
from .moving import moving
from .opening import AsJson, First, Second, Url, User, not_found, opened, url_and_session, url_of, whose
from .output import Table, paged, print_table, progress, told
from .remembering import remembering
from .retaining import retaining
from .serving import serving
from .showing import showing
from .tailing import tail_command

PAGE = 1000

app = typer.Typer(
    name="sessile",
    help="Sessions of AI agents in your own database. A URL names it: sqlite:///sessions.db, sqlite:////abs/path.db. "
    "Without one, the environment variable SESSILE_STORAGE does; - reads it from the standard input.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for more in (
    looking,
    moving,
    showing,
    deciding,
    changing,
    remembering,
    filing,
    retaining,
    backing,
    tail_command,
    evaluating,
    serving,
):
    app.add_typer(more)


def _show_version(wanted: bool) -> None:
    if wanted:
        say("sessile {}", __version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself; `--version` has done its work before this is called."""


@app.command()
def demo(
    db: Annotated[str | None, typer.Option(metavar="PATH", help="Keep the database in this file.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model, for example openai:gpt-5-mini, or offline.")
    ] = None,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="See sample sessions in a browser instead.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the dashboard listens; 0: a free port.")] = 8000,
) -> None:
    """See an agent remember what an earlier process heard."""
    from .demo import run_demo, show_dashboard

    raise typer.Exit(show_dashboard(port=port, db=db) if dashboard else run_demo(db=db, model=model))


@app.command()
def sessions(
    url: Url = None,
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only sessions of this agent, team or workflow.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only sessions of this kind: agent, team, workflow, …")] = None,
    status: Annotated[
        str | None, typer.Option(help=f"Only sessions whose newest run is {', '.join(get_args(Status))}.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    heads: list[Session] = []
    cursor: str | None = None
    with opened(url) as storage, ExitStack() as stack:
        several = status is not None or kind is not None or (user is not None and agent is not None)
        listed = _by_index(storage, stack) if several else storage.sessions
        while len(heads) < limit:
            page = listed(
                user_id=whose(user),
                agent=agent,
                kind=kind,
                status=cast("Status | None", status),
                limit=min(limit - len(heads), PAGE),
                cursor=cursor,
            )
            heads.extend(page.items)
            for session_id, error in page.unreadable.items():
                say("Session '{}' is not shown: {}", session_id, error, err=True)
            cursor = page.next_cursor
            if cursor is None:
                break
    if json:
        say_text(clean_json([session_json(head) for head in heads], indent=2))
        return
    with paged():
        columns = ("session", "kind", "agent", "user", "name", "runs", "status", "updated (UTC)")
        print_table(Table(columns, _rows(heads), spare=("kind", "user", "agent", "runs", "name")))
    if cursor is not None:
        say("There are more; --limit {} shows them.", limit * 10, err=True)


def _by_index(storage: Storage, stack: ExitStack) -> Callable[..., Page[Session]]:
    """The list of sessions by the index beside the log, which looks up several filters; else by the log."""
    try:
        index = stack.enter_context(Index(storage))
        return index.sessions if index.exists() else storage.sessions
    except (InvalidInputError, NewerVersionError):
        return storage.sessions


def _rows(heads: list[Session]) -> list[list[str]]:
    return [
        [
            head.session_id,
            head.kind,
            head.agent or "",
            head.user_id or "",
            head.name or "",
            str(head.run_count),
            head.status or "",
            moment(head.updated_at),
        ]
        for head in heads
    ]


@app.command()
def delete(first: First = None, second: Second = None, user: User = None, json: AsJson = False) -> None:
    """Delete a session with its runs, state and media."""
    url, session_id = url_and_session(first, second)
    with opened(url) as storage:
        if not storage.delete(session_id, user_id=whose(user)):
            raise not_found(session_id)
    told({"deleted": session_id}, "Deleted session {}.", session_id, json=json)


@app.command()
def verify(first: First = None, second: Second = None, user: User = None, json: AsJson = False) -> None:
    """Check a session: read its whole log, and compare it with its head."""
    url, session_id = url_and_session(first, second)
    with opened(url) as storage:
        commits = storage.verify(session_id, user_id=whose(user))
    sound = "Session {} is sound: {} commits, and its head is what they add up to."
    told({"session_id": session_id, "commits": commits}, sound, session_id, commits, json=json)


@app.command()
def doctor(
    url: Url = None,
    sessions: Annotated[int, typer.Option(min=0, max=PAGE, help="How many of the newest sessions to verify.")] = 20,
    json: AsJson = False,
) -> None:
    """Look whether a database keeps what it is given: its settings, and the newest sessions.

    Warns of what may be lost. Ends with code 1 if a session cannot be read, or its head is not what its log adds up to.
    """
    with opened(url) as storage, progress("sessions") as done:
        found = examine(storage, sessions, done)
    if json:
        say_text(clean_json({"warnings": found.warnings, "wrong": found.wrong, "sound": found.sound}, indent=2))
    else:
        for warning in found.warnings:
            say("Warning: {}", warning)
        for session_id, problem in found.wrong.items():
            say("Session {} is wrong: {}", session_id, problem)
        say("{} of the newest sessions are sound, {} are not.", found.sound, len(found.wrong))
    if found.wrong:
        raise typer.Exit(1)


@app.command()
def migrate(
    url: Url = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the statements.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Also run what programs of the version before would not survive.")
    ] = False,
    with_index: Annotated[
        bool,
        typer.Option("--index", help="Also make the tables of the index, which answers `runs` and `search`."),
    ] = False,
    json: AsJson = False,
) -> None:
    """Create or migrate the schema, and print the statements.

    Programs do that by themselves, unless their database user may not. The database can be made by it: no file needs
    to be there. Programs of the version before go on working until --finish.
    """
    with open_storage(url_of(url)) as storage:
        statements = storage.migrate(finish=finish, dry_run=dry_run)
        if with_index:
            with Index(storage) as index:
                statements += index.migrate(dry_run=dry_run)
    if json:
        say_text(clean_json({"statements": statements}, indent=2))
        return
    for statement in statements:
        say_text(f"{statement};")
    if not statements:
        say("-- The schema is up to date.")


@app.command()
def drivers(json: AsJson = False) -> None:
    """List the databases that URLs can name."""
    rows = [[f"{scheme}://", "Sessile", _state(target)] for scheme, target in sorted(BUILT_IN.items())]
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        source = point.dist.name if point.dist is not None else point.module
        rows.append([f"{point.name}://", source, _state(point.value)])
    columns = ("scheme", "from", "state")
    if json:
        say_text(clean_json([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return
    print_table(Table(columns, rows))


def _state(target: str) -> str:
    """`ready`, or what is missing to use the driver."""
    module, _, name = target.partition(":")
    try:
        getattr(import_module(module), name)
    except SessileError as error:
        return str(error)
    except (ImportError, AttributeError) as error:
        return f"cannot be imported: {error}"
    return "ready"


__all__ = ["app"]
