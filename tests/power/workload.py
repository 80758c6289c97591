"""A short piece of work with a storage, whose system calls are recorded: `python -m tests.power.workload URL`.

It says on its output what was acknowledged, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from sessile import Storage
from sessile import open as open_storage
from sessile.encryption import EncryptedStorage

SEALED = "sealed+"
"""Before the URL of a storage that is encrypted."""


def opened(url: str) -> Storage:
    inner = open_storage(url.removeprefix(SEALED))
    return EncryptedStorage(inner, keys={"test": b"k" * 32}) if url.startswith(SEALED) else inner


def say(**what: Any) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())


def main() -> None:
    with opened(sys.argv[1]) as storage:

        def run(session_id: str, number: int, size: int = 40) -> None:
            run_id = f"{session_id}-{number}"
            message = {"text": run_id, "padding": "xy " * size}
            storage.add_run(
                session_id, run_id=run_id, input=number, format="test/1", messages=[message], state={run_id: number}
            )
            say(session=session_id, run=run_id)

        run("a", 1)
        run("a", 2)
        storage.update_state("a", {"k": "two\nlines"})
        say(session="a", state="two\nlines")
        run("b", 1)
        run("a", 3, size=3000)
        storage.fork("a", session_id="c")
        say(session="c", run="a-1")
        say(session="c", run="a-3")
        run("c", 4)
        say(deleting="b")
        storage.delete("b")
        say(deleted="b")
        run("a", 4)
        assert storage.get_session("a", last_runs=2) is not None  # out of what the process remembers

        def write(text: str) -> None:
            written = storage.files("a").write("notes.md", text)
            say(session="a", file=written.name, version=written.version, text=text)

        write("one\n" * 800)
        storage.erase_run("a", 2)  # which puts another log in the place of the one that is remembered
        say(session="a", erased="a-2")
        write("two\n" * 800)


if __name__ == "__main__":
    main()
