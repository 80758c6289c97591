"""The floor of files: one log in JSON Lines by hand. Standard library only, so that it runs beside every peer."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .payload import Exchange, exchange, messages, usage

TAIL = 64 * 1024


class FileFloor:
    """A folder with one log for each session; `line` is the size that lines are brought to.

    With `heads` it also replaces a small file in one step, as every store must that keeps a head for people to read.
    """

    def __init__(self, folder: Path, line: int = 0, *, heads: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.line = line
        self.heads = heads

    def encode(self, turn: Exchange) -> bytes:
        """The run as a line."""
        run: dict[str, Any] = {
            "number": turn.number,
            "input": turn.user,
            "output": turn.answer,
            "messages": messages(turn),
            "usage": usage(turn),
        }
        text = json.dumps(run, separators=(",", ":"))
        return f'{text[:-1]},"padding":"{"." * max(0, self.line - len(text) - 14)}"}}\n'.encode()

    def fill(self, session_id: str, runs: int) -> None:
        """Make a session of that many runs."""
        (self.folder / session_id).write_bytes(b"".join(self.encode(exchange(number)) for number in range(1, runs + 1)))

    def turn(self, session_id: str, turn: Exchange) -> None:
        """Read the last 3 runs, append one."""
        file = os.open(self.folder / session_id, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(file).st_size
            lines = os.pread(file, TAIL, max(0, size - TAIL)).splitlines()
            runs = [json.loads(line) for line in lines[-3:]]
            assert len(runs) == 3
            os.write(file, self.encode(turn))
            os.fdatasync(file)
        finally:
            os.close(file)
        if self.heads:
            new = self.folder / f"{session_id}.new"
            new.write_bytes(b"." * 600)
            new.replace(self.folder / f"{session_id}.head")

    def close(self) -> None:
        """Nothing is open."""
