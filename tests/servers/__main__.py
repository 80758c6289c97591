"""Run all servers for development until Ctrl-C: `make services`, or `python -m tests.servers`.

`python -m tests.servers build` downloads and builds those that this machine's system does not have: for minutes, and
once only.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from .dynamodb import DynoxideServer, dynoxide
from .mariadb import MariaDbServer, MySqlServer
from .mongodb import FerretServer
from .objects import FakeGcs, GoFakeS3
from .postgres import PgBouncer, PostgresServer
from .process import ServerFailedError, ServerMissingError
from .redis import RedisServer


def build() -> int:
    """Get what is not there yet, and say what could not be had.

    A download waits for the network, and a compiler often for one of its processes: one of each goes on at a time.
    """
    with ThreadPoolExecutor() as pool:
        return max(
            pool.map(_build, ([MySqlServer.build], [FerretServer.build, GoFakeS3.build, FakeGcs.build], [dynoxide]))
        )


def _build(makers: Sequence[Callable[[], Path]]) -> int:
    code = 0
    for make in makers:
        try:
            print(make(), flush=True)
        except (ServerMissingError, ServerFailedError) as error:
            print(error, file=sys.stderr, flush=True)
            code = 1
    return code


def run() -> int:
    """Run all until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell lets what it starts in the background ignore the first
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            postgres = stack.enter_context(PostgresServer())
            print(f"export TEST_POSTGRES_URL={postgres.url}", flush=True)
            print(f"export TEST_PGBOUNCER_URL={stack.enter_context(PgBouncer(postgres)).url}", flush=True)
            print(f"export TEST_MARIADB_URL={stack.enter_context(MariaDbServer()).url}", flush=True)
            print(f"export TEST_MYSQL_URL={stack.enter_context(MySqlServer()).url}", flush=True)
            print(f"export TEST_REDIS_URL={stack.enter_context(RedisServer()).url}", flush=True)
            print(f"export TEST_VALKEY_URL={stack.enter_context(RedisServer('valkey')).url}", flush=True)
            print(f"export TEST_DYNAMODB_URL={stack.enter_context(DynoxideServer()).url}", flush=True)
            print(f"export TEST_MONGODB_URL={stack.enter_context(FerretServer()).url}", flush=True)
            print(f"export TEST_S3_URL='{stack.enter_context(GoFakeS3()).url}'", flush=True)
            print(f"export TEST_GCS_URL='{stack.enter_context(FakeGcs()).url}'", flush=True)
            print("# They run until Ctrl-C, and leave nothing behind.", file=sys.stderr, flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except (ServerMissingError, ServerFailedError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(build() if sys.argv[1:] == ["build"] else run())
