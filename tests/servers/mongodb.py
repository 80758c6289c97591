"""FerretDB for the tests: a server that speaks MongoDB's protocol and can be had from Go's module proxy.

It keeps its data in a PostgreSQL server of its own. It is built when it is first needed, from the few lines in
`ferretdb/`, and kept in the user's cache folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

import pymongo
from pymongo.errors import PyMongoError

from .golang import built
from .postgres import PostgresServer
from .process import Server

DATABASE = "sessile"


class FerretServer(Server):
    """FerretDB 1.24 and its PostgreSQL, which are started, stopped and killed together. It has no users."""

    name: ClassVar[str] = "ferretdb"
    source: ClassVar[Path] = Path(__file__).parent / "ferretdb"

    def __init__(self) -> None:
        self.program = self.build()
        self.database = self.make_database()
        super().__init__()

    @classmethod
    def build(cls) -> Path:
        """Its program."""
        return built(cls.source, "TEST_MONGODB_URL")

    def make_database(self) -> PostgresServer:
        """Where it keeps its data."""
        return PostgresServer()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        shutil.copy(self.program, self.folder / "program")  # its user may not be able to read our cache

    def command(self) -> list[str]:
        return [str(self.folder / "program"), f"127.0.0.1:{self.port}", self.database.url, str(self.folder)]

    def start(self) -> None:
        if not self.database.running:
            self.database.start()
        super().start()

    def stop(self) -> None:
        super().stop()
        self.database.stop()

    def kill(self) -> None:
        super().kill()
        self.database.kill()

    def close(self) -> None:
        super().close()
        self.database.close()

    def ping(self) -> str | None:
        try:
            with self.connect(serverSelectionTimeoutMS=200) as client:
                client.admin.command("ping")
        except PyMongoError as error:
            return str(error)
        return None

    def connect(self, **options: Any) -> pymongo.MongoClient[dict[str, Any]]:
        """A client of the server."""
        return pymongo.MongoClient(self.url, **options)
