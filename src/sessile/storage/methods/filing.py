"""Files of a session: listed, read, written and deleted from outside runs."""

# pyright: reportPrivateUsage=false
# What is made here runs its operations over the storage that has made it.

from __future__ import annotations

from typing import TYPE_CHECKING

from ...later import Later
from ...records import UserId
from .base import Operated

if TYPE_CHECKING:
    from .. import erasing, files
    from ..files import SessionFile
else:
    erasing = Later("sessile.storage.erasing")
    files = Later("sessile.storage.files")


class Files:
    """The files of one session; made by `Storage.files`.

    Agents with the toolset `session_files()` list, read and write them.
    """

    def __init__(self, storage: Operated, session_id: str, user_id: UserId) -> None:
        self._storage, self._session_id, self._user_id = storage, session_id, user_id

    def __repr__(self) -> str:
        return f"Files(session_id={self._session_id!r}, user_id={self._user_id!r})"

    def all(self) -> list[SessionFile]:
        """The newest version of each file, by name. One read of the commits that have written files.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            StorageError: the database could not be read.
        """
        return self._storage._run(files.all_of, self._session_id, self._user_id)

    async def aall(self) -> list[SessionFile]:
        """As `all`, for asynchronous callers."""
        return await self._storage._arun(files.all_of, self._session_id, self._user_id)

    def versions(self, name: str) -> list[SessionFile]:
        """All versions of a file that are there, oldest first; none if there is no such file.

        Args:
            name: of which file.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: no file can have that name.
            StorageError: the database could not be read.
        """
        return self._storage._run(files.versions, self._session_id, self._user_id, name)

    async def aversions(self, name: str) -> list[SessionFile]:
        """As `versions`, for asynchronous callers."""
        return await self._storage._arun(files.versions, self._session_id, self._user_id, name)

    def get(self, name: str, version: int | None = None) -> SessionFile | None:
        """What is known of a version of a file, without its content; None if it is not there.

        Args:
            name: of which file.
            version: which version; None: the newest.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong.
            StorageError: the database could not be read.
        """
        return self._storage._run(files.get, self._session_id, self._user_id, name, version)

    async def aget(self, name: str, version: int | None = None) -> SessionFile | None:
        """As `get`, for asynchronous callers."""
        return await self._storage._arun(files.get, self._session_id, self._user_id, name, version)

    def read(self, name: str, version: int | None = None) -> bytes:
        """The content of a file.

        Args:
            name: of which file.
            version: which version; None: the newest.

        Raises:
            SessionFileNotFoundError: the session has no such file, or not that version.
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong.
            CorruptDataError: the content is missing, or is not what was written.
            StorageError: the database could not be read.
        """
        return self._storage._run(files.read, self._session_id, self._user_id, name, version)[1]

    async def aread(self, name: str, version: int | None = None) -> bytes:
        """As `read`, for asynchronous callers."""
        return (await self._storage._arun(files.read, self._session_id, self._user_id, name, version))[1]

    def write(
        self, name: str, content: bytes | str, *, media_type: str | None = None, if_version: int | None = None
    ) -> SessionFile:
        """Write a file: its first version, or the next one. Two writers at once have made two versions.

        The content is stored first, then one commit names it: after a crash there is the version, or none. What is the
        newest version already, content and type, is not written again.

        Args:
            name: any text of up to 255 bytes without control characters; slashes and dots mean nothing.
            content: bytes, or text, which is stored as UTF-8; up to the storage's `max_media_bytes`.
            media_type: what it is. Default: what the end of the name says; else text or bytes.
            if_version: only if this is the newest version; 0: only if there is none.

        Returns:
            The version that is there now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            ConflictError: the newest version is another one than `if_version`.
            TooLargeError: the content is too large, or the session has 5,000 versions of files.
            InvalidInputError: an argument is wrong.
            StorageError: the database failed; `error.written` says whether it was written.
        """
        given = files.new_file(name, content, media_type, if_version)
        return self._storage._run(files.write, self._session_id, self._user_id, given)

    async def awrite(
        self, name: str, content: bytes | str, *, media_type: str | None = None, if_version: int | None = None
    ) -> SessionFile:
        """As `write`, for asynchronous callers."""
        given = files.new_file(name, content, media_type, if_version)
        return await self._storage._arun(files.write, self._session_id, self._user_id, given)

    def delete(self, name: str, version: int | None = None) -> int:
        """Delete a file for good, or one version of it: name and content are taken out of the log, too.

        The number of a version that was the newest may be given again.

        Args:
            name: of which file.
            version: which version; None: all.

        Returns:
            How many versions were there.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            HeldError: the session is held.
            SessionBusyError: (with `error.written == "yes"`) it is deleted, but its content is left, because a run is
                running that may need it: call it again when that has ended.
            UnsupportedError: the database cannot rewrite commits.
            InvalidInputError: an argument is wrong.
            StorageError: the database failed; call it again.
        """
        return self._storage._run(erasing.delete_file, self._session_id, self._user_id, name, version)

    async def adelete(self, name: str, version: int | None = None) -> int:
        """As `delete`, for asynchronous callers."""
        return await self._storage._arun(erasing.delete_file, self._session_id, self._user_id, name, version)


class Filing(Operated):
    """Files of sessions."""

    def files(self, session_id: str, *, user_id: UserId = None) -> Files:
        """The files of a session, by name and version. No I/O.

        ```python
        storage.files("s1", user_id="ada").write("report.md", "# Report")
        storage.files("s1", user_id="ada").read("report.md")
        ```

        They belong to the session: forks, copies, archives and backups have them, encryption covers them, and they are
        deleted with it. `erase_run` erases what the run has written, `rewind` and `trim` leave files as they are.

        Args:
            session_id: which session.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's (when files are read or written).
        """
        return Files(self, session_id, user_id)
