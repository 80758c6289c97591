"""The command that lists, reads, writes and deletes files of a session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidInputError
from ..jsons import record_json
from ..storage import Storage
from ..storage.files import SessionFile
from ..terminal import clean_json, say, say_text
from ..transcripts import moment
from .opening import AsJson, First, Second, User, opened, url_and_session, whose
from .output import Table, paged, print_table

filing = typer.Typer()


@filing.command()
def files(
    first: First = None,
    second: Second = None,
    user: User = None,
    name: Annotated[str | None, typer.Option(help="The versions of this file; with --out one of them.")] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Which version. Default: the newest.")] = None,
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="Write its content there, where nothing is; - : to the output.")
    ] = None,
    add: Annotated[str | None, typer.Option(metavar="PATH", help="Write this file, under --name or its own.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete --name for good, or --version of it.")] = False,
    json: AsJson = False,
) -> None:
    """List the files of a session; read, write or delete one."""
    url, session_id = url_and_session(first, second)
    if (out is not None or delete) and name is None:
        raise InvalidInputError("Say which file is meant: --name.")
    if sum((out is not None, delete, add is not None)) > 1:
        raise InvalidInputError("One of --out, --add and --delete at a time.")
    with opened(url) as storage:
        mine = storage.files(session_id, user_id=whose(user))
        if out is not None:
            _save(mine.read(name or "", version), out)
            return
        if delete:
            if not mine.delete(name or "", version):
                say("There is no such file.", err=True)
                raise typer.Exit(1)
            return
        if add is not None:
            name = _add(storage, session_id, user, name, Path(add)).name
        found = mine.all() if name is None else mine.versions(name)
    if json:
        say_text(clean_json([record_json(one) for one in found], indent=2))
        return
    with paged():
        columns = ("name", "version", "type", "bytes", "run", "written (UTC)")
        print_table(Table(columns, [_row(one) for one in found], spare=("run", "type", "name")))


def _save(content: bytes, out: str) -> None:
    """Write a content to a new file of the disk, or to the output as it is."""
    if out == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        with Path(out).open("xb") as file:
            file.write(content)
    except FileExistsError:
        raise InvalidInputError(f"There is something at {out!r} already.", hint="Name another path.") from None
    except OSError as error:
        raise InvalidInputError(f"{out!r} cannot be written: {error.strerror}.") from None


def _add(storage: Storage, session_id: str, user: str | None, name: str | None, path: Path) -> SessionFile:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{str(path)!r} cannot be read: {error.strerror}.") from None
    return storage.files(session_id, user_id=whose(user)).write(name or path.name, content)


def _row(one: SessionFile) -> list[str]:
    size = f"{one.size:,}"
    return [one.name, str(one.version), one.media_type, size, one.run_id or "", moment(one.written_at)]
