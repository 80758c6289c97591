"""One test for each way to an SQL server."""

from __future__ import annotations

import pytest

from .helpers import SCHEMES, Database


@pytest.fixture(params=SCHEMES)
def database(request: pytest.FixtureRequest) -> Database:
    return Database(request.param, request)
