"""agno 3.x: `JsonDb`, called as `Agent.run` calls it. One file has all sessions, and another all runs."""

from __future__ import annotations

from typing import Any

from agno.db.json import JsonDb

from .agno import Default
from .harness import main


class Json(Default):
    note = "each commit reads and writes the files of all sessions, without lock and fsync"
    largest = 1000

    def open(self) -> Any:
        return JsonDb(db_path=str(self.path))

    def close(self) -> None:
        """Nothing is open."""


if __name__ == "__main__":
    main(["agno"], [Json])
