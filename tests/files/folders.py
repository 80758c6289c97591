"""A folder with sessions, as JSON or as YAML, as tests look into it and change it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sessile import JsonStorage, Storage, YamlStorage
from sessile.drivers.files.names import safe_name

KINDS: dict[str, type[Storage]] = {"json": JsonStorage, "yaml": YamlStorage}
HEADS = {"json": "head.json", "yaml": "head.yaml"}
LOGS = {"json": "log.jsonl", "yaml": "log.yaml"}


class Folder:
    """A folder with the session `s` of three runs."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind, self.path = kind, path
        with self.open() as storage:
            for number in (1, 2, 3):
                storage.add_run(
                    "s", input=f"question {number}", format="test/1", messages=[{"text": f"one\ntwo {number}"}]
                )
        self.session = path / "sessions" / safe_name("s")
        self.head, self.log = self.session / HEADS[kind], self.session / LOGS[kind]

    def open(self) -> Storage:
        return KINDS[self.kind](self.path)

    def edit(self, file: Path, old: str, new: str) -> None:
        text = file.read_text("utf-8")
        assert old in text
        file.write_text(text.replace(old, new), "utf-8")

    def inputs(self, **options: Any) -> list[Any]:
        with self.open() as storage:
            return [run.input for run in storage.runs("s", **options)]
