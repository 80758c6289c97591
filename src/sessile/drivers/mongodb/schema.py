"""The indexes, by the schema versions of `sessile.drivers.sql.migrations`; a statement is a command in JSON.

Creating an index that is there already is no error. So of the processes that start at once one does the work, and the
others wait for it, but none waits for one that is gone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import cast

from pymongo.errors import PyMongoError

from ...errors import StorageError
from ...storage.driver import Deadline
from ..sql.migrations import Migrations, Part, SchemaState, Texts
from .documents import Document
from .errors import INDEX_NOT_FOUND, NOT_IMPLEMENTED, code_of
from .port import Port

PATIENCE_SECONDS = 10.0
"""How long to wait for another process that has begun to create indexes; after that it is taken for gone."""

POLL_SECONDS = 0.05

HEADS = '"partialFilterExpression": {"revision": {"$gt": 0}}'

KEYS = '"partialFilterExpression": {"key": {"$exists": true}}'

TEXTS: Texts = {
    (1, "pre"): f"""
        {{"createIndexes": "{{sessions}}", "indexes": [
            {{"name": "log", "key": {{"session_id": 1, "seq": -1}}}},
            {{"name": "runs", "key": {{"session_id": 1, "run": 1, "seq": 1}}}},
            {{"name": "born", "key": {{"born": 1}}, "sparse": true}},
            {{"name": "updated", "key": {{"updated_at": -1, "session_id": -1}}, {HEADS}}},
            {{"name": "created", "key": {{"created_at": -1, "session_id": -1}}, {HEADS}}},
            {{"name": "user", "key": {{"user_id": 1, "updated_at": -1, "session_id": -1}}, {HEADS}}},
            {{"name": "owner", "key": {{"owner": 1, "updated_at": -1, "session_id": -1}}, {HEADS}}},
            {{"name": "status", "key": {{"status": 1, "updated_at": -1, "session_id": -1}}, {HEADS}}},
            {{"name": "expires", "key": {{"expires_at": 1}}, {HEADS}}},
            {{"name": "filters", "key": {{"filters": 1}}, {HEADS}}}
        ]}}
    """,
    # Version 2. The name of the agent, team or workflow is called agent; a commit may carry a key. A program of version
    # 1 cannot read heads without an owner.
    (2, "pre"): f"""
-- oldest: 2
        {{"createIndexes": "{{sessions}}", "indexes": [
            {{"name": "agent", "key": {{"agent": 1, "updated_at": -1, "session_id": -1}}, {HEADS}}},
            {{"name": "keys", "key": {{"session_id": 1, "incarnation": 1, "key": 1, "seq": 1}}, {KEYS}}}
        ]}};
        {{"update": "{{sessions}}", "updates": [
            {{"q": {{"revision": {{"$gt": 0}}, "owner": {{"$exists": true}}, "agent": {{"$exists": false}}}},
             "u": {{"$rename": {{"owner": "agent"}}}}, "multi": true}}
        ]}};
        {{"dropIndexes": "{{sessions}}", "index": "owner"}}
    """,
}

STATE = "schema"
"""The `_id` of the document with the schema's version, in the collection beside that of the sessions."""

BEGUN = "migrating"
"""The `_id` of the document that is there while a process creates indexes."""


