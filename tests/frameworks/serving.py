"""Programs in other frameworks' environments, each in a process that is forked from one which has the framework."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any


class Server:
    """The process that programs are forked from; see `suites/serving.py`.

    Args:
        python: the environment's Python.
        folder: where the programs are.
        module: the one of them that imports what all of them need.
        environment: the process's environment variables.
    """

    def __init__(self, python: Path, folder: Path, module: str, environment: dict[str, str]) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="forks-")
        self.path = f"{self._place.name}/socket"
        command = [str(python), str(folder / "serving.py"), self.path, module]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", f"{module} cannot be imported"

    def close(self) -> None:
        """End it, as soon as it has noted what was measured."""
        self._process.communicate()
        self._place.cleanup()


class Program:
    """A running program, much as `subprocess.Popen` has it.

    Attributes:
        output: what it prints, to be read while it runs.
    """

    def __init__(self, server: Server, arguments: list[str], environment: dict[str, str], folder: Path | None) -> None:
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in `ended`)
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(server.path)
        ours, theirs = os.pipe()
        self.output = open(ours, encoding="utf-8")  # noqa: SIM115 (closed in `ended`)
        where = str(Path.cwd() if folder is None else folder)
        request: dict[str, Any] = {"arguments": arguments, "environment": environment, "folder": where}
        text = f"{json.dumps(request)}\n".encode()
        sent = socket.send_fds(self._connection, [text], [theirs, self._errors.fileno()])
        self._connection.sendall(text[sent:])
        os.close(theirs)
        self._answers = self._connection.makefile(encoding="ascii")
        self._pid = int(self._answers.readline())

    def ended(self) -> tuple[int, str, str]:
        """Wait for its end: its exit code (-9 if it was killed), what was not read of its output, and its errors."""
        output = self.output.read()
        code = int(self._answers.readline())
        self._errors.seek(0)
        errors = self._errors.read()
        for one in (self.output, self._answers, self._connection, self._errors):
            one.close()
        return code, output, errors

    def kill(self) -> None:
        """Kill it, as it is (SIGKILL)."""
        os.kill(self._pid, signal.SIGKILL)
