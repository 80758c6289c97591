"""`EncryptedStorage`: a storage whose database gets nothing that can be read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import fields
from typing import cast

from ..errors import InvalidInputError
from ..records import Duration, UserId
from ..storage.checks import check_seconds, in_seconds
from ..storage.driver import Driver
from ..storage.settings import SettingsOptions
from ..storage.storage import Storage, take_drivers
from . import rotating
from .driver import EncryptedDriver
from .holding import Keyring
from .keystore import KeyStore
from .masters import Given, MasterKeys, masters_of
from .rotating import Rotated

MAY_BE_CLEAR = ("name", "metadata")


class EncryptedStorage(Storage):
    """Any storage, with all that is said encrypted before the database gets it.

    ```python
    storage = EncryptedStorage(SqliteStorage("sessions.db"), keys="env:SESSILE_KEYS")
    ```

    Sealed are: entries of the log (messages, inputs, outputs, tool calls, state patches), state, summaries, media, kept
    results, leases, and names and metadata of sessions. Not sealed: ids of sessions, users, runs and commits, agents,
    kinds, statuses, times, numbers, sizes. So lists work as they are, but for filters by what is sealed
    (`UnsupportedError`).

    Each session has a key of its own (AES-256-GCM), encrypted with the master key. What is encrypted is bound to its
    session, its incarnation and its place in the log, and to what stands beside it unencrypted: a row that was moved,
    changed or put back is refused. What cannot be decrypted raises `SealedError` or stands in a list's `unreadable`; it
    is never taken for absent.

    Args:
        storage: what to wrap, not used yet. From now on use this one instead; it has the same settings, and closes it.
        keys: the master keys: 32 bytes, or those in base64; several by name, the current one first; a function that
            returns either; `"env:VARIABLE"` or `"file:PATH"` with one key on each line, `name:base64`; or `MasterKeys`
            (`AwsKms`, `GcpKms`, or your own).
        key_store: where the encrypted keys of sessions lie. Default: in the heads of their sessions. Apart from the
            database they can be destroyed, which makes sessions unreadable in all of its backups, too. Deleting a
            session then destroys its key.
        clear: what is left unencrypted, so that lists can be filtered by it: `name`, `metadata`. Holds for what is
            written from then on.
        remember: how long keys are used that were read, in seconds or as a `timedelta`.
        plain_index: let `storage.index()` work, whose words are not encrypted. Default: it is refused.

    Raises:
        InvalidInputError: an argument is wrong, or the storage was used already.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        keys: Given | Callable[[], Given] | MasterKeys,
        key_store: KeyStore | None = None,
        clear: Collection[str] = (),
        remember: Duration = 300.0,
        plain_index: bool = False,
    ) -> None:
        if not isinstance(storage, Storage):  # pyright: ignore[reportUnnecessaryIsInstance] (a URL, for example)
            raise InvalidInputError(
                "EncryptedStorage wraps a storage.", hint='For example SqliteStorage("sessions.db").'
            )
        if isinstance(clear, str) or not set(clear) <= set(MAY_BE_CLEAR):
            raise InvalidInputError(f"clear is a list of {' and '.join(MAY_BE_CLEAR)}.")
        if key_store is not None and not isinstance(key_store, KeyStore):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError("key_store is a KeyStore.", hint='For example SqliteKeyStore("keys.db").')
        seconds = in_seconds(remember)
        check_seconds(seconds, "remember")
        keyring = Keyring(masters_of(keys), key_store, seconds)
        left = frozenset(clear)

        def wrapped(driver: Driver) -> Driver:
            return EncryptedDriver(driver, keyring, clear=left, plain_index=plain_index)

        options = {one.name: getattr(storage.settings, one.name) for one in fields(storage.settings)}
        driver, make = take_drivers(storage)
        self._wraps = storage
        self._key_store = key_store
        super().__init__(
            None if driver is None else wrapped(driver),
            async_driver=None if make is None else lambda: wrapped(make()),
            **cast(SettingsOptions, options),
        )

    def close(self) -> None:
        """See `Storage.close`; closes the key store as well."""
        super().close()
        if self._key_store is not None:
            self._key_store.close()

    # ------------------------------------------------------------ other keys

    def rotate_master_key(self) -> Rotated:
        """Encrypt the keys of all sessions with the current master key; what they encrypt stays as it is.

        Without a key store that is one small commit for each session whose key another master key has encrypted, which
        changes nothing else about it, its time and place in lists included. May be repeated after an error. When it has
        skipped nothing, the older master keys are needed for backups only. Kept results of steps are not among it: they
        are computed again.

        Returns:
            How many sessions it was done for, and which could not be read.

        Raises:
            StorageError: the database, key store or key service failed; call it again.
        """
        return self._run(rotating.rotate_master)

    async def arotate_master_key(self) -> Rotated:
        """As `rotate_master_key`, for asynchronous callers."""
        return await self._arun(rotating.rotate_master)

    def rotate_key(self, session_id: str, *, user_id: UserId = None) -> int:
        """Give a session another key, and encrypt all of it anew: commits, media and records.

        Takes time in proportion to the session. May be repeated after an error: until the end both keys can be read.
        Let nobody erase in the session, or write records into it, meanwhile; runs may go on.

        Args:
            session_id: which session.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            How many commits were encrypted anew.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            UnsupportedError: the database cannot rewrite what is stored (`storage.capabilities.rewrites`).
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database, key store or key service failed; call it again.
        """
        return self._run(rotating.rotate_data, session_id, user_id=user_id)

    async def arotate_key(self, session_id: str, *, user_id: UserId = None) -> int:
        """As `rotate_key`, for asynchronous callers."""
        return await self._arun(rotating.rotate_data, session_id, user_id=user_id)

    def destroy_key(self, session_id: str, *, user_id: UserId = None) -> bool:
        """Make a session unreadable for good, here and in all copies of the database: destroy its key.

        Needs a key store. The session stays where it is, and can be deleted; an index forgets it. Other processes that
        have the key at hand go on for `remember` seconds. Forks of the session have keys of their own.

        Args:
            session_id: which session.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            Whether there was a key.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            UnsupportedError: there is no key store.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database or the key store failed; call it again.
        """
        return self._run(rotating.destroy_key, session_id, user_id=user_id)

    async def adestroy_key(self, session_id: str, *, user_id: UserId = None) -> bool:
        """As `destroy_key`, for asynchronous callers."""
        return await self._arun(rotating.destroy_key, session_id, user_id=user_id)

    def destroy_user_keys(self, user_id: str) -> int:
        """As `destroy_key`, for all sessions of a user, also those that only backups have; returns how many keys."""
        return self._run(rotating.destroy_user, user_id)

    async def adestroy_user_keys(self, user_id: str) -> int:
        """As `destroy_user_keys`, for asynchronous callers."""
        return await self._arun(rotating.destroy_user, user_id)
