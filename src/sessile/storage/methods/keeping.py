"""Taking care of what is stored: deleting, sweeping, checking, setting up."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...later import Later
from ...records import Duration, Run, Session, UserId
from .. import reads, writes
from ..core import Core
from ..ids import check_id
from .base import Operated

if TYPE_CHECKING:
    from .. import erasing, holding
else:
    erasing = Later("sessile.storage.erasing")
    holding = Later("sessile.storage.holding")


class Keeping(Operated):
    """What is done to sessions as a whole, and to the database."""

    def delete(self, session_id: str, *, user_id: UserId = None) -> bool:
        """Delete a session with its runs, its state and its media.

        One commit makes it absent for everybody. Then its data are removed; after a crash, `sweep` does that. A
        session that is made again under the same id is another one.

        Args:
            session_id: which session.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            Whether there was one; False also if it is another user's.

        Raises:
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            HeldError: the session is held.
            StorageError: the database failed. With `error.written == "yes"` the session is absent, and only its removal
                has failed.
        """
        return self._run(writes.delete, session_id, user_id=user_id)

    async def adelete(self, session_id: str, *, user_id: UserId = None) -> bool:
        """As `delete`, for asynchronous callers."""
        return await self._arun(writes.delete, session_id, user_id=user_id)

    def erase_run(self, session_id: str, run_number: int, *, message: int | None = None, user_id: UserId = None) -> Run:
        """Erase what was said in one run, or in one of its messages, for good; the rest of the session stays.

        Texts, inputs and outputs, arguments and results of tools, media that nothing else names, and rolling
        summaries that tell of the run are removed. Marks stand in their places (`"[erased]"`, `{"$erased": true}`),
        and an entry `session.erased` says that something was erased. An index sees the session as changed. What the run
        changed in the state, the name and the metadata of the session, and forks of it, are not touched. A run that is
        paused or interrupted ends as cancelled. Takes time in proportion to the session, and may be repeated after an
        error. Let one at a time erase in a session.

        Args:
            session_id: which session.
            run_number: the number of the run, on whatever branch.
            message: erase only this message, counted from 0 among the run's own; with the first one the run's input,
                with the last one its output, and with calls of tools what these returned. Default: the whole run, with
                the runs of members below it.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The run as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no run of that number.
            SessionBusyError: the run is running; or (with `error.written == "yes"`) another one is, and media are left.
            UnsupportedError: the database cannot rewrite what is stored (`storage.capabilities.rewrites`).
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed; call it again.
        """
        return self._run(erasing.erase_run, session_id, run_number, message=message, user_id=user_id)

    async def aerase_run(
        self, session_id: str, run_number: int, *, message: int | None = None, user_id: UserId = None
    ) -> Run:
        """As `erase_run`, for asynchronous callers."""
        return await self._arun(erasing.erase_run, session_id, run_number, message=message, user_id=user_id)

    def delete_user(self, user_id: str) -> int:
        """Delete all sessions of a user, also those that are made meanwhile.

        If this version cannot read one of them, all others are deleted, and then its error is raised.

        Args:
            user_id: whose sessions.

        Returns:
            How many there were.

        Raises:
            InvalidInputError: the id is wrong.
            HeldError: one is held; all others were deleted.
            StorageError: the database failed, or a session could not be read; call it again.
        """
        return self._run(writes.delete_user, user_id)

    async def adelete_user(self, user_id: str) -> int:
        """As `delete_user`, for asynchronous callers."""
        return await self._arun(writes.delete_user, user_id)

    def hold(self, session_id: str, reason: str, *, user_id: UserId = None) -> Session:
        """Keep a session from being deleted: by anybody, by `delete_user`, by retention, by expiring.

        Until `release` is called, whatever would delete it, or anything in it, raises `HeldError`. Runs go on.

        Args:
            session_id: which session.
            reason: why, for whoever meets it; at most 255 bytes.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The session as it is now; `session.hold` is the reason.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed.
        """
        return self._run(holding.hold, session_id, check_id(reason, "reason"), user_id=user_id)

    async def ahold(self, session_id: str, reason: str, *, user_id: UserId = None) -> Session:
        """As `hold`, for asynchronous callers."""
        return await self._arun(holding.hold, session_id, check_id(reason, "reason"), user_id=user_id)

    def release(self, session_id: str, *, user_id: UserId = None) -> Session:
        """Let a session be deleted again that was held; its time to live begins anew.

        Args:
            session_id: which session.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The session as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed.
        """
        return self._run(holding.hold, session_id, None, user_id=user_id)

    async def arelease(self, session_id: str, *, user_id: UserId = None) -> Session:
        """As `release`, for asynchronous callers."""
        return await self._arun(holding.hold, session_id, None, user_id=user_id)

    def sweep(self, *, abandoned_after: Duration = 3600.0) -> int:
        """Clean up: remove what has expired, what was half deleted, and forks that were never completed.

        If the process of a session's newest run is gone, it notes that the run is interrupted. If a wrong clock has
        put a session into the future, it gives it the true time. Call it now and then, from one process or from
        many; it reaches the sessions of all users. If this version cannot read a session, the others are swept, and
        then its error is raised.

        Args:
            abandoned_after: after how long, in seconds or as a `timedelta`, a fork that was not completed is given up.

        Returns:
            How many sessions were removed.

        Raises:
            StorageError: the database failed, or a session could not be read; call it again.
        """
        return self._run(writes.sweep, abandoned_after=abandoned_after)

    async def asweep(self, *, abandoned_after: Duration = 3600.0) -> int:
        """As `sweep`, for asynchronous callers."""
        return await self._arun(writes.sweep, abandoned_after=abandoned_after)

    def verify(self, session_id: str, *, user_id: UserId = None) -> int:
        """Check a session: read its whole log, and compare what it adds up to with the head.

        Args:
            session_id: which session.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            How many commits the log has.

        Raises:
            CorruptDataError: the log has a gap, a commit cannot be read, or the head is not what the log adds up to.
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database could not be read.
        """
        return self._run(reads.verify, session_id, user_id=user_id)

    async def averify(self, session_id: str, *, user_id: UserId = None) -> int:
        """As `verify`, for asynchronous callers."""
        return await self._arun(reads.verify, session_id, user_id=user_id)

    def setup(self) -> None:
        """Create or migrate what the database needs. Done by itself at first use; call it to fail early.

        Raises:
            NewerVersionError: the data were made by a newer version of Sessile.
            StorageError: the database failed, or its user may not create tables.
        """
        self._run(_setup)

    async def asetup(self) -> None:
        """As `setup`, for asynchronous callers."""
        await self._arun(_setup)

    def index(self, into: str | None = None, *, text: bool | None = None) -> Any:
        """The index of its sessions, a `sessile.insight.Index`: runs across sessions, search, usage.

        Args:
            into: the URL of the SQL database that it lies in. Default: beside the log, where that is in SQLite,
                PostgreSQL, MySQL or MariaDB.
            text: whether it has the words of what was said, for `search`. Default: as the index that is there, else
                with them.

        Raises:
            InvalidInputError: the log is in no such database, and no other one is named.
        """
        return import_module("sessile.insight").Index(self, into, text=text)

    def migrate(self, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        """Create or migrate the schema.

        Without `finish`, programs of the version before go on working.

        Args:
            finish: also make the changes that programs of the version before cannot work with. Pass it when none of
                them runs any more.
            dry_run: change nothing, and return what would be run.

        Returns:
            The statements that were run; none if the schema was up to date, or if the database has none.

        Raises:
            NewerVersionError: the data were made by a newer version of Sessile.
            StorageError: the database failed, or its user may not change tables.
        """
        return self._run(_migrate, finish, dry_run)

    async def amigrate(self, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        """As `migrate`, for asynchronous callers."""
        return await self._arun(_migrate, finish, dry_run)

    def warnings(self) -> list[str]:
        """What may be lost with the database as it is set up, and what to do about it; empty where nothing is known.

        Raises:
            StorageError: the database could not be read.
        """
        return self._run(_warnings)

    async def awarnings(self) -> list[str]:
        """As `warnings`, for asynchronous callers."""
        return await self._arun(_warnings)


async def _setup(core: Core) -> None:
    await core.prepare(core.deadline())


async def _migrate(core: Core, finish: bool, dry_run: bool) -> list[str]:
    return await core.driver.migrate(core.deadline(), finish=finish, dry_run=dry_run)


async def _warnings(core: Core) -> list[str]:
    deadline = core.deadline()
    await core.prepare(deadline)
    return [*core.driver.warnings(), *await core.driver.settings_warnings(deadline)]
