"""What the tests of files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.files.folders import Folder


@pytest.fixture(params=["json", "yaml"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(request.param, tmp_path / "folder")
