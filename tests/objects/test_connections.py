"""`S3Storage` and `GcsStorage` when connections break and the server goes away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.servers.fixtures import running
from tests.servers.networks import RESTARTS, TORTURE, check, objects_network
from tests.servers.objects import GoFakeS3

from sessile.drivers.objects import log
from sessile.testing import Scale, run_absent, run_cuts, run_exhausted, run_read_cuts, run_restarts
from sessile.testing.checks import FACES, Face

SAMPLES = None if TORTURE else 4
"""At how many bytes of each direction a commit is cut, beside all ends of messages: it is several requests."""


@pytest.fixture
def own_s3() -> Iterator[GoFakeS3]:
    """A server of this test alone, also where `TEST_S3_URL` is set."""
    with running(GoFakeS3) as server:
        yield server


def faces(url: str) -> tuple[Face, ...]:
    """Both on S3; the ports are the same for Google, but for the client that obstore makes."""
    return FACES if TORTURE or url.startswith("s3:") else ("async",)


@pytest.fixture(params=["s3_url", "gcs_url"])
def url(request: pytest.FixtureRequest) -> str:
    found = request.getfixturevalue(request.param)
    if "endpoint=http://" not in found:
        pytest.skip("The proxy sees nothing of a connection that is encrypted.")
    return found


def test_cuts_anywhere_in_a_commit(
    url: str, scale: Scale, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of commits that write no checkpoint, as most do: all have as many bytes, on a slow machine too."""
    monkeypatch.setattr(log, "INTERVAL", 10**15)
    check(run_cuts(objects_network(url), scale, samples=SAMPLES, faces=faces(url)), capsys)


def test_cuts_anywhere_in_a_read(url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_read_cuts(objects_network(url), scale, samples=SAMPLES, faces=faces(url)), capsys)


def test_a_server_that_is_not_there_at_first_use(url: str) -> None:
    run_absent(objects_network(url))


def test_a_server_that_does_not_answer(url: str) -> None:
    """A request ends with the storage's timeout, also for synchronous callers."""
    run_exhausted(objects_network(url, timeout=3.0), pool_size=2)


def test_restarts_while_many_write(own_s3: GoFakeS3, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    """The emulator is killed in the midst of requests, and started again on its data."""
    figures = run_restarts(objects_network(own_s3.url), own_s3, scale, restarts=RESTARTS)
    check(figures, capsys)
    assert figures.rounds == RESTARTS
