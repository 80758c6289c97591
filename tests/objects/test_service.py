"""What `S3Storage` and `GcsStorage` ask of a service, and what they make of its answers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from tests.forking import in_child
from tests.objects.helpers import add, call, driver_of, objects
from tests.servers.counting import CountingProxy

import sessile
from sessile import ANY_USER, GcsStorage, S3Storage
from sessile.drivers.objects.layout import digest
from sessile.errors import (
    ClosedError,
    CorruptDataError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
)
from sessile.storage import Storage
from sessile.storage.driver import Deadline
from sessile.storage.faces import step


@pytest.fixture(params=["s3_url", "gcs_url"])
def url(request: pytest.FixtureRequest) -> str:
    found = request.getfixturevalue(request.param)
    if "endpoint=http://" not in found:
        pytest.skip("The proxy sees nothing of a connection that is encrypted.")
    return found


@pytest.fixture
def proxy(url: str) -> Iterator[CountingProxy]:
    with CountingProxy(url.partition("endpoint=")[2].partition("&")[0]) as opened:
        yield opened


@pytest.fixture
def storage(url: str, proxy: CountingProxy) -> Iterator[Storage]:
    with sessile.open(url, endpoint=proxy.url) as opened:
        yield opened


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    "headers", [{"if-none-match", "if-match", "x-goog-if-generation-match"}, {"if-match", "x-goog-if-generation-match"}]
)
@pytest.mark.parametrize("used", [False, True])
def test_a_store_that_ignores_conditions_is_refused(url: str, headers: set[str], used: bool) -> None:
    """It would lose writes; also if the bucket is in use already."""
    if used:
        with sessile.open(url) as direct:
            direct.add_run("s", input="kept")
    with CountingProxy(url.partition("endpoint=")[2].partition("&")[0]) as proxy:
        proxy.dropped = headers
        with sessile.open(url, endpoint=proxy.url) as storage:
            for operation in (storage.setup, lambda: storage.add_run("s"), lambda: storage.get_session("s")):
                with pytest.raises(StorageError, match="ignores the conditions of writes") as caught:
                    operation()
                assert caught.value.written == "no"
                assert not caught.value.retryable
    if used:
        with sessile.open(url) as direct:
            assert [run.input for run in direct.runs("s")] == ["kept"]


def test_an_append_whose_answer_was_lost_is_found_by_its_id(storage: Storage, proxy: CountingProxy) -> None:
    """Its create is not repeated, and would be refused; the run is there once, acknowledged."""
    add(storage, "s", 2)
    proxy.lose("PUT", "commits")
    assert storage.add_run("s", input=3, format="test/1", messages=[{"text": "3"}]).number == 3
    proxy.lose("PUT", "heads")  # the checkpoint: the next one makes up for it
    assert storage.add_run("s", input=4, format="test/1", messages=[{"text": "4"}]).number == 4
    proxy.lose("PUT", "heads")  # the claim of a session
    assert storage.add_run("new", input=1).number == 1
    assert [run.input for run in storage.runs("s")] == [1, 2, 3, 4]
    assert (storage.verify("s"), storage.verify("new")) == (4, 1)


# ---------------------------------------------------------------- requests


def requests(proxy: CountingProxy) -> Counter[str]:
    """How many requests there were of each kind since the last time."""
    counted = Counter("LIST" if "list-type" in path else method for method, path in proxy.seen)
    proxy.forget()
    return counted


def turn(storage: Storage, proxy: CountingProxy) -> Counter[str]:
    """The requests of a turn that is more than a second after the one before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessile.drivers.objects.log.INTERVAL", 0)
        requests(proxy)
        view = storage.get_session("s", last_runs=3, user_id="ada")
        assert view is not None
        assert len(view.runs) == min(3, view.run_count)
        storage.add_run("s", input="x", format="test/1", messages=[{"text": "x"}], user_id="ada", agent="support")
        return requests(proxy)


def test_a_turn_takes_as_many_requests_however_long_the_session_is(storage: Storage, proxy: CountingProxy) -> None:
    add(storage, "s", 10, user_id="ada", agent="support")
    turn(storage, proxy)  # writes the checkpoint that was not due
    short = turn(storage, proxy)
    add(storage, "s", 120, user_id="ada", agent="support")
    turn(storage, proxy)
    long = [turn(storage, proxy) for _ in range(5)]
    deletes = 3 if isinstance(storage, GcsStorage) else 0  # S3 deletes several objects by one POST
    posts = 1 - deletes // 3
    assert short == Counter(GET=5, PUT=5, DELETE=deletes, POST=posts)
    assert min(long, key=Counter.total) == short
    assert all(each.total() <= short.total() + 3 for each in long)  # now and then commits are merged


