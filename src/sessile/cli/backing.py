"""The commands of backups. Needs the extra `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidInputError
from ..storage import Storage, open_storage
from ..terminal import clean_json, say, say_text
from ..transfer.backup import BackedUp, back_up, restore
from .opening import AsJson, for_file, opened, url_and, url_of, with_keys

backing = typer.Typer()


@backing.command()
def backup(
    names: Annotated[list[str], typer.Argument(metavar="[URL] FILE", help="Where the backup is written.")],
    json: AsJson = False,
) -> None:
    """Write all of a database into one file, while it is in use.

    Of SQLite that is a database, of all others an archive. Databases of servers have faster tools of their own.
    """
    url, (path,) = url_and(names, 1, "the path of a file")
    with opened(url) as storage, for_file(path, "written"):
        done = back_up(storage, path)
    _tell(done, f"Wrote {path}.", json)


@backing.command("restore")
def restore_command(
    names: Annotated[list[str], typer.Argument(metavar="[URL] FILE", help="A file that `sessile backup` wrote.")],
    verify: Annotated[bool, typer.Option(help="Read all of it again, and compare.")] = True,
    json: AsJson = False,
) -> None:
    """Put a backup back, into a database without sessions, and look whether all of it is there."""
    named, (path,) = url_and(names, 1, "the path of a backup")
    if not Path(path).is_file():
        raise InvalidInputError(f"There is no file {path!r}.")
    url = url_of(named)

    def make() -> Storage:
        return with_keys(open_storage(url))

    with for_file(path, "read"):
        done = restore(path, make, verify=verify)
    _tell(done, "It is back.", json, verified=verify)


def _tell(done: BackedUp, what: str, json: bool, *, verified: bool = False) -> None:
    problems = {**done.skipped, **done.wrong}
    texts = {session_id: str(error) for session_id, error in problems.items()}
    if json:
        counts = {"form": done.form, "sessions": done.sessions, "verified": verified, "problems": texts}
        say_text(clean_json(counts, indent=2))
    else:
        say("{}", what)
        if verified:
            say("{} sessions were read, {} are wrong.", done.sessions, len(done.wrong))
        for session_id, problem in texts.items():
            say("Session '{}': {}", session_id, problem, err=True)
    if problems:
        raise typer.Exit(1)
