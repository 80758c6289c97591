"""JSON and YAML files do what the contract says."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.campaigns import SampledConformance

from sessile import JsonStorage, YamlStorage
from sessile.storage import Storage


class FilesConformance(SampledConformance):
    kind: type[Storage]
    scheme: str
    one_of_async = 4

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.paths: dict[Storage, Path] = {}

    def make_storage(self) -> Storage:
        path = self.folder / f"sessions {len(self.paths)}"
        storage = self.kind(path)
        self.paths[storage] = path
        return storage

    def location(self, storage: Storage) -> str:
        return f"{self.scheme}:///{quote(str(self.paths[storage]))}"

    def break_database(self, storage: Storage) -> bool:
        """Somebody takes the sessions away, or the disk with them is not there any more."""
        shutil.rmtree(self.paths[storage])
        return True


class TestJson(FilesConformance):
    kind = JsonStorage
    scheme = "json"


class TestYaml(FilesConformance):
    kind = YamlStorage
    scheme = "yaml"
