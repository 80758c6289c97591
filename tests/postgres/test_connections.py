"""`PostgresStorage` when connections break and servers go away; and that these campaigns find what is wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tests.servers import PgBouncer, PostgresServer
from tests.servers.fixtures import running
from tests.servers.networks import READ_SAMPLES, RESTARTS, SAMPLES, check, postgres_network

from sessile.drivers.postgres import PostgresDriver
from sessile.errors import StorageError
from sessile.storage import Append, Deadline
from sessile.testing import (
    ConformanceError,
    Scale,
    run_absent,
    run_cuts,
    run_exhausted,
    run_failover,
    run_read_cuts,
    run_restarts,
)


def test_cuts_anywhere_in_a_commit(postgres_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(postgres_network(postgres_url), scale, samples=SAMPLES), capsys)


def test_cuts_anywhere_in_a_read(postgres_url: str, scale: Scale) -> None:
    run_read_cuts(postgres_network(postgres_url), scale, samples=READ_SAMPLES).check()


def test_cuts_before_a_bouncer(pgbouncer_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(postgres_network(pgbouncer_url), scale, samples=0), capsys)


def test_a_server_that_is_not_there_at_first_use(postgres_url: str) -> None:
    run_absent(postgres_network(postgres_url))


def test_an_exhausted_pool(postgres_url: str) -> None:
    run_exhausted(postgres_network(postgres_url, pool_size=2), pool_size=2)


def test_restarts_while_many_write(
    own_postgres: PostgresServer, scale: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run_restarts(postgres_network(own_postgres.url), own_postgres, scale, restarts=RESTARTS)
    check(figures, capsys)
    assert figures.rounds == RESTARTS


def test_failover_to_a_replica(own_postgres: PostgresServer, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    """With synchronous replication, what was acknowledged is there when the replica has taken over."""
    with running(partial(PostgresServer, replica_of=own_postgres)) as replica:
        with own_postgres.connect() as connection:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.execute("SELECT pg_reload_conf()")
        replica.catch_up()

        def fail_over() -> tuple[str, int]:
            own_postgres.kill()
            replica.promote()
            with replica.connect() as connection:
                connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
                connection.execute("SELECT pg_reload_conf()")
            return "127.0.0.1", replica.port

        check(run_failover(postgres_network(own_postgres.url), fail_over, scale), capsys)


def test_failover_through_a_bouncer(own_postgres: PostgresServer, scale: Scale) -> None:
    """The server moves; a bouncer that knows the new address takes the place of the old one."""
    with running(partial(PgBouncer, own_postgres)) as old:

        def fail_over() -> tuple[str, int]:
            own_postgres.move()
            new.start()
            return "127.0.0.1", new.port

        new = PgBouncer(own_postgres)
        try:
            run_failover(postgres_network(old.url), fail_over, scale).check()
        finally:
            new.close()


# ---------------------------------------------------------------- drivers that are wrong


class SaysNotWritten(PostgresDriver):
    """Takes a lost answer for a write that did not happen."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        try:
            return await super().append(write, deadline)
        except StorageError as error:
            error.written = "no"
            raise


class SaysWritten(PostgresDriver):
    """Takes a lost answer for a success."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        try:
            return await super().append(write, deadline)
        except StorageError:
            return True


class GivesUp(PostgresDriver):
    """Does not say that a retry may help."""

    async def append(self, write: Append, deadline: Deadline) -> bool:
        try:
            return await super().append(write, deadline)
        except StorageError as error:
            error.retryable = False
            raise


@pytest.mark.parametrize(
    ("driver", "complaint"),
    [
        (SaysNotWritten, "said that this was not written, but it is there"),
        (SaysWritten, r"[1-9]\d* lost"),
        (GivesUp, "one lost connection made a commit fail"),
    ],
    ids=["says-not-written", "says-written", "gives-up"],
)
def test_a_wrong_driver_is_found(
    driver: type[PostgresDriver], complaint: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessile.drivers.postgres.storage.PostgresDriver", driver)
    with pytest.raises(ConformanceError, match=complaint):
        run_cuts(postgres_network(postgres_url), Scale(1), samples=0, faces=("sync",)).check()


def test_a_pool_that_loses_connections_is_found(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep(self: Any, connection: Any) -> None:
        self._close(connection)

    monkeypatch.setattr("sessile.drivers.sql.pool.ThreadPool.discard", keep)
    with pytest.raises(ConformanceError, match="failed though the server answers"):
        run_exhausted(postgres_network(postgres_url, pool_size=2, timeout=1.0), pool_size=2)


def test_a_server_that_forgets_is_found(own_postgres: PostgresServer) -> None:
    """Acknowledged commits that a crash of the server takes back are counted as lost."""
    network = postgres_network(own_postgres.url)
    with network.direct() as storage:
        storage.setup()  # these tables are not forgotten
    with own_postgres.connect() as connection:
        connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        connection.execute("ALTER DATABASE sessile SET synchronous_commit = off")
        connection.execute("SELECT pg_reload_conf()")
    with pytest.raises(ConformanceError, match=r"[1-9]\d* lost"):
        run_restarts(network, own_postgres, Scale(1), restarts=5).check()