def test_the_last_runs_take_two_requests_or_three(storage: Storage, proxy: CountingProxy) -> None:
    add(storage, "s", 40, user_id="ada", agent="support")
    turn(storage, proxy)
    storage.get_session("s", user_id="ada")
    assert requests(proxy).total() == 2
    storage.add_run("s", input="not yet in a checkpoint", user_id="ada")
    requests(proxy)
    view = storage.get_session("s", last_runs=3, user_id="ada")
    assert view is not None
    assert view.runs[-1].input == "not yet in a checkpoint"
    assert requests(proxy).total() == 3


def test_lists_of_a_user_read_no_other_sessions(storage: Storage, proxy: CountingProxy) -> None:
    for number in range(12):
        storage.create_session(f"s{number}", user_id=f"user{number % 6}")
    requests(proxy)
    assert len(storage.sessions(user_id="user1").items) == 2
    assert requests(proxy) == Counter({"LIST": 1, "GET": 4})


# ---------------------------------------------------------------- answers


def test_a_busy_service_is_asked_again(storage: Storage, proxy: CountingProxy) -> None:
    storage.add_run("s", input=1)
    for status, code in ((503, b"<Code>SlowDown</Code>"), (429, b""), (500, b"")):
        proxy.answer("GET", "heads", status, code, times=2)
        proxy.answer("PUT", "commits", status, code)
        proxy.answer("PUT", "lists", status, code)
        storage.add_run("s", input=1)
    assert storage.verify("s") == 4


def test_a_service_that_is_busy_at_first_use_is_asked_again(storage: Storage, proxy: CountingProxy) -> None:
    proxy.answer("PUT", "sessile", 503, b"<Code>SlowDown</Code>", times=2)
    assert storage.get_session("s") is None


def test_a_service_that_breaks_at_first_use_has_written_nothing(storage: Storage, proxy: CountingProxy) -> None:
    proxy.answer("PUT", "sessile", 500, times=1000)
    with pytest.raises(StorageUnavailableError) as caught:
        storage.add_run("s", input=1)
    assert caught.value.written == "no"


def test_a_record_that_is_written_is_not_said_not_to_be(storage: Storage, proxy: CountingProxy) -> None:
    """The look at its session afterwards fails."""
    storage.add_run("s", input=1)
    incarnation = storage.get_session("s").incarnation  # type: ignore[union-attr]
    proxy.answer("GET", "heads", 403)
    with pytest.raises(ReadOnlyError) as caught:
        call(storage, "put_record", "s", incarnation, "k", b"x")
    assert caught.value.written == "unknown"


