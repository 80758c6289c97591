"""The commands beside `demo`: looking into a database, and taking care of it. Needs the extra `cli`."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, cast, get_args
from urllib.parse import unquote

import typer

from .._version import __version__
from ..drivers.files.storage import MARKER
from ..errors import CorruptDataError, InvalidInputError, NewerVersionError, SessileError, SessionNotFoundError
from ..records import Entry, Head, JsonObject, Page, Run, Status
from ..storage import Storage, open_storage
from ..storage.registry import BUILT_IN, ENTRY_POINT_GROUP
from ..storage.urls import split_url
from .describe import head_lines, run_lines, usage_text
from .output import Table, clean, moment, print_heading, print_table, to_json

PAGE = 1000

MIGRATED = frozenset({"dynamodb", "mariadb", "mongodb", "mongodb+srv", "mysql", "postgres", "postgresql", "sqlite"})
"""The schemes of databases in which only `sessile migrate`, of all commands, makes or changes tables."""

app = typer.Typer(
    name="sessile",
    help="Sessions of AI agents in your own database. A URL names it: sqlite:///sessions.db, sqlite:////abs/path.db",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Url = Annotated[str, typer.Argument(metavar="URL", help="The database, for example sqlite:///sessions.db.")]
SessionId = Annotated[str, typer.Argument(metavar="SESSION_ID", help="The session's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; times are microseconds UTC.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sessile {__version__}")
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
) -> None:
    """See an agent remember what an earlier process heard."""
    from .demo import run_demo

    raise typer.Exit(run_demo(db=db, model=model))


@app.command()
def sessions(
    url: Url,
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.")] = None,
    owner: Annotated[str | None, typer.Option(help="Only sessions of this agent, team or workflow.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only sessions of this kind: agent, team, workflow, …")] = None,
    status: Annotated[
        str | None, typer.Option(help=f"Only sessions whose newest run is {', '.join(get_args(Status))}.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 20,
    json: AsJson = False,
) -> None:
    """List sessions, newest first."""
    heads: list[Head] = []
    cursor: str | None = None
    with _opened(url) as storage:
        while len(heads) < limit:
            page = storage.sessions(
                user_id=user,
                owner=owner,
                kind=kind,
                status=cast("Status | None", status),
                limit=min(limit - len(heads), PAGE),
                cursor=cursor,
            )
            heads.extend(page.items)
            for session_id, error in page.unreadable.items():
                typer.echo(f"Session {session_id!r} is not shown: {error}", err=True)
            cursor = page.next_cursor
            if cursor is None:
                break
    if json:
        print(to_json([asdict(head) for head in heads], indent=2))
        return
    print_table(Table(("session", "kind", "owner", "user", "name", "runs", "status", "updated (UTC)"), _rows(heads)))
    if cursor is not None:
        typer.echo(f"There are more; --limit {limit * 10} shows them.", err=True)


def _rows(heads: list[Head]) -> list[list[str]]:
    return [
        [
            head.session_id,
            head.kind,
            head.owner or "",
            head.user_id or "",
            head.name or "",
            str(head.run_count),
            head.status or "",
            moment(head.updated_at),
        ]
        for head in heads
    ]


@app.command()
def show(
    url: Url,
    session_id: SessionId,
    runs: Annotated[int, typer.Option(min=0, help="How many of the newest runs.")] = 10,
    json: AsJson = False,
) -> None:
    """Show a session and its newest runs with their messages."""
    with _opened(url) as storage:
        view = storage.load_session(session_id, last_runs=runs)
    if view is None:
        raise _not_found(session_id)
    if json:
        print(to_json({"session": asdict(view.head), "runs": [asdict(run) for run in view.runs]}, indent=2))
        return
    print(f"Session {clean(session_id)}")
    for name, value in head_lines(view.head):
        print(f"  {name}: {clean(value)}")
    for name, time in (("created", view.head.created_at), ("updated", view.head.updated_at)):
        print(f"  {name}: {moment(time)} UTC")
    for run in view.runs:
        usage = f", {usage_text(run.usage)}" if run.usage.requests else ""
        print_heading(f"Run {run.number}, {run.status}, {moment(run.started_at)} UTC{usage}")
        _print_run(run, "  ")


def _print_run(run: Run, indent: str) -> None:
    for who, text in run_lines(run):
        print(f"{indent}{clean(who)}: {clean(text).replace(chr(10), f'{chr(10)}{indent}  ')}")
    for child in run.children:
        usage = f", {usage_text(child.usage)}" if child.usage.requests else ""
        print(f"{indent}Run of {clean(child.owner or 'a member')}, {child.status}{usage}")
        _print_run(child, indent + "  ")


@app.command()
def export(url: Url, session_id: SessionId) -> None:
    """Print a session's log as JSON Lines.

    All entries, oldest first, on all branches; media stay in the database.
    """
    with _opened(url) as storage:
        after = 0
        while found := storage.entries(session_id, after=after, limit=PAGE):
            for entry in found:
                print(to_json(_line(entry)))
            after = found[-1].seq


def _line(entry: Entry) -> JsonObject:
    names = ("seq", "time", "kind", "run", "run_id", "parent_run_id", "owner", "format", "data")
    return {name: getattr(entry, name) for name in names}


@app.command()
def delete(url: Url, session_id: SessionId) -> None:
    """Delete a session with its runs, state and media."""
    with _opened(url) as storage:
        if not storage.delete(session_id):
            raise _not_found(session_id)
    print(f"Deleted session {clean(session_id)}.")


@app.command()
def sweep(url: Url) -> None:
    """Remove expired sessions.

    Also what crashes have left; and notes, for runs whose process is gone, that they are interrupted.
    """
    with _opened(url) as storage:
        removed = storage.sweep()
    print(f"Removed {removed} session{'' if removed == 1 else 's'}.")


@app.command()
def verify(url: Url, session_id: SessionId) -> None:
    """Check a session: read its whole log, and compare it with its head."""
    with _opened(url) as storage:
        commits = storage.verify(session_id)
    print(f"Session {clean(session_id)} is sound: {commits} commits, and its head is what they add up to.")


@app.command()
def doctor(
    url: Url,
    sessions: Annotated[int, typer.Option(min=0, max=PAGE, help="How many of the newest sessions to verify.")] = 20,
) -> None:
    """Look whether a database keeps what it is given: its settings, and the newest sessions.

    Warns of what may be lost. Ends with code 1 if a session cannot be read, or its head is not what its log adds up to.
    """
    with _opened(url) as storage:
        for warning in storage.warnings():
            print(f"Warning: {warning}")
        if not storage.capabilities.durable:
            print("Warning: what is acknowledged may be gone when the database's process or machine ends.")
        page = storage.sessions(limit=sessions) if sessions else Page[Head]([])
        wrong = {session_id: str(error) for session_id, error in page.unreadable.items()}
        for head in page:
            try:
                storage.verify(head.session_id)
            except (CorruptDataError, NewerVersionError) as error:
                wrong[head.session_id] = str(error)
            except SessionNotFoundError:
                continue  # deleted meanwhile
    for session_id, problem in wrong.items():
        print(f"Session {clean(session_id)} is wrong: {problem}")
    print(f"{len(page) + len(page.unreadable) - len(wrong)} of the newest sessions are sound, {len(wrong)} are not.")
    if wrong:
        raise typer.Exit(1)


@app.command()
def migrate(
    url: Url,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the statements.")] = False,
    finish: Annotated[
        bool, typer.Option("--finish", help="Also run what programs of the version before would not survive.")
    ] = False,
) -> None:
    """Create or migrate the schema, and print the statements.

    Programs do that by themselves, unless their database user may not. The database can be made by it: no file needs
    to be there. Programs of the version before go on working until --finish.
    """
    with open_storage(url) as storage:
        statements = storage.migrate(finish=finish, dry_run=dry_run)
    for statement in statements:
        print(f"{statement};")
    if not statements:
        print("-- The schema is up to date.")


@app.command()
def drivers() -> None:
    """List the databases that URLs can name."""
    rows = [[f"{scheme}://", "Sessile", _state(target)] for scheme, target in sorted(BUILT_IN.items())]
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        source = point.dist.name if point.dist is not None else point.module
        rows.append([f"{point.name}://", source, _state(point.value)])
    print_table(Table(("scheme", "from", "state"), rows, frozenset({"state"})))


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


@contextmanager
def _opened(url: str) -> Generator[Storage]:
    """The storage of a URL, which must be there: what is mistyped must not become empty tables, or an empty file."""
    _check_file(url)
    scheme = url.partition("://")[0].lower()
    options = {"auto_migrate": False} if scheme in MIGRATED or scheme.startswith("sqlalchemy+") else {}
    with open_storage(url, **options) as storage:
        yield storage


def _check_file(url: str) -> None:
    """Refuse a path where nothing is."""
    parts = split_url(url)
    scheme = parts.scheme.removeprefix("sqlalchemy+").partition("+")[0]
    path = parts.path.removeprefix("/")
    if scheme == parts.scheme:
        path = unquote(path)  # SQLAlchemy takes it as it is
    local = scheme in ("sqlite", "json", "yaml") and not parts.netloc and path not in ("", ":memory:")
    if local and not path.startswith("file:") and not Path(path).exists():
        hint = f"Write {parts.scheme}:///relative/path or {parts.scheme}:////absolute/path."
        raise InvalidInputError(f"There is no {'file' if scheme == 'sqlite' else 'folder'} {path!r}.", hint=hint)
    if local and scheme != "sqlite" and not Path(path, MARKER).exists():
        raise InvalidInputError(f"The folder {path!r} has no sessions: there is no {MARKER} in it.")


def _not_found(session_id: str) -> SessionNotFoundError:
    return SessionNotFoundError(
        f"There is no session {session_id!r}.", hint="List what there is with: sessile sessions URL."
    )


__all__ = ["app"]
