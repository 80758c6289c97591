"""Runs programs of this folder, each in a process of its own: `python serving.py SOCKET MODULE`.

The module is imported once, and the framework with it, which takes seconds; each program is a fork of the process that
has done that. A request is a line of JSON, with the descriptors of the program's output and errors; the answers are a
line with its process's id, and one with its exit code. All ends when standard input does.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
from typing import Any


def serve(path: str) -> dict[str, Any] | None:
    """Wait for requests; returns one in each process that is to be its program, and None at the end."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    rung, bell = os.pipe()
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([listener, rung, sys.stdin], [], [])
        if sys.stdin in ready:
            return None
        if rung in ready:
            os.read(rung, 4096)
            for pid in [*running]:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    with running.pop(pid) as connection:
                        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        if listener in ready:
            connection, _ = listener.accept()
            request, output, errors = received(connection)
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for one in (listener, connection, *running.values()):
                    one.close()
                stand_in(rung, bell, output, errors)
                return request
            connection.sendall(b"%d\n" % pid)
            running[pid] = connection
            os.close(output)
            os.close(errors)


def received(connection: socket.socket) -> tuple[dict[str, Any], int, int]:
    """A request, and where output and errors go."""
    text, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 20)
    return json.loads(text), descriptors[0], descriptors[1]


def stand_in(rung: int, bell: int, output: int, errors: int) -> None:
    """Give a program its own input, output and errors."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for place, descriptor in enumerate((nothing, output, errors)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.close(rung)
    os.close(bell)


if __name__ == "__main__":
    importlib.import_module(sys.argv[2])
    program = serve(sys.argv[1])
    if program is not None:
        random.seed()  # as a process has it that is not forked
        os.environ.clear()
        os.environ.update(program["environment"])
        os.chdir(program["folder"])
        sys.argv = program["arguments"]
        runpy.run_path(sys.argv[0], run_name="__main__")
