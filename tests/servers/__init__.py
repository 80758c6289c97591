"""Real servers for the tests, started on this machine: PostgreSQL, MariaDB or MySQL, PgBouncer, FerretDB.

`fixtures.py` hands them to tests; `python -m tests.servers` (or `make services`) keeps them running for development.
"""

from __future__ import annotations

from .mariadb import MariaDbServer
from .mongodb import FerretServer
from .postgres import PgBouncer, PostgresServer
from .process import Server, ServerFailedError, ServerMissingError

__all__ = [
    "FerretServer",
    "MariaDbServer",
    "PgBouncer",
    "PostgresServer",
    "Server",
    "ServerFailedError",
    "ServerMissingError",
]
