"""Folders of files as people meet them: readable, edited by hand, damaged, copied, under version control."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml12
from hypothesis import given
from hypothesis import strategies as st
from tests.files.folders import KINDS, Folder

import sessile
from sessile import ANY_USER, JsonStorage, YamlStorage
from sessile.drivers.files import storage as module
from sessile.drivers.files.names import safe_name
from sessile.drivers.files.tree import Tree
from sessile.drivers.files.yaml_format import YamlFormat
from sessile.errors import (
    CorruptDataError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
)
from sessile.testing.samples import HOSTILE_IDS, HOSTILE_VALUES

# ---------------------------------------------------------------- what is there to read


def test_json_is_readable(tmp_path: Path) -> None:
    folder = Folder("json", tmp_path)
    head = json.loads(folder.head.read_text("utf-8"))
    assert (head["session_id"], head["revision"], head["body"]["run_count"]) == ("s", 3, 3)
    assert len(folder.head.read_text("utf-8").splitlines()) > 20
    lines = [json.loads(line) for line in folder.log.read_text("utf-8").splitlines()]
    assert lines[0]["session_id"] == "s"
    assert [line["seq"] for line in lines[1:]] == [1, 2, 3]


def test_yaml_is_readable(tmp_path: Path) -> None:
    folder = Folder("yaml", tmp_path)
    documents = yaml12.parse_yaml(folder.log.read_text("utf-8"), multi=True)
    assert [document.get("seq") for document in documents] == [None, 1, 2, 3]
    text = folder.log.read_text("utf-8")
    assert re.search(r"text: \|-\n( +)one\n\1two 3\n", text)
    assert not [line for line in text.splitlines() if line.startswith("{")]


def test_what_yaml_guesses_wrong_stays_what_it_is(tmp_path: Path) -> None:
    texts = ["no", "yes", "1e3", "2026-01-01", "0o7", "0x1f", "~", "null", "12:30", "1_000", ".inf", "", " a ", "a\n\n"]
    state: dict[str, Any] = {"values": [*texts, *HOSTILE_VALUES], "no": 1, "1e3": 2, "~": 3}
    with YamlStorage(tmp_path) as storage:
        storage.add_run("s", state=state, format="test/1", messages=[{"texts": texts, "values": list(HOSTILE_VALUES)}])
    with YamlStorage(tmp_path) as storage:
        head = storage.get_session("s")
        assert head is not None
        assert json.dumps(head.state) == json.dumps(state)
        assert storage.runs("s")[0].messages[0].data == {"texts": texts, "values": list(HOSTILE_VALUES)}
        storage.verify("s")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4))
def test_yaml_brings_back_every_value(value: dict[str, Any]) -> None:
    form = YamlFormat()
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    fields = form._kept("body", text)
    try:
        written = form.dump({"seq": 1, **fields})
    except UnicodeEncodeError:
        pytest.fail("a lone surrogate must be kept as text")
    assert written.endswith(form.end)
    assert form.end not in written[:-1]
    read = form.parse(written)
    kept = read["body_text"] if "body_text" in read else json.dumps(read["body"], separators=(",", ":"))
    assert kept == text


def test_folder_names_are_safe(tmp_path: Path) -> None:
    names = [safe_name(session_id) for session_id in (*HOSTILE_IDS, "CON", "con", "nul.txt", "a.", "a ")]
    assert len({name.lower() for name in names}) == len({*HOSTILE_IDS, "CON", "con", "nul.txt", "a.", "a "})
    for name in names:
        assert name == name.lower()
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        assert len(name) <= 61
    assert safe_name("Capitals of Europe").startswith("capitals-of-europe-")


# ---------------------------------------------------------------- edited by hand


def test_heads_and_logs_edited_by_hand_are_read(folder: Folder) -> None:
    with folder.open() as storage:
        storage.rename("s", "Capitals")
        storage.sessions()
    folder.edit(folder.log, "question 2", "another question")
    folder.edit(folder.head, "Capitals", "Towns")
    assert folder.inputs() == ["question 1", "another question", "question 3"]
    with folder.open() as storage:
        assert [head.name for head in storage.sessions().items] == ["Towns"]
        folder.edit(folder.head, "Towns", "Rivers")
        assert [head.name for head in storage.sessions().items] == ["Rivers"]
        storage.add_run("s", input="question 4")
    assert folder.inputs()[-1] == "question 4"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("question 2", 'question "2', "column"),
        ('"seq":2', '"seq":"two"', "'seq' must not be of the type str"),
        ('"body":{', '"bdy":{', "'body' must be an object"),
    ],
)
def test_a_damaged_line_is_named_and_costs_nothing_else(
    tmp_path: Path, old: str, new: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder("json", tmp_path)
    lines = folder.log.read_text("utf-8").splitlines(keepends=True)
    lines[2] = lines[2].replace(old, new)
    folder.log.write_text("".join(lines), "utf-8")
    with pytest.raises(CorruptDataError, match=rf"Line 3 of '.*log\.jsonl' cannot be read: .*{reason}"):
        folder.inputs()
    assert folder.inputs(last=1) == ["question 3"]
    with folder.open() as storage:
        storage.add_run("s", input="question 4")
        assert len(storage.sessions().items) == 1
    assert folder.inputs(last=2) == ["question 3", "question 4"]


@pytest.mark.parametrize(
    ("old", "new"), [('"seq":2,', '"seq": 2, '), ("}\n", ',"note":"by me"}\n'), ('{"seq"', '{"by":"me","seq"')]
)
def test_a_line_may_be_written_otherwise(tmp_path: Path, old: str, new: str) -> None:
    folder = Folder("json", tmp_path)
    lines = folder.log.read_text("utf-8").splitlines(keepends=True)
    lines[2] = lines[2].replace(old, new)
    folder.log.write_text("".join(lines), "utf-8")
    assert folder.inputs() == ["question 1", "question 2", "question 3"]
    assert folder.inputs(from_run=2, to_run=2) == ["question 2"]


def test_what_is_not_json_is_refused(tmp_path: Path) -> None:
    folder = Folder("json", tmp_path)
    folder.edit(folder.log, '"question 2"', "NaN")
    with pytest.raises(CorruptDataError, match=r"Line 3 of '.*log\.jsonl' cannot be read: NaN is not JSON"):
        folder.inputs()


def test_a_commit_that_somebody_took_away_is_missed(folder: Folder) -> None:
    end = b"\n...\n" if folder.kind == "yaml" else b"\n"
    records = folder.log.read_bytes().split(end)
    missing = records.pop(2)
    folder.log.write_bytes(end.join(records))
    wanted = r"Line \d+ of '.*log\.\w+' cannot be read: it is commit [13], and commit 2 should be there"
    for options in ({}, {"last": 2}, {"from_run": 2, "to_run": 2}, {"from_run": 2}):
        with pytest.raises(CorruptDataError, match=wanted):
            folder.inputs(**options)
    assert folder.inputs(last=1) == ["question 3"]
    folder.log.write_bytes(end.join([*records[:2], missing, *records[2:]]))
    assert folder.inputs() == ["question 1", "question 2", "question 3"]


def test_a_damaged_document_is_named_with_its_line(tmp_path: Path) -> None:
    folder = Folder("yaml", tmp_path)
    text = folder.log.read_text("utf-8")
    folder.edit(folder.log, "input: question 2", "input: [question 2")
    with pytest.raises(CorruptDataError, match=r"Line \d+ of '.*log\.yaml' cannot be read") as caught:
        folder.inputs()
    named = int(str(caught.value).split()[1])
    line = text[: text.index("input: question 2")].count("\n") + 1
    assert abs(named - line) <= 2  # the parser notices it where the next key begins
    assert folder.inputs(last=1) == ["question 3"]


def test_a_damaged_last_commit_that_was_acknowledged_is_never_cut(folder: Folder) -> None:
    content = folder.log.read_bytes()
    folder.log.write_bytes(content[:-20])
    with pytest.raises(CorruptDataError, match="Line"):
        folder.inputs()
    # Only in YAML a commit without its end could be taken for a whole one, if it were given an end.
    refused = pytest.raises(CorruptDataError, match="Line") if folder.kind == "yaml" else nullcontext()
    with folder.open() as storage, refused:
        storage.update_state("s", {"k": 1})
    assert folder.log.read_bytes().startswith(content[:-20])
    with pytest.raises(CorruptDataError, match="Line"):
        folder.inputs()
    assert folder.inputs(to_run=2, last=2) == ["question 1", "question 2"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('"revision": 3', '"revision": "3"', r"Line 4 of '.*head\.json' .*'revision' must not be of the type str"),
        ('"revision": 3,', '"revision": 3', r"Line 5 of '.*head\.json' .*delimiter"),
        ('"hidden": false', '"hidden": 0', r"'hidden' must not be of the type int"),
        ('"session_id": "s"', '"session_id": "t"', "of session 't'"),
        ('"revision": 3', '"revision": 4', "at revision 4, and its log ends with commit 3"),
        ('"kind"', '"kint"', "'kind' is missing"),
    ],
)
def test_a_head_that_cannot_be_right_is_refused(tmp_path: Path, old: str, new: str, match: str) -> None:
    folder = Folder("json", tmp_path)
    folder.edit(folder.head, old, new)
    with folder.open() as storage, pytest.raises(CorruptDataError, match=match):
        storage.get_session("s")
    with folder.open() as storage, pytest.raises(CorruptDataError, match=match):
        storage.add_run("s")
    with folder.open() as storage:
        assert storage.sessions().items is not None


@pytest.mark.parametrize("left", [None, b"", b"\0" * 100, 0.5])
def test_a_head_that_is_missing_or_half_written_is_made_anew(folder: Folder, left: Any) -> None:
    with folder.open() as storage:
        before = storage.get_session("s")
    content = folder.head.read_bytes()
    if left is None:
        folder.head.unlink()
    else:
        folder.head.write_bytes(content[: len(content) // 2] if left == 0.5 else left)
    with folder.open() as storage:
        assert [head.session_id for head in storage.sessions().items] == ["s"]
        assert storage.get_session("s") == before
        storage.verify("s")


def test_a_head_that_is_missing_is_made_anew_for_one_user_too(folder: Folder) -> None:
    """Her log says the id that she knows."""
    with folder.open() as storage:
        storage.for_user("ada").add_run("hers", input="Hello")
        stored = next(one.session_id for one in storage.sessions(user_id=ANY_USER) if one.user_id == "ada")
        (head,) = [one for one in folder.path.rglob(folder.head.name) if stored in one.read_text()]
    head.unlink()
    with folder.open() as storage:
        assert [run.input for run in storage.for_user("ada").runs("hers")] == ["Hello"]
        storage.verify(stored, user_id=ANY_USER)


def test_a_head_that_lost_its_end_by_hand_is_kept(folder: Folder) -> None:
    text = folder.head.read_text("utf-8")
    written = text[: text.rindex("state")] + "typed by hand"
    folder.head.write_text(written, "utf-8")
    with folder.open() as storage:
        storage.verify("s")
    assert folder.head.with_name(f"{folder.head.name}.cut").read_text("utf-8") == written


def test_a_mark_before_the_first_line_is_passed_over(folder: Folder) -> None:
    for file in (folder.head, folder.log):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert folder.inputs() == ["question 1", "question 2", "question 3"]
    with folder.open() as storage:
        storage.add_run("s", input="question 4")
    assert folder.inputs()[-1] == "question 4"


def test_line_ends_of_windows(folder: Folder) -> None:
    """JSON Lines may have them (jsonlines.org); in YAML the end of a document is fixed, and an error says so."""
    for file in (folder.head, folder.log):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    if folder.kind == "yaml":
        with pytest.raises(CorruptDataError, match=r"Line 1 of '.*log\.yaml' .* without a carriage return"):
            folder.inputs()
        return
    with folder.open() as storage:
        storage.add_run("s", input="question 4")
    assert folder.inputs() == ["question 1", "question 2", "question 3", "question 4"]


# ---------------------------------------------------------------- the end of the log


@pytest.mark.parametrize("torn", [b'{"seq":4,"run":4,"top":4,"ti', b"---\nseq: 4\nrun: 4\n", b"\0" * 50, b"garbage"])
def test_a_torn_end_is_cut_off_at_the_next_append_and_reported(
    folder: Folder, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with folder.log.open("ab") as log:
        log.write(torn)
    assert folder.inputs() == ["question 1", "question 2", "question 3"]
    with caplog.at_level(logging.WARNING, "sessile"), folder.open() as storage:
        storage.add_run("s", input="question 4")
        storage.verify("s")
    assert folder.inputs() == ["question 1", "question 2", "question 3", "question 4"]
    cut = folder.log.with_name(f"{folder.log.name}.cut")
    if torn.strip(b"\0"):
        assert "not written to its end" in caplog.text
        assert cut.read_bytes() == torn


def test_a_last_line_break_that_an_editor_took_away_is_put_back(folder: Folder) -> None:
    folder.log.write_bytes(folder.log.read_bytes()[:-1])
    assert folder.inputs() == ["question 1", "question 2", "question 3"]
    with folder.open() as storage:
        storage.add_run("s", input="question 4")
        storage.verify("s")
    assert folder.inputs(last=2) == ["question 3", "question 4"]


def test_a_commit_whose_writer_died_before_the_head_is_taken_over(folder: Folder) -> None:
    head = folder.head.read_bytes()
    with folder.open() as storage:
        storage.add_run("s", input="question 4")
    folder.head.write_bytes(head)
    with folder.open() as storage:
        assert [head.run_count for head in storage.sessions().items] == [4]
        assert storage.verify("s") == 4
    assert folder.inputs()[-1] == "question 4"


# ---------------------------------------------------------------- the folder


def test_the_local_folder_can_be_removed(folder: Folder) -> None:
    shutil.rmtree(folder.path / ".sessile")
    with folder.open() as storage:
        assert [head.session_id for head in storage.sessions().items] == ["s"]
        storage.add_run("s", input="question 4")
    assert folder.inputs()[-1] == "question 4"


def test_sessions_that_were_copied_in_or_taken_away_are_noticed(folder: Folder, tmp_path: Path) -> None:
    other = Folder(folder.kind, tmp_path / "other")
    with other.open() as storage:
        storage.fork("s", session_id="copied")
    with folder.open() as storage:
        storage.add_run("gone")
    shutil.copytree(other.path / "sessions" / safe_name("copied"), folder.path / "sessions" / safe_name("copied"))
    shutil.rmtree(folder.path / "sessions" / safe_name("gone"))
    with folder.open() as storage:
        assert {head.session_id for head in storage.sessions().items} == {"s", "copied"}
        assert storage.count_sessions() == 2
        assert storage.get_session("gone") is None
        shutil.rmtree(folder.session)
        assert [head.session_id for head in storage.sessions().items] == ["copied"]


def test_a_session_that_is_made_while_it_is_looked_for(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look for its log and the look whether it is a head without a log."""
    open_file = Tree.open_file

    def made_afterwards(tree: Tree, path: Path, flags: int) -> int | None:
        file = open_file(tree, path, flags)
        if file is None and path.name == folder.log.name:
            monkeypatch.setattr(Tree, "open_file", open_file)
            with folder.open() as other:
                other.add_run("new", input="question 1")
        return file

    with folder.open() as storage:
        storage.setup()
        monkeypatch.setattr(Tree, "open_file", made_afterwards)
        assert [run.input for run in storage.runs("new")] == ["question 1"]


