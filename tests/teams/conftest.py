from __future__ import annotations

from tests.agents.conftest import anyio_backend, model, path, server, storage

__all__ = ["anyio_backend", "model", "path", "server", "storage"]
