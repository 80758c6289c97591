"""From a URL to a storage, also to those of third parties."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.errors import InvalidInputError, SessileError
from sessile.storage import open_storage
from sessile.storage.urls import take_settings

from .helpers import child, finish


def test_memory() -> None:
    with sessile.open("memory://", lease=5) as storage, sessile.open("memory://") as other:
        assert isinstance(storage, MemoryStorage)
        assert storage.settings.lease == 5
        storage.add_run("s")
        assert other.get_session("s") is None


def test_relative_and_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sessile.open("sqlite:///sub/sessions.db") as storage:
        assert isinstance(storage, SqliteStorage)
        storage.add_run("s")
    assert (tmp_path / "sub" / "sessions.db").exists()
    with sessile.open(f"sqlite:///{tmp_path}/sub/sessions.db") as storage:
        assert storage.get_session("s") is not None


def test_odd_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sessile.open("sqlite:///a%20b%23c%3Fd%25.db") as storage:
        storage.setup()
    assert (tmp_path / "a b#c?d%.db").exists()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_sqlite_in_memory(url: str) -> None:
    with sessile.open(url) as storage:
        storage.add_run("s")
        assert storage.capabilities.durable is False


def synchronous(storage: Storage) -> Any:
    assert storage._core is not None
    return vars(storage._core.driver)["synchronous"]


def test_options(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    with sessile.open(f"{url}?synchronous=NORMAL", ttl=5) as storage:
        assert storage.settings.ttl == 5
        assert synchronous(storage) == "NORMAL"
    with sessile.open(f"{url}?synchronous=NORMAL", synchronous="FULL") as storage:
        assert synchronous(storage) == "FULL"


@pytest.mark.parametrize(
    "url",
    [
        "mysterydb://x", "sessions.db", "", "://", "/tmp/sessions.db", "sqlite:sessions.db", "sqlite:/tmp/sessions.db",
        "json:folder", "memory:", "memory://x", "memory://?lease=5", "sqlite://host/sessions.db", "sqlite:///a#b.db",
        "sqlite:///a.db#", "sqlite:///a.db?timeout=5", "sqlite:///a.db?synchronous=OFF", "sqlite:///a.db?synchronous=",
        "sqlite:///a%00b.db", "sqlite://[", Path("sessions.db"), None, b"sqlite://",
    ],
)  # fmt: skip
def test_bad_urls(url: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError):
        sessile.open(url)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scheme_says_what_is_known() -> None:
    with pytest.raises(InvalidInputError, match=r"There is no driver for 'mysterydb'\. Known are: .*memory.*sqlite"):
        open_storage("mysterydb://x")


SERVERS = ["postgresql", "mysql", "redis", "rediss+sentinel", "valkey", "mongodb"]
OTHERS = ["sqlite", "json", "dynamodb", "s3", "gs"]


@pytest.mark.parametrize("mark", ["/", "?", "#", "[", "]", "[1]", "%zz", "℀", " "])
@pytest.mark.parametrize("scheme", SERVERS + OTHERS)
def test_no_error_shows_a_part_of_a_password(scheme: str, mark: str) -> None:
    """Passwords with characters that a URL cannot hold as they are; some drivers understand some of them."""
    url = f"{scheme}://ada:Hunter{mark}Tomato@127.0.0.1:1/db"
    with pytest.raises(SessileError) as caught, sessile.open(url, timeout=0.5) as storage:
        storage.get_session("s")
    text = "".join(traceback.format_exception(caught.value))
    assert "Hunter" not in text
    assert "Tomato" not in text


@pytest.mark.parametrize("mark", ["?", "#", "/", "/2?", "?x=", "#?", "@7?", "@7/", "@7#", "@7:5@", "?@", "\\"])
@pytest.mark.parametrize("scheme", [*SERVERS, "mariadb", "sqlalchemy+postgresql+psycopg", "sqlalchemy+mysql+pymysql"])
def test_a_number_in_front_of_a_password_is_not_taken_for_a_port(scheme: str, mark: str) -> None:
    url = f"{scheme}://ada:60417{mark}Tomato@127.0.0.1:1/db"
    with pytest.raises(SessileError) as caught, sessile.open(url, timeout=0.5) as storage:
        storage.get_session("s")
    told = f"{caught.value!r} {caught.value.hint}"
    assert not re.search(r"60417|Tomato@|ada:6|\bat 7|://7", told)


def test_an_at_may_stand_in_a_setting_of_a_url_with_a_login() -> None:
    """The addresses of Cosmos DB have one."""
    sessile.open("mongodb://ada:key@127.0.0.1:1/?appName=@ada@&retrywrites=false").close()


@pytest.mark.parametrize("scheme", SERVERS)
def test_a_password_that_ends_the_address_is_told_how_to_be_written(scheme: str) -> None:
    with pytest.raises(InvalidInputError, match="percent-encoded: / is %2F"):
        sessile.open(f"{scheme}://ada:Hunter/Tomato@127.0.0.1/db")


@pytest.mark.parametrize(
    "url",
    ["dynamodb://table?secret=Hunter", "dynamodb://table?endpoint=http://ada:Hunter@h", "s3://b?secret_access_key=Hunter&x=1",
     "postgresql://h/db?password=Hunter&x=1", "mysql://h/db?password=Hunter", "redis://h/0?password=Hunter&x=1"],
)  # fmt: skip
def test_no_error_shows_a_secret_among_the_settings(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        sessile.open(url)
    assert "Hunter" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("kind", ["SqliteStorage", "JsonStorage", "YamlStorage", "S3Storage", "GcsStorage"])
def test_a_url_is_no_path_and_no_bucket(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder named `postgresql:` would hold a file whose path has the password in it."""
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:///sessions.db", "postgresql://ada:Hunter@host/db"):
        with pytest.raises(InvalidInputError, match=r"This is a URL, not the .* Give it to sessile\.open\.") as caught:
            getattr(sessile, kind)(url)
        assert "Hunter" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_settings_in_a_url_are_read_as_they_are_written() -> None:
    settings, left = take_settings(
        "s3://b/p?region=eu&secret_access_key=a+b/c%3D&x=%20+&pool_size=3", ("region", "pool_size")
    )
    assert settings == {"region": "eu", "pool_size": 3}
    assert left == "s3://b/p?secret_access_key=a+b/c%3D&x=%20+"
    assert take_settings(left, ("secret_access_key", "x")) == ({"secret_access_key": "a+b/c=", "x": " +"}, "s3://b/p")
    assert take_settings("postgresql:///db", ("x",)) == ({}, "postgresql:///db")


