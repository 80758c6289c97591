"""Record a workload, make every image that a power cut could leave, and open each."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from sessile import Storage
from sessile.errors import SessileError
from sessile.testing import Figures

from .images import Image, cuts
from .recording import Op, record
from .workload import opened

URLS = {
    "json": "json:///{}/data",
    "yaml": "yaml:///{}/data",
    "sqlite": "sqlite:///{}/sessions.db",
    "sealed": "sealed+json:///{}/data",
}
"""Where a storage keeps its data in a folder."""


def recorded(url: str, folder: Path) -> list[Op]:
    """The changes that the workload makes below a folder."""
    root = folder / "root"
    root.mkdir()
    return record(["-m", "tests.power.workload", url.format(root)], root, folder / "trace")


def run_power(url: str, folder: Path, seed: int, share: float, *, until_found: bool = False) -> Figures:
    """Open a share of the images of a recording, all or until one is wrong.

    The figure of rounds is that of the images.
    """
    began, figures, chance = time.monotonic(), Figures(), random.Random(seed)
    ops = recorded(url, folder)
    figures.acknowledged = sum(op.kind == "said" and b'"run"' in op.data for op in ops)
    for image, said in cuts(ops, chance, share):
        figures.rounds += 1
        with tempfile.TemporaryDirectory(dir=folder) as place:
            write(image, Path(place))
            problem = examined(url.format(place), [json.loads(line) for line in said], figures)
            if problem is not None:
                figures.problems.append(f"image {figures.rounds} after {said[-1:]}: {problem}")
                kept = folder / f"image-{figures.rounds}"
                shutil.copytree(place, kept)
                if until_found:
                    break
    figures.seconds = time.monotonic() - began
    return figures


def write(image: Image, place: Path) -> None:
    for path, data in image.items():
        if data is None:
            (place / path).mkdir(exist_ok=True)
        else:
            (place / path).write_bytes(data)


def examined(url: str, said: list[dict[str, Any]], figures: Figures) -> str | None:
    """What is wrong with an image, if anything is."""
    deleting = {line["deleting"] for line in said if "deleting" in line}
    deleted = {line["deleted"] for line in said if "deleted" in line}
    expected = {line["session"] for line in said if "session" in line} - deleting
    try:
        with opened(url) as storage:
            listed = {head.session_id for head in storage.sessions(limit=100).items}
            if expected - listed or deleted & listed:
                return f"the list has {sorted(listed)}, acknowledged are {sorted(expected)} without {sorted(deleted)}"
            for session_id in sorted(listed | expected):
                storage.verify(session_id)
                found = [run.run_id for run in storage.runs(session_id)]
                wanted = {line["run"] for line in said if line.get("session") == session_id and "run" in line}
                if session_id == "c":
                    wanted = {run_id for run_id in wanted if run_id.startswith("c")}  # copies have ids of their own
                figures.lost += len(wanted - set(found))
                if wanted - set(found) or len(set(found)) != len(found):
                    return f"session {session_id} has the runs {found}, acknowledged are {sorted(wanted)}"
                problem = _wrong_with_files(storage, session_id, said) or _still_said(storage, session_id, said)
                if problem is not None:
                    return problem
                storage.add_run(session_id, input="after the power cut")
                storage.verify(session_id)
            storage.sweep()
            storage.add_run("new", input="after the power cut")
    except (SessileError, OSError) as error:
        return repr(error)
    return None


def _wrong_with_files(storage: Storage, session_id: str, said: list[dict[str, Any]]) -> str | None:
    """What is wrong with the session's files that were acknowledged, if anything is."""
    for line in said:
        if "file" in line and line["session"] == session_id:
            content = storage.files(session_id).read(line["file"], line["version"])
            if content != line["text"].encode():
                return f"version {line['version']} of {line['file']} has {content[:40]!r}"
    return None


def _still_said(storage: Storage, session_id: str, said: list[dict[str, Any]]) -> str | None:
    """What is there still of a run whose erasing was acknowledged, if anything is."""
    erased = [line["erased"] for line in said if "erased" in line and line["session"] == session_id]
    for run in storage.runs(session_id):
        if run.run_id in erased and any(message.data.get("text") for message in run.messages):
            return f"run {run.run_id} was erased, and has {run.messages}"
    return None
