"""State that outlives a session: read, changed and deleted from outside runs."""

# pyright: reportPrivateUsage=false
# A scope runs its operations over the storage that has made it.

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ...later import Later
from ...records import ANY_USER, JsonObject, Page, Session, UserId
from .base import Operated

if TYPE_CHECKING:
    from .. import scopes
else:
    scopes = Later("sessile.storage.scopes")


class Scope:
    """The state of one user, or of an application, in all sessions; made by `Storage.scope`.

    Agents, teams and workflows that were made with `scopes=` have it at hand as `user_state()` and `app_state()`.
    """

    def __init__(self, storage: Operated, user_id: str | None, app: str | None) -> None:
        self._storage, self._user_id, self._app = storage, user_id, app

    def __repr__(self) -> str:
        return f"Scope(user_id={self._user_id!r}, app={self._app!r})"

    def state(self) -> JsonObject:
        """The state as it is now; empty if nothing was ever written.

        Raises:
            StorageError: the database could not be read.
        """
        return self._storage._run(scopes.state, self._user_id, self._app)

    async def astate(self) -> JsonObject:
        """As `state`, for asynchronous callers."""
        return await self._storage._arun(scopes.state, self._user_id, self._app)

    def update(
        self,
        patch: Mapping[str, Any] | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        remove: Collection[str] = (),
    ) -> JsonObject:
        """Change the state in one commit: merge a patch, put whole values, remove keys, as `Storage.update_state`.

        Args:
            patch: merged into the state (RFC 7396): objects merge, None removes a key.
            set: values by key, put as they are.
            remove: keys to take out.

        Returns:
            The state after it.

        Raises:
            InvalidInputError: an argument is wrong.
            TooLargeError: the state would be larger than the storage's `max_state_bytes`.
            StorageError: the database failed; `error.written` says whether the change happened.
        """
        return self._storage._run(scopes.update, self._user_id, self._app, patch, set, remove)

    async def aupdate(
        self,
        patch: Mapping[str, Any] | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        remove: Collection[str] = (),
    ) -> JsonObject:
        """As `update`, for asynchronous callers."""
        return await self._storage._arun(scopes.update, self._user_id, self._app, patch, set, remove)

    def delete(self) -> bool:
        """Delete the state with its log; returns whether there was one.

        Raises:
            HeldError: it is held.
            StorageError: the database failed.
        """
        return self._storage._run(scopes.delete, self._user_id, self._app)

    async def adelete(self) -> bool:
        """As `delete`, for asynchronous callers."""
        return await self._storage._arun(scopes.delete, self._user_id, self._app)


class Scoping(Operated):
    """What outlives sessions."""

    def scope(self, *, user_id: str | None = None, app: str | None = None) -> Scope:
        """The state of a user, or of an application, that is the same in all sessions. No I/O.

        ```python
        storage.scope(user_id="ada").update({"plan": "pro"})
        storage.scope(user_id="ada").state()     # {"plan": "pro"}
        ```

        It has a log like a session, merges what is changed at the same time key by key, is in no list of sessions, and
        is copied, archived, held and deleted like one; `delete_user` deletes a user's. Of a storage for one user it is
        that user's, the same as the whole storage's.

        Args:
            user_id: whose state.
            app: which application's, where several share a database. Default, without a user: the only one's.

        Raises:
            InvalidInputError: both are given, or an id is wrong, or it is not this storage's user's.
        """
        return Scope(self, user_id, app)

    def scopes(self, *, user_id: UserId = ANY_USER, limit: int = 20, cursor: str | None = None) -> Page[Session]:
        """A page of the states that outlive sessions, the one that changed last first, as sessions with their states.

        Their `kind` is `scope`, their `session_id` the id under which they are stored, by which `entries`, `hold` and
        others reach them with `user_id=ANY_USER`.

        Args:
            user_id: whose; None: the applications'; `ANY_USER`: all.
            limit: 1 to 1,000.
            cursor: `next_cursor` of the page before.

        Raises:
            InvalidInputError: an argument is wrong.
            StorageError: the database could not be read.
        """
        return self._run(scopes.listed, user_id, limit, cursor)

    async def ascopes(self, *, user_id: UserId = ANY_USER, limit: int = 20, cursor: str | None = None) -> Page[Session]:
        """As `scopes`, for asynchronous callers."""
        return await self._arun(scopes.listed, user_id, limit, cursor)
