"""Steps that say when they are really executed."""

from __future__ import annotations

from typing import Any


class Calls(list[str]):
    """What was really executed, and steps that say so."""

    def plain(self, value: Any) -> Any:
        self.append(f"plain {value}")
        return value

    async def later(self, value: Any) -> Any:
        self.append(f"later {value}")
        return value

    def broken(self, value: Any) -> Any:
        self.append(f"broken {value}")
        raise ValueError(f"no {value}")