def test_a_folder_under_a_wrong_name_is_named(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(folder.session, folder.session.with_name("copy"))
    with folder.open() as storage:
        assert [head.session_id for head in storage.sessions().items] == ["s"]
    assert "whose folder is" in caplog.text


def test_a_damaged_session_is_named_once_in_a_list(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    with folder.open() as storage:
        storage.add_run("other")
        storage.sessions()
        folder.edit(folder.head, "kind", "kint")
        page = storage.sessions()
        assert [head.session_id for head in page.items] == ["other"]
        assert page.unreadable.keys() == {"s"}
    assert caplog.text.count("cannot be read") == 1


def test_a_folder_that_is_gone_has_not_no_sessions(folder: Folder) -> None:
    with folder.open() as storage:
        assert storage.count_sessions() == 1
        shutil.rmtree(folder.path / "sessions")
        for read in (storage.count_sessions, storage.sessions, partial(storage.get_session, "s")):
            with pytest.raises(StorageError, match="is gone"):
                read()


def test_what_cannot_be_removed_is_not_said_to_be(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with folder.open() as storage:
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", refuse)
            with pytest.raises(StorageError, match="Deleting a session failed") as caught:
                storage.delete("s")
        assert caught.value.written == "yes"
        assert storage.get_session("s") is None


def test_a_link_in_the_place_of_a_session_is_no_session(folder: Folder, tmp_path: Path) -> None:
    """Nobody reads or deletes what it leads to; who may delete everything removes the link."""
    shutil.move(folder.session, tmp_path / "elsewhere")
    folder.session.symlink_to(tmp_path / "elsewhere")
    with folder.open() as storage:
        with pytest.raises(CorruptDataError, match="is a link"):
            storage.delete("s")
        assert storage.delete("s", user_id=ANY_USER)
        assert storage.get_session("s") is None
    assert not folder.session.is_symlink()
    assert len(list((tmp_path / "elsewhere").iterdir())) >= 2


def test_what_a_crash_has_left_of_a_deleted_session_is_swept(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        """The process is gone."""

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    with folder.open() as storage:
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", crash)
            with pytest.raises(Crash):
                storage.delete("s")
        assert storage.get_session("s") is None
        assert list((folder.path / ".sessile" / "trash").iterdir())
        storage.sweep()
        assert not list((folder.path / ".sessile" / "trash").iterdir())


def test_a_sweep_empties_the_trash_of_files_and_links_too(folder: Folder, tmp_path: Path) -> None:
    """A file or link that stood in the place of a session is discarded there."""
    (tmp_path / "elsewhere").mkdir()
    trash = folder.path / ".sessile" / "trash"
    with folder.open() as storage:
        storage.add_run("s")
        (trash / "old" / "deep").mkdir(parents=True)
        (trash / ".DS_Store").touch()
        (trash / "link").symlink_to(tmp_path / "elsewhere")
        storage.sweep()
    assert list(trash.iterdir()) == []
    assert (tmp_path / "elsewhere").is_dir()


def test_what_cannot_be_swept_stops_no_sweep(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trash = folder.path / ".sessile" / "trash"
    remove = Tree.remove

    def refuse(tree: Tree, path: Path) -> None:
        if path.name == "kept":
            raise PermissionError(13, "Permission denied")
        remove(tree, path)

    with folder.open() as storage:
        for name in ("a", "kept", "z"):
            (trash / name).mkdir(parents=True)
        monkeypatch.setattr(Tree, "remove", refuse)
        storage.sweep()
    assert [path.name for path in trash.iterdir()] == ["kept"]
    assert "could not be removed" in caplog.text


def test_a_list_opens_no_heads(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with folder.open() as storage:
        for number in range(30):
            storage.add_run(f"s{number}", user_id="ada")
        storage.sessions()
        opened: list[Any] = []
        read = Tree.read
        monkeypatch.setattr(Tree, "read", lambda tree, path: opened.append(path) or read(tree, path))
        assert len(storage.sessions(user_id="ada", limit=20).items) == 20
        assert storage.count_sessions(user_id=ANY_USER) == 31
        assert not opened


def test_loading_the_last_runs_reads_as_little_from_a_long_log(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    read_bytes: list[int] = []
    read_at = module.disk.read_at

    def counted(file: int, size: int, offset: int) -> bytes:
        data = read_at(file, size, offset)
        read_bytes.append(len(data))
        return data

    with folder.open() as storage:
        for number in range(400):
            storage.add_run("s", input=number, format="test/1", messages=[{"text": "x" * 1000}])
        monkeypatch.setattr("sessile.drivers.files.disk.read_at", counted)
        assert [run.input for run in storage.runs("s", last=3)] == [397, 398, 399]
        assert sum(read_bytes) < 200_000 < folder.log.stat().st_size
        storage.add_run("s")
        assert sum(read_bytes) < 400_000
        read_bytes.clear()
        assert storage.get_run("s", 200).input == 196
        assert [run.number for run in storage.runs("s", from_run=90, to_run=95)] == [90, 91, 92, 93, 94, 95]


def test_another_format_and_newer_versions_are_refused(folder: Folder) -> None:
    other = "yaml" if folder.kind == "json" else "json"
    with KINDS[other](folder.path) as storage, pytest.raises(InvalidInputError, match=f"in '{folder.kind}' files"):
        storage.sessions()
    marker = folder.path / "sessile.json"
    marker.write_text('{"sessile": 2, "format": "json"}')
    with folder.open() as storage, pytest.raises(NewerVersionError):
        storage.sessions()
    marker.write_text("[]")
    with folder.open() as storage, pytest.raises(CorruptDataError, match="does not say"):
        storage.sessions()


@pytest.mark.parametrize("path", ["", "a\0b", 7])
def test_paths(path: Any) -> None:
    with pytest.raises(InvalidInputError):
        JsonStorage(path)


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with sessile.open("json:///a%20b") as storage:
        storage.add_run("s")
    assert (tmp_path / "a b" / "sessile.json").exists()
    with sessile.open(f"json:///{tmp_path}/a%20b") as storage:
        assert storage.get_session("s") is not None
    for url in ("json://host/a", "yaml:///a?b=c", "json:///a#b"):
        with pytest.raises(InvalidInputError):
            sessile.open(url)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with JsonStorage(tmp_path / "file") as storage, pytest.raises(StorageError):
        storage.add_run("s")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(folder: Folder) -> None:
    folder.session.chmod(0o500)
    try:
        with folder.open() as storage, pytest.raises(ReadOnlyError):
            storage.add_run("s")
    finally:
        folder.session.chmod(0o700)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_whoever_may_only_read_can_read_sessions(folder: Folder) -> None:
    files = [folder.path / ".sessile", *(folder.path / ".sessile").iterdir()]
    for file in files:
        file.chmod(0o500)
    try:
        assert folder.inputs() == ["question 1", "question 2", "question 3"]
        with folder.open() as storage, pytest.raises(ReadOnlyError, match="index"):
            storage.sessions()
    finally:
        for file in files:
            file.chmod(0o700)


def test_a_damaged_index_says_what_to_do(folder: Folder) -> None:
    for file in (folder.path / ".sessile").glob("index.db*"):
        file.write_bytes(b"garbage " * 1000)
    with folder.open() as storage, pytest.raises(CorruptDataError, match="rebuilt"):
        storage.sessions()
    shutil.rmtree(folder.path / ".sessile")
    with folder.open() as storage:
        assert len(storage.sessions().items) == 1


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "yaml12", None)
    monkeypatch.delitem(sys.modules, "sessile.drivers.files.yaml_format", raising=False)
    yield
    sys.modules.pop("sessile.drivers.files.yaml_format", None)


@pytest.mark.usefixtures("forbidden")
def test_yaml_needs_its_extra(tmp_path: Path) -> None:
    with pytest.raises(
        sessile.storage.open_storage.__globals__["InvalidInputError"].__mro__[1], match=r"sessile\[yaml\]"
    ):
        YamlStorage(tmp_path)
    JsonStorage(tmp_path)
