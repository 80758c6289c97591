"""What is remembered about users: read, searched, written and forgotten from outside runs."""

# pyright: reportPrivateUsage=false
# What is made here runs its operations over the storage that has made it.

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from ...later import Later
from ...records import Duration, UserId
from ..checks import check_count
from ..threads import elsewhere
from .base import Operated

if TYPE_CHECKING:
    from .. import memories, nearness
    from ..memories import UserMemory
    from ..nearness import Embed
else:
    memories = Later("sessile.storage.memories")
    nearness = Later("sessile.storage.nearness")


class Memories:
    """What is remembered about one user; made by `Storage.memories`.

    Agents that were made with `memory=` show them to their models, and write them.
    """

    def __init__(self, storage: Operated, user_id: UserId, embed: Embed | None = None) -> None:
        self._storage, self._user_id = storage, user_id
        self._near = None if embed is None else nearness.Near(embed)

    def __repr__(self) -> str:
        return f"Memories(user_id={self._user_id!r})"

    def all(self, *, topic: str | None = None) -> list[UserMemory]:
        """All memories that have not expired, the one that was written last first. One read.

        Args:
            topic: only those with this topic.

        Raises:
            InvalidInputError: no user is named.
            StorageError: the database could not be read.
        """
        return self._storage._run(memories.all_of, self._user_id, topic)

    async def aall(self, *, topic: str | None = None) -> list[UserMemory]:
        """As `all`, for asynchronous callers."""
        return await self._storage._arun(memories.all_of, self._user_id, topic)

    def get(self, memory_id: str) -> UserMemory | None:
        """The memory of that id; None if the user has none, or it has expired.

        Args:
            memory_id: its id.

        Raises:
            InvalidInputError: an argument is wrong.
            StorageError: the database could not be read.
        """
        return self._storage._run(memories.get, self._user_id, memory_id)

    async def aget(self, memory_id: str) -> UserMemory | None:
        """As `get`, for asynchronous callers."""
        return await self._storage._arun(memories.get, self._user_id, memory_id)

    def search(self, query: str, *, limit: int = 10, topic: str | None = None) -> list[UserMemory]:
        """The memories that have words of a text: more, and rarer ones, first.

        Made with `embed=`: those that are nearest to it in meaning, whether they have its words or not.

        Args:
            query: words, in any language; or what is meant.
            limit: at most so many.
            topic: only those with this topic.

        Raises:
            InvalidInputError: an argument is wrong.
            StorageError: the database could not be read.
        """
        if self._near is None:
            return self._storage._run(memories.search, self._user_id, query, limit, topic)
        check_count(limit, "limit", least=1)
        return memories.by_meaning(self._near, self.all(topic=topic), query)[:limit]

    async def asearch(self, query: str, *, limit: int = 10, topic: str | None = None) -> list[UserMemory]:
        """As `search`, for asynchronous callers."""
        near = self._near
        if near is None:
            return await self._storage._arun(memories.search, self._user_id, query, limit, topic)
        check_count(limit, "limit", least=1)
        found = await self.aall(topic=topic)
        return (await elsewhere(lambda: memories.by_meaning(near, found, query)))[:limit]

    def add(self, memory: str, *, topics: Sequence[str] = (), ttl: Duration | None = None) -> UserMemory:
        """Remember a fact, in one commit. One that says the same as another (but for case and blanks) renews that.

        Args:
            memory: the fact, in up to 2,000 characters.
            topics: what it is about: up to 10, of up to 100 characters.
            ttl: after how many seconds, or which `timedelta`, it is forgotten by itself. Default: never.

        Returns:
            The memory as it is stored.

        Raises:
            InvalidInputError: an argument is wrong.
            TooLargeError: all memories of the user would be larger than the storage's `max_state_bytes`.
            StorageError: the database failed; `error.written` says whether it was written.
        """
        return self._storage._run(memories.add, self._user_id, memories.change_of(None, memory, topics or None, ttl))

    async def aadd(self, memory: str, *, topics: Sequence[str] = (), ttl: Duration | None = None) -> UserMemory:
        """As `add`, for asynchronous callers."""
        return await self._storage._arun(
            memories.add, self._user_id, memories.change_of(None, memory, topics or None, ttl)
        )

    def update(
        self,
        memory_id: str,
        memory: str | None = None,
        *,
        topics: Sequence[str] | None = None,
        ttl: Duration | Literal["as before"] | None = "as before",
    ) -> UserMemory:
        """Change what a memory says, its topics, or when it expires; what is not given stays.

        Args:
            memory_id: which one.
            memory: what it says from now on.
            topics: what it is about from now on.
            ttl: from now on; None: it does not expire.

        Raises:
            MemoryNotFoundError: the user has no such memory.
            InvalidInputError: an argument is wrong.
            TooLargeError: see `add`.
            StorageError: the database failed; `error.written` says whether it was written.
        """
        return self._storage._run(memories.add, self._user_id, memories.change_of(memory_id, memory, topics, ttl))

    async def aupdate(
        self,
        memory_id: str,
        memory: str | None = None,
        *,
        topics: Sequence[str] | None = None,
        ttl: Duration | Literal["as before"] | None = "as before",
    ) -> UserMemory:
        """As `update`, for asynchronous callers."""
        return await self._storage._arun(
            memories.add, self._user_id, memories.change_of(memory_id, memory, topics, ttl)
        )

    def delete(self, memory_id: str) -> bool:
        """Forget a memory for good: its texts are taken out of the log, too. Returns whether there was one.

        Args:
            memory_id: which one.

        Raises:
            HeldError: the user's memories are held.
            StorageError: the database failed; call it again.
        """
        return self._storage._run(memories.delete, self._user_id, memory_id)

    async def adelete(self, memory_id: str) -> bool:
        """As `delete`, for asynchronous callers."""
        return await self._storage._arun(memories.delete, self._user_id, memory_id)

    def clear(self, *, session_id: str | None = None, run_id: str | None = None) -> int:
        """Forget all memories for good, or those that come from one session or run; returns how many.

        Args:
            session_id: only those of this session.
            run_id: only those of this run.

        Raises:
            HeldError: the user's memories are held.
            StorageError: the database failed; call it again.
        """
        return self._storage._run(memories.clear, self._user_id, session_id, run_id)

    async def aclear(self, *, session_id: str | None = None, run_id: str | None = None) -> int:
        """As `clear`, for asynchronous callers."""
        return await self._storage._arun(memories.clear, self._user_id, session_id, run_id)


