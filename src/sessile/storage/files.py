"""Files of a session: contents under names, with all their versions.

Each writing is a commit of its own that names the content, which is kept as media are, by its hash. Those commits have
one key, by which they are found without the rest of the log; no head grows by them, so a turn pays nothing for files.
"""

from __future__ import annotations

import mimetypes
import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from ..errors import ConflictError, CorruptDataError, InvalidInputError, SessionFileNotFoundError, TooLargeError
from ..records import Entry, JsonObject, Session, UserId
from ..times import datetime_of
from .absence import check_free
from .checks import check_count
from .computing import compute
from .core import Core
from .driver import Deadline, Span
from .ids import check_id
from .media import REFERENCE, check_media, digest_of, has_media, read_media, references, write_media
from .readable import read_entries
from .redacting import redacted_value
from .snapshots import Draft, Snapshot, owned
from .vocabulary import FilesDeleted, FileWritten
from .withholding import damage_of

KEY = "sessile:files"
"""The key of the commits that write and delete files."""

MOST = 5_000
"""How many versions of files a session has at most: whoever lists them, or writes another one, reads them all."""

LONGEST_TYPE = 200
"""How many characters a media type has at most."""

COPIED = 50
"""How many versions stand in one commit of a fork."""

_ID_BYTES = 8
_TURNING = frozenset("\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Characters that are not seen, and let a name be shown as another one."""


@dataclass(slots=True, frozen=True)
class SessionFile:
    """One version of a file of a session, without its content.

    Attributes:
        name: what it is called; a name, and no path of any disk: it may have slashes and dots.
        version: which of its versions it is, from 1.
        size: how many bytes it has.
        media_type: what it is, for example `text/markdown`.
        digest: the SHA-256 hash of its content, by which `storage.media` has it, too.
        run_id, agent: the run that has written it, and the name of who has in that run; None: somebody outside of runs.
        written_us: when it was written, microseconds UTC.
        file_id: the id of this version, which forks keep.
    """

    name: str
    version: int
    size: int
    media_type: str
    digest: str
    run_id: str | None = None
    agent: str | None = None
    written_us: int = 0
    file_id: str = ""

    @property
    def written_at(self) -> datetime:
        """When it was written."""
        return datetime_of(self.written_us)


@dataclass(slots=True, frozen=True)
class NewFile:
    """What is to be written, checked (`new_file`); `if_version`: only if this is the newest, 0: there is none."""

    name: str
    content: bytes
    media_type: str
    if_version: int | None = None


@dataclass(slots=True, frozen=True)
class Writer:
    """Which run writes, and who in it."""

    run_id: str | None = None
    agent: str | None = None


def new_file(name: Any, content: Any, media_type: Any = None, if_version: int | None = None) -> NewFile:
    """What a caller wants written; `InvalidInputError` if it is not right. Text becomes UTF-8.

    Without a media type the end of the name tells it, and text is `text/plain`.
    """
    checked = checked_name(name)
    if if_version is not None:
        check_count(if_version, "if_version", least=0)
    if isinstance(content, str):
        try:
            plain = content.encode()
        except UnicodeEncodeError:
            raise InvalidInputError("The content contains a lone surrogate, and is no text.") from None
    elif isinstance(content, (bytes, bytearray, memoryview)):
        plain = bytes(content)  # pyright: ignore[reportUnknownArgumentType]
    else:
        raise InvalidInputError(f"The content of a file is bytes or text, not {type(content).__name__}.")
    other = "text/plain" if isinstance(content, str) else "application/octet-stream"
    kind = (_types().guess_type(checked.rpartition("/")[2])[0] or other) if media_type is None else media_type
    return NewFile(checked, plain, _checked_type(kind), if_version)


@cache
def _types() -> mimetypes.MimeTypes:
    """What Python itself knows of the ends of names: what is installed on a machine makes no difference."""
    known = mimetypes.MimeTypes()
    for end in (".md", ".markdown"):
        known.add_type("text/markdown", end)
    return known


def checked_name(name: Any) -> str:
    """A name that a file may have; else `InvalidInputError`, or `InvalidIdError` for what could be no id.

    Refused are characters that nobody sees, and those that turn the direction: a name is read by people.
    """
    text = check_id(name, "The name of a file")
    odd = next((one for one in text if one in _TURNING or unicodedata.category(one) in ("Cc", "Zl", "Zp")), None)
    if odd is not None:
        raise InvalidInputError(f"The name of a file has the character U+{ord(odd):04X}, which is not seen.")
    if not text.strip():
        raise InvalidInputError("The name of a file is blank.")
    return text


def _checked_type(kind: Any) -> str:
    plain = isinstance(kind, str) and kind.isascii() and kind.isprintable() and len(kind) <= LONGEST_TYPE
    if not plain or not all(kind.partition("/")):
        raise InvalidInputError(f"media_type must be one, as text/markdown is; it is {kind!r:.200}.")
    return kind


# ---------------------------------------------------------------- reading


def _of(entry: Entry, said: FileWritten) -> SessionFile | None:
    """The version that an entry writes; None if nothing is left of it."""
    digest = next(references(said.content), None)
    if digest is None:
        return None
    content: JsonObject = said.content
    texts: Sequence[Any] = (said.name, said.id, content["media_type"])
    size: Any = content["data"]["size"]
    if type(said.version) is not int or type(size) is not int or not all(type(one) is str for one in texts):
        raise TypeError("a value of another type")
    return SessionFile(
        said.name,
        said.version,
        size,
        content["media_type"],
        digest,
        said.run_id,
        said.agent,
        said.written_at or entry.time_us,
        said.id,
    )


@dataclass(slots=True)
class Written:
    """What the log says of files: the versions that are there, by their writing, and the ids of those deleted."""

    files: list[SessionFile]
    deleted: set[str]

    def of(self, name: str) -> list[SessionFile]:
        """The versions of one file, oldest first."""
        return [one for one in self.files if one.name == name]


async def written(core: Core, head: Session, deadline: Deadline, *, upto: int | None = None) -> Written:
    """All that was written and deleted, up to a revision."""
    rows = await core.all_rows(head, Span(key=KEY, last=upto), deadline)
    entries = await read_entries(core.driver, rows)
    deleted: set[str] = set()
    found: list[SessionFile] = []
    for entry in entries:
        try:
            if (gone := FilesDeleted.read(entry)) is not None:
                deleted |= {str(one) for one in gone.ids}
            elif (said := FileWritten.read(entry)) is not None and (one := _of(entry, said)) is not None:
                found.append(one)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CorruptDataError(f"Commit {entry.seq} is damaged: {damage_of(error)}.") from error
    return Written([one for one in found if one.file_id not in deleted], deleted)


async def _look(core: Core, session_id: str, user_id: UserId) -> tuple[Session, Written]:
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    return head, await written(core, head, deadline)


async def all_of(core: Core, session_id: str, user_id: UserId) -> list[SessionFile]:
    """See `Files.all`."""
    _, found = await _look(core, session_id, user_id)
    newest = {one.name: one for one in found.files}
    return [newest[name] for name in sorted(newest)]


async def versions(core: Core, session_id: str, user_id: UserId, name: str) -> list[SessionFile]:
    """See `Files.versions`."""
    name = _name(core, name)
    return (await _look(core, session_id, user_id))[1].of(name)


async def read(
    core: Core, session_id: str, user_id: UserId, name: str, version: int | None = None
) -> tuple[SessionFile, bytes]:
    """A version of a file, and its content; see `Files.read`."""
    name = _name(core, name)
    if version is not None:
        check_count(version, "version", least=1)
    head, found = await _look(core, session_id, user_id)
    one = _version(found, name, version)
    if one is None:
        which = "" if version is None else f", version {version}"
        raise SessionFileNotFoundError(f"Session {session_id!r} has no file {name!r}{which}.")
    return one, await read_media(core, head, one.digest, core.deadline())


def _version(found: Written, name: str, version: int | None) -> SessionFile | None:
    """A version of a file, the newest if none is named."""
    return next((one for one in reversed(found.of(name)) if version in (None, one.version)), None)


async def get(core: Core, session_id: str, user_id: UserId, name: str, version: int | None) -> SessionFile | None:
    """See `Files.get`."""
    name = _name(core, name)
    if version is not None:
        check_count(version, "version", least=1)
    return _version((await _look(core, session_id, user_id))[1], name, version)


def _name(core: Core, name: Any) -> str:
    """A name as it is stored."""
    return redacted_value(core.settings.redact, checked_name(name))


# ---------------------------------------------------------------- writing


async def write(
    core: Core, session_id: str, user_id: UserId, given: NewFile, writer: Writer | None = None
) -> SessionFile:
    """See `Files.write`. The content is there before the commit that names it."""
    user_id = core.check_access(session_id, user_id)
    check_media(core, given.content)
    name, writer = _name(core, given.name), writer or Writer()
    digest = await compute(core.driver, lambda: digest_of(given.content), given.content)
    data = {REFERENCE: digest, "size": len(given.content)}
    content: JsonObject = {"kind": "binary", "media_type": given.media_type, "data": data}
    deadline = core.deadline()
    head = await core.head_of(session_id, user_id, deadline)
    await write_media(core, head, digest, given.content, deadline)
    same: list[SessionFile] = []

    async def change(snapshot: Snapshot) -> Draft | None:
        now = owned(snapshot.head, session_id, user_id)
        if now.incarnation != head.incarnation:  # it was created again, without the content
            raise ConflictError(f"Session {session_id!r} was created again while a file was written.", retryable=True)
        found = await written(core, now, deadline)
        newest = _version(found, name, None)
        last = 0 if newest is None else newest.version
        if given.if_version is not None and last != given.if_version:
            raise ConflictError(f"The newest version of {name!r} is {last}, not {given.if_version}.")
        same[:] = [newest] if newest and (newest.digest, newest.media_type) == (digest, given.media_type) else []
        if same:
            return None
        if len(found.files) >= MOST:
            raise TooLargeError(f"Session {session_id!r} has {MOST:,} versions of files already.")
        said = FileWritten(
            id=secrets.token_hex(_ID_BYTES),
            name=name,
            version=last + 1,
            content=content,
            run_id=writer.run_id,
            agent=writer.agent,
        )
        return Draft([said.entry()], key=KEY)

    committed = await core.commit(session_id, user_id, change, deadline)
    if committed is None:
        return same[0]
    if not await has_media(core, committed.head, digest, deadline):  # who erases at this moment saw nobody name it
        await write_media(core, committed.head, digest, given.content, deadline)
    entry = committed.entries[0]
    made = _of(entry, FileWritten.of(entry.data))
    assert made is not None, "it has just been written"
    return made


async def mark_deleted(
    core: Core, session_id: str, user_id: UserId, name: str, version: int | None
) -> tuple[int, Session, set[str]]:
    """Commit that versions of a file are deleted: how many, the head after it, and the ids of all that ever were."""
    user_id = core.check_access(session_id, user_id)
    name = _name(core, name)
    if version is not None:
        check_count(version, "version", least=1)
    deadline = core.deadline()
    seen: list[tuple[Session, set[str]]] = []
    gone: list[str] = []

    async def change(snapshot: Snapshot) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        check_free(head)
        found = await written(core, head, deadline)
        gone[:] = [one.file_id for one in found.of(name) if version in (None, one.version)]
        seen[:] = [(head, found.deleted | set(gone))]
        return Draft([FilesDeleted(ids=list(gone)).entry()], key=KEY, free=True) if gone else None

    committed = await core.commit(session_id, user_id, change, deadline)
    head, deleted = seen[0]
    return len(gone), head if committed is None else committed.head, deleted


# ---------------------------------------------------------------- forks


async def copy_files(core: Core, source: Session, copy: Session, upto: int) -> Session:
    """Write the files that a session had at a revision into a fork in the making; the fork's head after that."""
    deadline = core.deadline()
    found = (await written(core, source, deadline, upto=upto)).files
    for digest in {one.digest for one in found}:
        if await has_media(core, source, digest, deadline):  # what is missing there is missing in the copy
            await write_media(core, copy, digest, await read_media(core, source, digest, deadline), deadline)
    drafts = [
        Draft([_again(one) for one in found[start : start + COPIED]], key=KEY) for start in range(0, len(found), COPIED)
    ]
    return await core.append_batch(copy, copy.session_id, drafts, deadline) if drafts else copy


def _again(one: SessionFile) -> Entry:
    """The entry of a version in a fork."""
    said = FileWritten(
        id=one.file_id,
        name=one.name,
        version=one.version,
        content={
            "kind": "binary",
            "media_type": one.media_type,
            "data": {REFERENCE: one.digest, "size": one.size},
        },
        run_id=one.run_id,
        agent=one.agent,
        written_at=one.written_us,
    )
    return said.entry()
