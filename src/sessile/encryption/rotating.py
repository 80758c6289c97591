"""Other master keys, other keys of sessions, and keys that are destroyed: operations on an encrypted storage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from ..errors import SealedError, SessileError, SessionNotFoundError, StorageError, UnsupportedError
from ..records import ANY_USER, Session, UserId
from ..storage.absence import as_row, hidden_because
from ..storage.core import Core
from ..storage.rows import HeadRow, ListQuery, Span
from ..storage.snapshots import Draft, Snapshot, owned
from ..storage.vocabulary import SCOPE, SessionResealed
from ..storage.wrapping import WrappedDriver
from .driver import EncryptedDriver
from .holding import PASSING, Keyring
from .rings import Ring

PAGE = 200
"""How many sessions, commits or keys are read at a time."""

Change = Callable[[HeadRow, Ring], Ring]


@dataclass(slots=True)
class Rotated:
    """What a rotation has done: how many keys of sessions it changed, and which sessions it could not, and why."""

    sessions: int = 0
    skipped: dict[str, SessileError] = field(default_factory=dict[str, SessileError])


def encrypted(core: Core) -> EncryptedDriver:
    """The wrapper, whatever stands around it."""
    driver = core.driver
    while not isinstance(driver, EncryptedDriver):
        driver = cast(WrappedDriver, driver).inner
    return driver


async def rotate_master(core: Core) -> Rotated:
    """See `EncryptedStorage.rotate_master_key`."""
    driver = encrypted(core)
    await core.prepare(core.deadline())
    done = Rotated()
    if driver.keyring.store is not None:
        await driver.asked(lambda: _rewrap_kept(driver.keyring, done))
        driver.keyring.forget_all()
        return done
    query = ListQuery(hidden=None, order="created", limit=PAGE, with_state=False)
    while True:
        page = await core.driver.list(query, core.deadline())
        done.skipped.update(page.unreadable)
        for row in page.rows:
            if hidden_because(row) not in (None, SCOPE, "sealed"):
                continue  # it is on its way out or in; or a result that is computed again
            try:
                done.sessions += await _rewrap(core, driver, row)
            except SessionNotFoundError:
                continue  # deleted meanwhile
            except (SealedError, StorageError) as error:
                if error.retryable:
                    raise
                done.skipped[row.session_id] = error
        if page.after is None:
            return done
        query = replace(query, after=page.after)


async def _rewrap(core: Core, driver: EncryptedDriver, row: HeadRow) -> bool:
    """Encrypt the keys in a head with the current master key; whether they were not."""
    ring = await driver.ring(row.session_id, row.incarnation, core.deadline())
    current = driver.keyring.masters.current()
    if ring is None or all(key.master == current for key in ring.stored.keys):
        return False
    await _reseal(core, driver, row.session_id, ANY_USER, driver.keyring.rewrapped)
    return True


def _rewrap_kept(keyring: Keyring, done: Rotated) -> None:
    store, masters = keyring.store, keyring.masters
    assert store is not None, "asked only where there is one"
    after: tuple[str, int] | None = None
    while page := store.all(after, PAGE):
        for key in page:
            if key.master != masters.current():
                try:
                    store.put(keyring.rewrap(key))
                except SealedError as error:
                    done.skipped[key.session_id] = error
                    continue
                done.sessions += 1
        after = page[-1][:2]


async def rotate_data(core: Core, session_id: str, *, user_id: UserId = None) -> int:
    """See `EncryptedStorage.rotate_key`."""
    driver = encrypted(core)
    user_id = core.check_access(session_id, user_id)
    if not driver.capabilities.rewrites:
        raise UnsupportedError(f"The driver {driver.name!r} cannot rewrite commits.")
    head = await _reseal(core, driver, session_id, user_id, driver.keyring.grown)
    older = (await _newly_read(core, driver, head)).older
    total = await _all_commits(core, head)
    await _all_records(core, head)
    # Whoever does the same at this moment needs the newer keys, and older ones than those of a head that was seen.
    await _reseal(core, driver, session_id, user_id, lambda _, now: now.without(older))
    if driver.keyring.store is not None:
        where = (head.session_id, head.incarnation, older)
        await driver.asked(lambda: driver.keyring.destroy(*where))
    driver.keyring.forget(session_id, head.incarnation)
    return total


async def _reseal(core: Core, driver: EncryptedDriver, session_id: str, user_id: UserId, changed: Change) -> Session:
    """Commit nothing but a head with other keys; the head after it."""

    async def change(snapshot: Snapshot) -> Draft:
        head = owned(snapshot.head, session_id, user_id)
        ring = await driver.ring(head.session_id, head.incarnation, core.deadline())
        if ring is None:
            raise SessionNotFoundError(f"There is no session {session_id!r}.")
        row = as_row(head)
        made = await driver.asked(lambda: changed(row, ring))
        driver.keyring.hold(row, made)
        return Draft([SessionResealed().entry()], free=True)

    committed = await core.commit(session_id, user_id, change, core.deadline())
    assert committed is not None, "this change always drafts something"
    driver.keyring.forget(session_id, committed.head.incarnation)
    return committed.head


async def _newly_read(core: Core, driver: EncryptedDriver, head: Session) -> Ring:
    """The keys as the head in the database names them: only those may encrypt."""
    ring = await driver.ring(head.session_id, head.incarnation, core.deadline(), anew=True)
    if ring is None:
        raise SessionNotFoundError(f"There is no session {head.session_id!r}.")
    if not ring.older:
        raise StorageError("The session's new key is not in its head yet.", hint="Call it again.", retryable=True)
    return ring


async def _all_commits(core: Core, head: Session) -> int:
    """Encrypt all commits with the newest key; how many there are."""
    total, first = 0, 1
    while first <= head.revision:
        span = Span(first=first, last=head.revision, limit=PAGE, max_bytes=core.settings.max_read_bytes)
        rows = await core.driver.entries(head.session_id, head.incarnation, span, core.deadline())
        if not rows or not await core.driver.rewrite(head.session_id, head.incarnation, rows, core.deadline()):
            raise SessionNotFoundError(f"Session {head.session_id!r} was deleted while it was being encrypted.")
        total += len(rows)
        first = rows[-1].seq + 1
    return total


async def _all_records(core: Core, head: Session) -> None:
    after = ""
    where = (head.session_id, head.incarnation)
    while keys := await core.driver.record_keys(*where, "", core.deadline(), after=after):
        for key in keys:
            value = None if key.startswith(PASSING) else await core.driver.get_record(*where, key, core.deadline())
            if value is not None:
                await core.driver.put_record(*where, key, value, core.deadline())
        after = keys[-1]


# ---------------------------------------------------------------- destroying


async def destroy_key(core: Core, session_id: str, *, user_id: UserId = None) -> bool:
    """See `EncryptedStorage.destroy_key`."""
    driver = encrypted(core)
    keyring = _apart(driver)
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    await core.prepare(deadline)
    loaded = await driver.inner.load(session_id, 0, deadline)  # whether it can be read does not matter
    if loaded is None or user_id not in (ANY_USER, loaded.head.user_id):
        raise SessionNotFoundError(f"There is no session {session_id!r}.")
    incarnation = loaded.head.incarnation
    where = (loaded.head.session_id, incarnation)
    count = await driver.asked(lambda: keyring.destroy(*where))
    keyring.forget(session_id, incarnation)
    await core.tell_indexes(session_id, incarnation, core.deadline())
    return count > 0


async def destroy_user(core: Core, user_id: str) -> int:
    """See `EncryptedStorage.destroy_user_keys`."""
    driver = encrypted(core)
    keyring = _apart(driver)
    core.check_user(user_id)
    store = keyring.store
    assert store is not None, "there is one"
    count = await driver.asked(lambda: store.remove_user(user_id))
    keyring.forget_all()
    await core.prepare(core.deadline())
    query = ListQuery(user_id=user_id, hidden=None, with_state=False, order="created")
    while True:
        page = await driver.inner.list(query, core.deadline())
        for row in page.rows:
            where = (row.session_id, row.incarnation)
            count += await driver.asked(lambda where=where: keyring.destroy(*where))
            await core.tell_indexes(row.session_id, row.incarnation, core.deadline())
        if page.after is None:
            return count
        query = replace(query, after=page.after)


def _apart(driver: EncryptedDriver) -> Keyring:
    if not driver.keyring.kept_apart:
        raise UnsupportedError(
            "Keys that lie in the database itself cannot be destroyed: its copies have them, too.",
            hint="Make the storage with key_store=SqliteKeyStore(path), or delete the session.",
        )
    return driver.keyring
