"""MariaDB and MySQL for the tests."""

from __future__ import annotations

import os
import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pymysql

from . import debian
from .process import Server, ServerMissingError, find_program

DATABASE = "sessile"
GET_MARIADB = (
    "MariaDB is not on this machine. Debian, Ubuntu: apt-get install mariadb-server-core mariadb-client-core; "
    "macOS: brew install mariadb. Or name a server in TEST_MARIADB_URL."
)
FIRST_STATEMENTS = f"""\
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS {DATABASE};
"""


class MySqlFamilyServer(Server):
    """MariaDB or MySQL with the settings of a production server. The user `root` has no password."""

    accounts: ClassVar[tuple[str, ...]] = ("mysql",)
    is_mariadb: ClassVar[bool]

    def __init__(self, program: Path, own_settings: Sequence[str] = ()) -> None:
        self.program = program
        self.own_settings = list(own_settings)
        super().__init__()
        if program.is_relative_to(Path.home()) and self._account is not None:
            # Nobody but root sees into root's cache.
            self._account = None
            os.chown(self.folder, 0, 0)
            self.own_settings.append("--user=root")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        (self.folder / "first.sql").write_text(FIRST_STATEMENTS)
        self.install()

    @abstractmethod
    def install(self) -> None:
        """Make the data folder."""

    def command(self) -> list[str]:
        settings = [
            f"--datadir={self.data}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder}/socket",
            f"--pid-file={self.folder}/pid",
            f"--tmpdir={self.folder}",  # a server that starts removes temporary tables there, of other servers too
            f"--init-file={self.folder}/first.sql",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--max-connections=200",
            "--innodb-flush-log-at-trx-commit=1",
        ]
        return [str(self.program), "--no-defaults", *settings, *self.own_settings]

    def ping(self) -> str | None:
        try:
            self.connect().close()
        except pymysql.MySQLError as error:
            return str(error)
        return None

    def connect(self, database: str = DATABASE) -> pymysql.Connection[Any]:
        """A connection by the owner, where each statement is a transaction."""
        return pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database=database, autocommit=True, connect_timeout=10
        )


class MariaDbServer(MySqlFamilyServer):
    """The machine's own MariaDB, or `newest`: that of Debian's unstable suite."""

    name: ClassVar[str] = "mariadb"
    is_mariadb: ClassVar[bool] = True

    def __init__(self, *, newest: bool = debian.NEWEST) -> None:
        self.root = self.build() if newest else None
        if self.root is not None:
            share = [f"--lc-messages-dir={self.root}/usr/share/mysql", f"--plugin-dir={self.root}/usr/lib/mysql/plugin"]
            self.installer: Path | None = self.root / "usr/bin/mariadb-install-db"
            super().__init__(self.root / "usr/sbin/mariadbd", share)
            return
        homebrew = [*Path("/").glob("opt/homebrew/opt/m*/bin"), *Path("/usr/local/opt").glob("m*/bin")]
        program = find_program(["mariadbd"], homebrew)
        self.installer = find_program(["mariadb-install-db", "mysql_install_db"], homebrew)
        if program is None or self.installer is None:
            raise ServerMissingError(GET_MARIADB)
        super().__init__(program)

    @staticmethod
    def build() -> Path:
        """The folder of the newest one."""
        return debian.unpacked(debian.MARIADB)

    def install(self) -> None:
        how = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        if self.root is not None:
            how += [f"--basedir={self.root}/usr", *self.own_settings]
        self.run(str(self.installer), "--no-defaults", f"--datadir={self.data}", *how)


class MySqlServer(MySqlFamilyServer):
    """The machine's own MySQL, or that of Debian's unstable suite."""

    name: ClassVar[str] = "mysql"
    is_mariadb: ClassVar[bool] = False
    SETTINGS: ClassVar[tuple[str, ...]] = ("--mysqlx=OFF", "--performance-schema=OFF")  # 300 MB of memory

    def __init__(self) -> None:
        program = installed_mysql()
        if program is not None:
            super().__init__(program, self.SETTINGS)
            return
        root = self.build()
        settings = [
            *self.SETTINGS,
            "--secure-file-priv=",  # else it wants a folder of Debian's
            f"--lc-messages-dir={root}/usr/share/mysql",
            f"--plugin-dir={root}/usr/lib/mysql/plugin",
        ]
        super().__init__(root / debian.MYSQL.program, settings)

    @staticmethod
    def build() -> Path:
        """The folder of the one that is downloaded; that of its program where it is installed."""
        program = installed_mysql()
        return debian.unpacked(debian.MYSQL) if program is None else program.parent

    def install(self) -> None:
        self.run(
            str(self.program), "--no-defaults", f"--datadir={self.data}", "--initialize-insecure", *self.own_settings
        )


def installed_mysql() -> Path | None:
    """MySQL's server, where that is installed; MariaDB has a program of the same name."""
    homebrew = [*Path("/").glob("opt/homebrew/opt/mysql*/bin"), *Path("/usr/local/opt").glob("mysql*/bin")]
    program = find_program(["mysqld"], homebrew)
    if program is None:
        return None
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return None if "MariaDB" in said or not said else program