class Remembering(Operated):
    """What is remembered about users."""

    def memories(self, user_id: str | None = None, *, embed: Embed | None = None) -> Memories:
        """What is remembered about a user. No I/O.

        ```python
        storage.memories("ada").add("Is a vegetarian.", topics=["food"])
        storage.memories("ada").search("What may she eat? Food!")
        ```

        It is stored apart from all sessions, in no list of them, and is encrypted, copied, archived and held like one;
        `delete_user` deletes it. Of a storage for one user it is that user's, the same as the whole storage's.

        Args:
            user_id: whose memories.
            embed: makes vectors of texts, so that `search` goes by meaning: a function from a list of texts to a vector
                for each, or Pydantic AI's `Embedder`. The object that is returned keeps vectors.

        Raises:
            InvalidInputError: `embed` is none; no user is named, or not this storage's own (when they are read or
                written).
        """
        return Memories(self, user_id, embed)

    def all_memories(self, *, limit: int = 1000) -> list[UserMemory]:
        """The memories of all users, for administrators; those of who was written about last first.

        Args:
            limit: at most so many.

        Raises:
            InvalidInputError: an argument is wrong.
            StorageError: the database could not be read.
        """
        return self._run(memories.of_everybody, limit)

    async def aall_memories(self, *, limit: int = 1000) -> list[UserMemory]:
        """As `all_memories`, for asynchronous callers."""
        return await self._arun(memories.of_everybody, limit)