class Schema:
    """The schema of one database.

    Args:
        port: the way to it.
        auto_migrate: whether `setup` may change it.
    """

    def __init__(self, port: Port, *, auto_migrate: bool) -> None:
        self._port = port
        self._auto_migrate = auto_migrate
        self._migrations = Migrations(TEXTS, {"sessions": port.target.sessions}, table=None)

    async def setup(self, deadline: Deadline, pause: Callable[[float], Awaitable[None]]) -> None:
        """What `Driver.setup` does; `pause` waits between two attempts."""
        state = await self.state(deadline)
        if self._migrations.up_to_date(state, self._port.where):
            return
        if not self._auto_migrate:
            missing = self._migrations.to_do(state)[0]
            raise StorageError(
                f"{self._port.where} lacks schema version {missing.version}: {missing.statements[0]}",
                hint="Let a user who may create indexes run `sessile migrate`; `--dry-run` shows the commands.",
            )
        if not await self._is_first(deadline):
            until = time.monotonic() + PATIENCE_SECONDS
            while time.monotonic() < until and deadline.remaining() > 0:
                if self._migrations.up_to_date(await self.state(deadline), self._port.where):
                    return
                await pause(POLL_SECONDS)
        await self.migrate(deadline, finish=False, dry_run=False)

    async def _is_first(self, deadline: Deadline) -> bool:
        """Whether nobody else has begun to create indexes, which others wait for, but not for ever."""
        document = {"_id": BEGUN, "at": self._port.now()}
        return await self._port.insert("Beginning a migration", document, deadline, collection=self._port.target.schema)

    async def migrate(self, deadline: Deadline, *, finish: bool, dry_run: bool) -> list[str]:
        """What `Driver.migrate` does."""
        state = await self.state(deadline)
        self._migrations.up_to_date(state, self._port.where)
        parts = self._migrations.to_do(state, finish=finish)
        for part in [] if dry_run else parts:
            await self._run_part(part, deadline)
        if parts and not dry_run:  # all of them: others must not begin in between
            begun, schema = {"_id": BEGUN}, self._port.target.schema
            await self._port.remove("Ending a migration", begun, deadline, collection=schema)
        return [command for part in parts for command in (*part.statements, self._noting(part.after))]

    def _noting(self, state: SchemaState) -> str:
        """What `remember` does with a state, as a command in JSON."""
        update = {"q": {"_id": STATE}, "u": {"$max": state._asdict()}, "upsert": True}
        return json.dumps({"update": self._port.target.schema, "updates": [update]})

    async def state(self, deadline: Deadline) -> SchemaState:
        """What the database has."""
        numbers = await self.numbers(deadline)
        return SchemaState.stored(numbers.get("version", 0), numbers.get("oldest", 0))

    async def numbers(self, deadline: Deadline) -> dict[str, int]:
        """What is remembered."""
        what = "Reading the schema version"
        found = await self._port.find(what, {"_id": STATE}, deadline, collection=self._port.target.schema)
        return found[0] if found else {}

    async def _run_part(self, part: Part, deadline: Deadline) -> None:
        for statement in part.statements:
            await self._run_command(json.loads(statement), deadline)
        await self.remember(part.after._asdict(), deadline)

    async def remember(self, numbers: dict[str, int], deadline: Deadline) -> None:
        """Raise numbers in the document with the schema's version; of several programs the newest one wins."""
        name = self._port.target.schema
        await self._port.upsert(
            "Writing the schema version",
            lambda: self._port.collection(name).update_one({"_id": STATE}, {"$max": numbers}, upsert=True),
            deadline,
        )

    async def _run_command(self, command: Document, deadline: Deadline) -> None:
        """Each may be repeated. A server that has no partial indexes gets whole ones, which take more space."""
        what = "Migrating the database"
        try:
            answer = await self._port.command(what, command, deadline, write=True)
        except StorageError as error:
            code = code_of(error.__cause__) if isinstance(error.__cause__, PyMongoError) else 0
            if code == INDEX_NOT_FOUND:
                return  # another process has removed it
            if code != NOT_IMPLEMENTED or "createIndexes" not in command:
                raise
            answer = await self._port.command(what, _without_partial(command), deadline, write=True)
        if answer.get("writeErrors"):
            raise StorageError(f"Migrating {self._port.where} failed: {answer['writeErrors'][0].get('errmsg')}.")


def _without_partial(command: Document) -> Document:
    indexes = cast("list[Document]", command["indexes"])
    return {
        **command,
        "indexes": [
            {name: value for name, value in index.items() if name != "partialFilterExpression"} for index in indexes
        ],
    }