def test_checkpoints_that_may_not_be_written_are_told(
    storage: Storage, proxy: CountingProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """All commits are kept and read, but reading takes ever longer."""
    add(storage, "s", 1)
    proxy.answer("PUT", "heads", 403, times=1000)
    add(storage, "s", 20)
    assert storage.verify("s") == 21
    assert "checkpoint of session 's' cannot be written" in caplog.text


def test_a_service_that_stays_busy_is_an_error(storage: Storage, proxy: CountingProxy) -> None:
    storage.add_run("s", input=1)
    proxy.answer("GET", "heads", 503, b"<Code>SlowDown</Code>", times=1000)
    with pytest.raises(StorageUnavailableError, match="SlowDown") as caught:
        storage.get_session("s")
    assert (caught.value.retryable, caught.value.written) == (True, "no")


def test_what_may_not_be_done_is_told(storage: Storage, proxy: CountingProxy) -> None:
    storage.add_run("s", input=1)
    proxy.answer("GET", "heads", 403)
    with pytest.raises(ReadOnlyError, match="permission"):
        storage.get_session("s")
    proxy.answer("PUT", "commits", 401)
    with pytest.raises(StorageError, match="credentials") as caught:
        storage.add_run("s", input=2)
    assert caught.value.written == "no"
    proxy.answer("PUT", "commits", 400, b"<Code>KeyTooLong</Code>")
    with pytest.raises(StorageError, match="KeyTooLong"):
        storage.add_run("s", input=2)
    assert storage.verify("s") == 1


def test_whoever_may_only_read_can_read(url: str, proxy: CountingProxy) -> None:
    """Also what has to be put right on the way."""
    with sessile.open(url) as direct:
        direct.create_session("a", user_id="ada")
        direct.rename("a", "Renamed", user_id="ada")
    for method in ("PUT", "POST", "DELETE"):
        proxy.answer(method, "/", 403, times=1000)
    with sessile.open(url, endpoint=proxy.url) as storage:
        assert [head.name for head in storage.sessions(user_id="ada").items] == ["Renamed"]
        with pytest.raises(ReadOnlyError):
            storage.add_run("a", user_id="ada")


def test_a_missing_bucket_is_not_an_empty_one(url: str) -> None:
    missing = url.replace(urlsplit(url).netloc, "no-such-bucket")
    with sessile.open(missing) as storage:
        for operation in (lambda: storage.get_session("s"), storage.sessions, lambda: storage.add_run("s")):
            with pytest.raises(StorageError, match="NoSuchBucket") as caught:
                operation()
            assert "bucket" in caught.value.hint
            assert not caught.value.retryable


@pytest.mark.parametrize(("content", "error"), [(b"{", CorruptDataError), (b'{"format":3}', NewerVersionError)])
def test_objects_that_are_not_ours_are_told(storage: Storage, content: bytes, error: type[StorageError]) -> None:
    add(storage, "s", 2)
    port = driver_of(storage).port
    newest = next(name for name in objects(storage, "logs") if "/commits/" in name)
    for name in (newest, f"heads/{digest('s')}"):
        step(port.put("By the test", name, content, Deadline(30.0)))
        with pytest.raises(error, match=name):
            storage.get_session("s")


# ---------------------------------------------------------------- around


def test_prefixes_are_kept_apart(url: str) -> None:
    with sessile.open(url) as one, sessile.open(url.replace("?", "/below?", 1)) as other:
        one.add_run("s", input=1, user_id="ada")
        assert other.get_session("s", user_id="ada") is None
        other.add_run("s", input=2, user_id="ada")
        assert one.count_sessions(user_id=ANY_USER) == other.count_sessions(user_id=ANY_USER) == 1
        assert [run.input for run in one.runs("s", user_id="ada")] == [1]


def test_large_media_come_back_whole(storage: Storage) -> None:
    """In parts; they go with the session."""
    storage.create_session("s")
    incarnation = storage.get_session("s").incarnation  # type: ignore[union-attr]
    for size in (0, 1, 5 * 2**20, 8 * 2**20):
        value = os.urandom(size)
        assert call(storage, "put_record", "s", incarnation, "k", value)
        assert call(storage, "get_record", "s", incarnation, "k") == value
    storage.delete("s")
    assert objects(storage, "logs") == []


def test_nothing_is_left_of_a_session_but_an_empty_object(storage: Storage) -> None:
    add(storage, "secret-id", 3, user_id="secret-user", agent="secret-agent")
    storage.delete("secret-id", user_id="secret-user")
    assert objects(storage) == [f"heads/{digest('secret-id')}", "sessile"]
    assert not any("secret" in name for name in objects(storage))


def test_a_storage_that_was_used_says_so_in_a_forked_child(url: str) -> None:
    """The threads of its client do not live on there: without the error it would wait for ever."""
    if not hasattr(os, "fork"):
        pytest.skip("This system has no fork.")
    with sessile.open(url) as storage:
        storage.add_run("s", input=1)

        def used() -> None:
            with pytest.raises(StorageError, match="forked") as caught:
                storage.get_session("s")
            assert "Fork before" in caught.value.hint

        assert in_child(used) == 0
        assert storage.verify("s") == 1


def test_a_closed_storage_says_so(url: str) -> None:
    storage = sessile.open(url)
    storage.setup()
    driver = driver_of(storage)
    storage.close()
    with pytest.raises(ClosedError):
        storage.get_session("s")
    with pytest.raises(ClosedError):
        step(driver.load("s", 0, Deadline(1.0)))


def test_urls() -> None:
    storage = S3Storage.from_url("s3://bucket/a/b%20c/?region=eu-central-1&endpoint=http://localhost:9000")
    assert driver_of(storage).port.where == "s3://bucket/a/b c"
    assert driver_of(GcsStorage.from_url("gs://bucket")).port.where == "gs://bucket"
    for bad in ("s3://", "s3://bucket?colour=red", "gs://bucket?region=x", "gs:///prefix", "s3://bucket#x"):
        with pytest.raises(InvalidInputError):
            sessile.open(bad)
    with pytest.raises(InvalidInputError) as caught:
        sessile.open("s3://bucket?secret_access_key=hush&colour=red")
    assert "hush" not in str(caught.value)
    for arguments in ({"bucket": 1}, {"bucket": "b", "prefix": None}, {"bucket": "b", "timeout": 0}):
        with pytest.raises(InvalidInputError):
            S3Storage(**arguments)  # type: ignore[arg-type]


def test_settings_that_the_client_refuses_are_told() -> None:
    with S3Storage("bucket", config={"no_such_setting": "x"}) as storage, pytest.raises(StorageError, match="no_such"):
        storage.setup()
