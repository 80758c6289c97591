"""Which database a command means, and how it is opened. Needs the extra `cli`."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from ..drivers.files.storage import MARKER
from ..errors import InvalidInputError, SessileError, SessionNotFoundError
from ..records import ANY_USER, UserId
from ..storage import Storage, open_storage
from ..storage.urls import split_url
from ..terminal import say

VARIABLE = "SESSILE_STORAGE"
"""The environment variable with the URL. What stands on a command line, all users of the machine can read."""

KEYS = "SESSILE_KEYS"
"""The environment variable with the master keys of databases that are encrypted (docs/encryption.md)."""

MIGRATED = frozenset({"dynamodb", "mariadb", "mongodb", "mongodb+srv", "mysql", "postgres", "postgresql", "sqlite"})
"""The schemes of databases in which only `sessile migrate`, of all commands, makes or changes tables."""

_URL_HELP = f"The database, for example sqlite:///sessions.db; - reads it from stdin. Default: ${VARIABLE}."
Url = Annotated[str | None, typer.Argument(metavar="URL", show_default=False, help=_URL_HELP)]
First = Annotated[str | None, typer.Argument(metavar="URL", show_default=False, help=_URL_HELP)]
Second = Annotated[str | None, typer.Argument(metavar="SESSION_ID", show_default=False, help="The session's id.")]
User = Annotated[str | None, typer.Option(help="Only if it is a session of this user.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: times in UTC, costs in dollars.")]


def whose(user: str | None) -> UserId:
    """The command line reaches the sessions of all users, unless it names one."""
    return ANY_USER if user is None else user


def url_and_session(first: str | None, second: str | None) -> tuple[str | None, str]:
    """The URL, which may be left out, and the id that follows it."""
    if first is None:
        raise typer.BadParameter(
            f"Give the id of a session, and before it the URL of its database, if {VARIABLE} does not name it."
        )
    return (None, first) if second is None else (first, second)


def url_and(names: Sequence[str], count: int, what: str) -> tuple[str | None, list[str]]:
    """The URL, which may be left out, and the `count` names that follow it."""
    if len(names) not in (count, count + 1) or (len(names) == count and "://" in names[0]):
        raise typer.BadParameter(
            f"Give {what}, and before that the URL of the database, if {VARIABLE} does not name it."
        )
    return (names[0] if len(names) > count else None), list(names[-count:])


def url_and_more(names: Sequence[str], what: str) -> tuple[str | None, str, list[str]]:
    """The URL, which may be left out, the id of a session, and whatever follows."""
    url = names[0] if names and (names[0] == "-" or "://" in names[0]) else None
    rest = list(names[url is not None :])
    if not rest:
        raise typer.BadParameter(
            f"Give {what}, and before that the URL of the database, if {VARIABLE} does not name it."
        )
    return url, rest[0], rest[1:]


def number_of(text: str, what: str = "The run") -> int:
    """A number that was given as text."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInputError(f"{what} is named by its number; {text!r} is none.")
    return int(text)


def url_of(url: str | None) -> str:
    """The URL that the command line names, or says where to find."""
    if url == "-":
        return sys.stdin.readline().strip()
    if url is None:
        url = os.environ.get(VARIABLE, "")
        if not url:
            hint = f"Give its URL, set {VARIABLE} to it, or give - and write it to the standard input."
            raise InvalidInputError("No database is named.", hint=hint)
    elif "://" in url and split_url(url).password:
        say("Warning: all users of this machine can read the password in the list of processes.", err=True)
        say("Set {} to the URL, or give - and write it to the standard input.", VARIABLE, err=True)
    return url


def with_keys(storage: Storage, *, plain: bool = False) -> Storage:
    """The storage, which encrypts where the environment has keys, unless it is said to be unencrypted."""
    if plain or not os.environ.get(KEYS):
        return storage
    from ..encryption import EncryptedStorage  # needs an extra

    return EncryptedStorage(storage, keys=f"env:{KEYS}")


@contextmanager
def opened(named: str | None, *, plain: bool = False) -> Generator[Storage]:
    """The storage of a URL, which must be there: what is mistyped must not become empty tables, or an empty file."""
    url = url_of(named)
    _check_file(url)
    scheme = url.partition("://")[0].lower()
    options = {"auto_migrate": False} if scheme in MIGRATED or scheme.startswith("sqlalchemy+") else {}
    with with_keys(open_storage(url, **options), plain=plain) as storage:
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


@contextmanager
def for_file(path: str, what: str) -> Generator[None]:
    """Say which file it is that cannot be `what`: read, or written."""
    try:
        yield
    except SessileError:
        raise  # some of which are errors of the system, too
    except OSError as error:
        raise InvalidInputError(
            f"The file {path!r} cannot be {what}: {error.strerror or error}.", hint="Look at the path, and at the disk."
        ) from error


def not_found(session_id: str) -> SessionNotFoundError:
    """The error of a session that is not there."""
    return SessionNotFoundError(
        f"There is no session {session_id!r}.", hint="List what there is with: sessile sessions URL."
    )
