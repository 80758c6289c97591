"""MariaDB or MySQL for the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, ClassVar

import pymysql

from .process import Server, ServerMissingError, find_program

DATABASE = "sessile"
GET_MARIADB = (
    "Neither MariaDB nor MySQL is on this machine. Debian, Ubuntu: apt-get install mariadb-server-core "
    "mariadb-client-core; macOS: brew install mariadb. Or name a server in TEST_MYSQL_URL."
)
FIRST_STATEMENTS = f"""\
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS {DATABASE};
"""


class MariaDbServer(Server):
    """A MariaDB server (or MySQL, where that is installed) with the settings of a production server.

    The user `root` has no password.
    """

    name: ClassVar[str] = "mariadb"
    accounts: ClassVar[tuple[str, ...]] = ("mysql",)

    def __init__(self) -> None:
        homebrew = [*Path("/").glob("opt/homebrew/opt/m*/bin"), *Path("/usr/local/opt").glob("m*/bin")]
        program = find_program(["mariadbd", "mysqld"], homebrew)
        if program is None:
            raise ServerMissingError(GET_MARIADB)
        self.program = program
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        self.is_mariadb = "MariaDB" in version
        self.installer = find_program(["mariadb-install-db", "mysql_install_db"], homebrew)
        if self.is_mariadb and self.installer is None:
            raise ServerMissingError(GET_MARIADB)
        super().__init__()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/{DATABASE}"

    def prepare(self) -> None:
        (self.folder / "first.sql").write_text(FIRST_STATEMENTS)
        if self.is_mariadb:
            how = ["--auth-root-authentication-method=normal", "--skip-test-db"]
            self.run(str(self.installer), "--no-defaults", f"--datadir={self.data}", *how)
        else:
            self.run(str(self.program), "--no-defaults", f"--datadir={self.data}", "--initialize-insecure")

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
        return [str(self.program), "--no-defaults", *settings, *([] if self.is_mariadb else ["--mysqlx=OFF"])]

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
