"""Backups: a file with all of a storage as it was at one moment, and putting it back.

Of SQLite that is a database, made by SQLite itself while others write; of every other storage an archive, whose
sessions are each of one moment. Databases of servers have tools of their own, which are faster (docs/backup.md).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from ..errors import (
    AlreadyExistsError,
    CorruptDataError,
    InvalidInputError,
    NewerVersionError,
    SessileError,
    SessionNotFoundError,
    StorageError,
)
from ..records import Session
from ..storage import Storage, open_storage
from ..storage.core import Core
from ..storage.encoding import decode_head
from ..storage.fold import roll_forward
from ..storage.storage import operate
from . import checking, reading
from .archiving import export_archive, import_archive
from .copying import copy
from .filters import query_of_choice
from .writing import place_of, settle

SQLITE = b"SQLite format 3\0"
"""What an SQLite database begins with."""


@dataclass(slots=True)
class BackedUp:
    """What a backup has, or what was put back.

    Attributes:
        form: `sqlite`, a database; or `archive`.
        sessions: how many; of a database that was copied as a file, as many as were verified.
        skipped: sessions that could not be read, or put back, and why.
        wrong: sessions that are not what their logs add up to, or lack media, and why; if it was verified.
    """

    form: Literal["sqlite", "archive"]
    sessions: int = 0
    skipped: dict[str, SessileError] = field(default_factory=dict[str, SessileError])
    wrong: dict[str, SessileError] = field(default_factory=dict[str, SessileError])


def back_up(storage: Storage, to: str | os.PathLike[str]) -> BackedUp:
    """Write a backup, while the storage is in use. The file has its name when it is whole.

    Args:
        storage: what is backed up. Of an encrypted SQLite database the backup is encrypted as well.
        to: the path; an archive is compressed if it ends in `.gz`.

    Raises:
        InvalidInputError: the storage is encrypted, and an archive would not be; or `to` is no file.
        StorageError: the database failed; there is no file then.
        OSError: the file cannot be written.
    """
    path, seals = operate(storage, _file_of)
    if path is not None:
        place = place_of(to)
        if place is None:
            raise InvalidInputError(f"There is something that is no file: {os.fspath(to)!r}.")
        _copy_sqlite(path, place)
        return BackedUp("sqlite")
    if seals:
        raise InvalidInputError(
            "An archive would hold the encrypted sessions as they are.",
            hint="Use the database's own tools, or copy into an encrypted SQLite database and back that up.",
        )
    done = export_archive(storage, to)
    return BackedUp("archive", done.sessions, done.skipped)


async def _file_of(core: Core) -> tuple[Path | None, bool]:
    """The file of an SQLite database, and whether what it has is encrypted."""
    await core.prepare(core.deadline())
    driver: Any = core.driver
    seals = False
    while hasattr(driver, "inner"):
        seals = seals or driver.seals
        driver = driver.inner
    path = None if driver.name != "sqlite" or driver.in_memory else Path(driver.path)
    return path, seals


def _copy_sqlite(source: Path, to: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{to.name}.", dir=to.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(name)) as other:
            one.backup(other)  # in one step, beside writers: between two each of theirs would have it begin anew
            other.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        _settle(Path(name), to)
    except sqlite3.Error as error:
        raise StorageError(f"The database could not be backed up: {error}.", written="no") from error
    finally:
        Path(name).unlink(missing_ok=True)


def _settle(made: Path, to: Path) -> None:
    """Give a file its name when all of it is on the disk."""
    with made.open("rb+") as file:
        os.fsync(file.fileno())
    settle(made, to)


# ---------------------------------------------------------------- putting back


def restore(path: str | os.PathLike[str], storage: str | Callable[[], Storage], *, verify: bool = True) -> BackedUp:
    """Put a backup back, where no sessions are.

    A backup of SQLite is put back as a file where the URL names one, and is copied into any other storage, session by
    session.

    Args:
        path: a file that `back_up` wrote, or an archive.
        storage: the URL of a storage without sessions; or what makes it, for one with other options.
        verify: read all of it again: each session against its log, each content against its hash.

    Raises:
        AlreadyExistsError: there are sessions already. Nothing was written.
        CorruptDataError: the file is no backup, or damaged. Nothing was written.
        StorageError: the database failed.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        form: Literal["sqlite", "archive"] = "sqlite" if file.read(len(SQLITE)) == SQLITE else "archive"
    if form == "sqlite":
        _check_sqlite(Path(path))
    make = (lambda: open_storage(storage)) if isinstance(storage, str) else storage
    done = BackedUp(form)
    with make() as target:
        if _has_sessions(target):
            raise AlreadyExistsError("There are sessions already.", hint="Restore into a new database.")
        file_of, _ = operate(target, _file_of)
        if form == "archive":
            taken = import_archive(path, target)
            done.sessions, done.skipped = taken.sessions, taken.skipped
        elif file_of is None:
            from ..drivers.sqlite import SqliteStorage

            with SqliteStorage(Path(path), auto_migrate=False) as source:
                copied = copy(source, target)
            done.sessions, done.skipped = copied.sessions, copied.skipped
    if form == "sqlite" and file_of is not None:
        _put_back(Path(path), file_of)
    if verify:
        with make() as target:
            done.sessions, done.wrong = verify_all(target)
    return done


def _check_sqlite(path: Path) -> None:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            connection.execute("SELECT count(*) FROM sessile_sessions").fetchone()
    except sqlite3.Error as error:
        raise CorruptDataError(f"The file is no backup of sessions: {error}.") from error
    if found != "ok":
        raise CorruptDataError(f"The file is damaged: {found}.")


def _has_sessions(storage: Storage) -> bool:
    query = replace(query_of_choice({}), limit=1)
    page, _ = operate(storage, reading.list_sessions, query)
    return bool(page.rows or page.unreadable)


def _put_back(backup: Path, to: Path) -> None:
    """The backup in the place of a database that has no sessions and is closed."""
    handle, name = tempfile.mkstemp(prefix=f".{to.name}.", dir=to.parent)
    try:
        with os.fdopen(handle, "wb") as file, backup.open("rb") as source:
            shutil.copyfileobj(source, file)
        for log in ("-wal", "-shm"):  # they belong to what was there
            to.with_name(to.name + log).unlink(missing_ok=True)
        _settle(Path(name), to)
    finally:
        Path(name).unlink(missing_ok=True)


def verify_all(storage: Storage) -> tuple[int, dict[str, SessileError]]:
    """Read all that a storage has: how many sessions there are, and which are wrong, and why."""
    unreadable: dict[str, SessileError] = {}
    wrong: dict[str, SessileError] = {}
    count = 0
    for row in reading.all_rows(storage, query_of_choice({}), unreadable):
        count += 1
        try:
            _verify(storage, decode_head(row))
        except (CorruptDataError, NewerVersionError) as error:
            wrong[row.session_id] = error
        except SessionNotFoundError:
            count -= 1  # deleted meanwhile
    return count + len(unreadable), {**unreadable, **wrong}


def _verify(storage: Storage, head: Session) -> None:
    folded: Session | None = None
    for page in checking.pages(storage, head):
        folded = roll_forward(folded, page)
    if not checking.is_folded(head, folded):
        raise CorruptDataError(f"The head of session {head.session_id!r} is not what its log folds to.")
    for key in operate(storage, reading.record_names, head):
        operate(storage, reading.read_record, head, key)
