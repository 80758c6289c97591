"""FerretDB for the tests: a server that speaks MongoDB's protocol and can be had from Go's module proxy.

It is built when it is first needed, from the few lines in `ferretdb/`, and kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pymongo
from pymongo.errors import PyMongoError

from .process import Server, ServerFailedError, ServerMissingError, find_program

DATABASE = "sessile"
SOURCE = Path(__file__).parent / "ferretdb"
GET_GO = (
    "Go is not on this machine, and FerretDB is built with it. Debian, Ubuntu: apt-get install golang; macOS: "
    "brew install go. Or name a MongoDB server in TEST_MONGODB_URL."
)


class FerretServer(Server):
    """FerretDB 1.24 over SQLite files. It has no users, and forgets nothing that it has acknowledged."""

    name: ClassVar[str] = "ferretdb"

    def __init__(self) -> None:
        self.program = built()
        super().__init__()

    @property
    def url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        (self.folder / "data").mkdir()
        shutil.copy(self.program, self.folder / "program")  # its user may not be able to read our cache
        if self._account is not None:
            os.chown(self.folder / "data", self._account.pw_uid, self._account.pw_gid)

    def command(self) -> list[str]:
        return [str(self.folder / "program"), f"127.0.0.1:{self.port}", str(self.folder / "data")]

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


def built() -> Path:
    """The program, built unless this was done before with the same sources."""
    go = find_program(["go"], ["/usr/local/go/bin", *Path("/usr/lib").glob("go-*/bin")])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sessile-tests"
    sources = [SOURCE / name for name in ("main.go", "go.mod", "go.sum")]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    program = cache / f"ferretdb-{digest}"
    if program.exists():
        return program
    if go is None:
        raise ServerMissingError(GET_GO)
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [str(go), "build", "-mod=readonly", "-tags=ferretdb_no_postgresql", "-o", str(unfinished), "."]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailedError(f"FerretDB could not be built:\n{done.stderr[-3000:]}")
    unfinished.replace(program)
    return program
