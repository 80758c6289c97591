"""Who else can read what is written, and what links that somebody has planted make of it."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sessile import JsonStorage, SqlAlchemyStorage, SqliteStorage, YamlStorage
from sessile.drivers.files import tree
from sessile.drivers.files.names import safe_name
from sessile.errors import CorruptDataError, SessileError
from sessile.storage import Storage

from .folders import Folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights and links are others there")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(autouse=True)
def _usual_umask() -> object:
    before = os.umask(0o022)
    yield
    os.umask(before)


MAKE: dict[str, Callable[[Path], Storage]] = {
    "sqlite": lambda path: SqliteStorage(path / "s.db"),
    "sqlalchemy": lambda path: SqlAlchemyStorage(f"sqlite:///{path}/s.db"),
    "json": JsonStorage,
    "yaml": YamlStorage,
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_made_is_for_its_owner_alone(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep"
    if kind == "sqlalchemy":
        path.mkdir(parents=True, mode=0o700)
        path.parent.chmod(0o700)
    with MAKE[kind](path) as storage:
        storage.add_run("s", input="Who may read this?", state={"k": 1})
        storage.add_run("s", input="And this?")
        storage.delete("s")
        storage.add_run("t")
        storage.sessions()
        made = [path.parent, *path.parent.rglob("*")]
        assert {mode(found) for found in made if found.is_dir()} == {0o700}
        assert {mode(found) for found in made if found.is_file()} == {0o600}
        assert len([found for found in made if found.is_file()]) >= 3, "logs that SQLite keeps beside are among them"


@pytest.mark.parametrize("kind", ["sqlite", "sqlalchemy"])
def test_a_file_that_is_there_keeps_its_rights(kind: str, tmp_path: Path) -> None:
    (tmp_path / "s.db").touch(0o660)
    (tmp_path / "s.db").chmod(0o660)
    with MAKE[kind](tmp_path) as storage:
        storage.add_run("s")
        assert {mode(found) for found in tmp_path.iterdir()} == {0o660}


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_a_folder_that_its_group_may_write_to_is_shared_with_it(kind: str, tmp_path: Path) -> None:
    os.umask(0o007)
    tmp_path.chmod(0o2770)
    with MAKE[kind](tmp_path) as storage:
        storage.add_run("s")
        made = list(tmp_path.rglob("*"))
    assert {mode(found) & 0o777 for found in made if found.is_dir()} == {0o770}
    assert {mode(found) for found in made if found.is_file() and not found.name.startswith("index")} == {0o660}


# ---------------------------------------------------------------- links

EVERYTHING: tuple[Callable[[Storage], object], ...] = (
    lambda storage: storage.setup(),
    lambda storage: storage.get_session("s"),
    lambda storage: storage.runs("s"),
    lambda storage: storage.add_run("s", input="new", state={"k": 2}),
    lambda storage: storage.add_run("new", input="new"),
    lambda storage: storage.rename("s", "new"),
    lambda storage: storage.sessions(),
    lambda storage: storage.count_sessions(),
    lambda storage: storage.verify("s"),
    lambda storage: storage.rewind("s", at=1),
    lambda storage: storage.fork("s", session_id="copy"),
    lambda storage: storage.sweep(),
    lambda storage: storage.delete("s"),
    lambda storage: storage.sweep(),
)
"""Whatever reads, writes and removes files."""

FILES = ["head", "log", ".{head}.new", ".{log}.new", "{head}.cut", "{log}.cut"]
PLACES = [
    *(f"sessions/{{session}}/{name}" for name in FILES),
    *(f"sessions/{{new}}/{name}" for name in ("head", "log", ".{head}.new")),
    "sessions/{session}", "sessions/{new}", "sessions/{session}/records", "sessions", ".sessile", ".sessile/locks",
    ".sessile/trash", ".sessile/trash/left", ".sessile/index.db", ".sessile/index.db-wal", ".sessile/index.db-shm",
    ".sessile/.gitignore", "sessile.json", ".sessile.json.new", "sessions/planted", ".sessile/locks/*",
]  # fmt: skip
"""Where a link may lie."""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder("json", tmp_path / "folder")


def plant(folder: Folder, place: str, target: Path) -> None:
    """A link in place of what is there."""
    names = {"head": folder.head.name, "log": folder.log.name, "session": folder.session.name, "new": safe_name("new")}
    if place == ".sessile/locks/*":
        for number in range(64):
            link = folder.path / ".sessile" / "locks" / f"{number:02}"
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        return
    name = place.format(**names)
    head, _, last = name.rpartition("/")
    link = folder.path / head / names.get(last, last)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def snapshot(path: Path) -> dict[str, tuple[int, bytes]]:
    return {str(found): (mode(found), found.read_bytes() if found.is_file() else b"") for found in path.rglob("*")}


@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
@pytest.mark.parametrize("place", PLACES)
def test_a_planted_link_leads_nowhere(place: str, there: bool, folder: Folder, tmp_path: Path) -> None:
    """Nothing elsewhere is written, truncated, made or removed, and nothing there is taken for a session's."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder.session, elsewhere / "session")
    shutil.copytree(folder.path, elsewhere / "root")
    for log in elsewhere.rglob("log.jsonl"):
        folder.edit(log, "question", "stolen")
    file = elsewhere / "session" / ("head.json" if "head" in place else "log.jsonl")
    target = {"sessions": elsewhere / "root/sessions", ".sessile": elsewhere / "root/.sessile"}.get(
        place, elsewhere / "session" if is_of_folder(place) else file
    )
    before = snapshot(elsewhere)
    plant(folder, place, target if there else elsewhere / "absent")
    for work in EVERYTHING:
        try:
            with folder.open() as storage:
                shown = repr(work(storage))
        except SessileError as error:
            shown = str(error)
        assert "stolen" not in shown
    assert snapshot(elsewhere) == before


def is_of_folder(place: str) -> bool:
    return place.endswith(("{session}", "{new}", "records", "locks", "trash", "left", "planted"))


def test_a_link_is_told(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    folder.log.unlink()
    folder.log.symlink_to(tmp_path / "mine")
    with folder.open() as storage:
        with pytest.raises(CorruptDataError, match=r"is a link, and links in a folder of sessions are not followed"):
            storage.add_run("s")
        storage.add_run("another")
        assert list(storage.sessions().unreadable) == ["s"]


def test_a_pipe_lets_nobody_wait(folder: Folder) -> None:
    folder.log.unlink()
    os.mkfifo(folder.log)
    with folder.open() as storage, pytest.raises(SessileError):
        storage.runs("s")


def test_a_root_that_is_a_link_is_the_applications_choice(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder.path)
    with type(folder.open())(tmp_path / "link") as storage:
        storage.add_run("s", input="question 4")
        assert len(storage.runs("s", last=9)) == 4


@pytest.mark.parametrize("place", PLACES)
def test_where_names_cannot_be_opened_in_folders(
    place: str,
    folder: Folder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows: every name on the way is looked at."""
    monkeypatch.setattr(tree, "ANCHORED", False)
    test_a_planted_link_leads_nowhere(place, True, folder, tmp_path)