# ---------------------------------------------------------------- third parties

MODULE = """
from sessile.drivers.memory import MemoryDriver
from sessile.storage import Storage

class ShelfStorage(Storage):
    def __init__(self, place, **options):
        self.place = place
        super().__init__(MemoryDriver(), **options)

    @classmethod
    def from_url(cls, url, **options):
        return cls(url.partition("://")[2], **options)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """An installed package of a third party with a driver of its own."""
    (tmp_path / "sessile_shelf.py").write_text(MODULE)
    info = tmp_path / "sessile_shelf-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sessile-shelf\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sessile.drivers]\nshelf = sessile_shelf:ShelfStorage\n")
    return tmp_path


def test_a_package_that_is_installed_brings_its_driver(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package))
    importlib.invalidate_caches()
    try:
        with sessile.open("shelf://top/left", lease=7) as storage:
            assert (type(storage).__name__, storage.settings.lease) == ("ShelfStorage", 7)
            assert vars(storage)["place"] == "top/left"
            storage.add_run("s", input="hi")
            assert storage.get_run("s", 1).input == "hi"
        with pytest.raises(InvalidInputError, match=r"Known are: .*mariadb, memory, .*shelf"):
            sessile.open("mysterydb://")
    finally:
        sys.modules.pop("sessile_shelf", None)


def test_in_a_fresh_process(package: Path) -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import sessile
with sessile.open("shelf://here") as storage:
    print(type(storage).__name__, storage.add_run("s").number)
"""
    assert finish(child(code, package)).split() == ["ShelfStorage", "1"]
