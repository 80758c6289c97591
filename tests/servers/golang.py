"""Servers for the tests that are built from Go modules, from the few lines beside their `go.mod`.

They are built when they are first needed, or before all tests by `python -m tests.servers build`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from .building import alone, kept
from .process import ServerFailedError, ServerMissingError, find_program

GET_GO = (
    "Go is not on this machine, and {name} is built with it. Debian, Ubuntu: apt-get install golang; macOS: "
    "brew install go. Or name a server in {variable}."
)


def built(source: Path, variable: str) -> Path:
    """The program of a Go module, built unless this was done before with the same sources.

    `variable` is the environment variable that names a server to use instead.
    """
    content = b"".join((source / name).read_bytes() for name in ("main.go", "go.mod", "go.sum"))
    program = kept() / f"{source.name}-{hashlib.sha256(content).hexdigest()[:16]}"
    if not program.exists():
        with alone(program.name):
            if not program.exists():
                _build(source, program, variable)
    return program


def _build(source: Path, program: Path, variable: str) -> None:
    go = find_program(["go"], ["/usr/local/go/bin", *Path("/usr/lib").glob("go-*/bin")])
    if go is None:
        raise ServerMissingError(GET_GO.format(name=source.name, variable=variable))
    unfinished = program.with_name(f"{program.name}.{os.getpid()}")
    command = [str(go), "build", "-mod=readonly", "-o", str(unfinished), "."]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailedError(f"{source.name} could not be built:\n{done.stderr[-3000:]}")
    unfinished.replace(program)
