"""Real servers for the tests, started on this machine: PostgreSQL, MariaDB, MySQL, PgBouncer, Redis, Valkey,
FerretDB for MongoDB, and emulators of DynamoDB, S3 and Google Cloud Storage.

`fixtures.py` hands them to tests; `python -m tests.servers` (or `make services`) keeps them running for development.
"""

from __future__ import annotations

from .dynamodb import DynoxideServer, MotoServer
from .mariadb import MariaDbServer, MySqlFamilyServer, MySqlServer
from .mongodb import FerretServer
from .objects import FakeGcs, GoFakeS3
from .postgres import PgBouncer, PostgresServer
from .process import Server, ServerFailedError, ServerMissingError
from .redis import RedisCluster, RedisServer, Sentinel

__all__ = [
    "DynoxideServer",
    "FakeGcs",
    "FerretServer",
    "GoFakeS3",
    "MariaDbServer",
    "MotoServer",
    "MySqlFamilyServer",
    "MySqlServer",
    "PgBouncer",
    "PostgresServer",
    "RedisCluster",
    "RedisServer",
    "Sentinel",
    "Server",
    "ServerFailedError",
    "ServerMissingError",
]
