"""One server of the tests: a process with its own folder, port and log, which never outlives the tests."""

from __future__ import annotations

import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, ClassVar, Self

START_TIMEOUT = 120.0
"""Seconds until a server that has not become ready is given up."""

STOP_TIMEOUT = 60.0
"""Seconds until a server that was asked to stop is killed."""

# Waits for the end of its input, which is the end of the tests however they end, SIGKILL included. Until then each
# line of its input is the process id of the server, empty while there is none.
GUARD = 'while read -r pid; do last=$pid; done; [ -z "$last" ] || kill -9 "$last"; rm -rf "$1"'


class ServerMissingError(Exception):
    """The server's programs are not on this machine; the text says how to get them."""


class ServerFailedError(Exception):
    """The server did not start; the text has the end of its log."""


class Server(ABC):
    """A server that listens on a port of its own on 127.0.0.1, with all its files below one temporary folder.

    It is made without starting; `start` prepares the data at first use. `stop`, `kill` and `restart` keep the data,
    `close` removes everything. A context manager starts and closes it.
    """

    name: ClassVar[str]
    accounts: ClassVar[tuple[str, ...]] = ()
    """Whom root starts the server as, if that user exists; else `nobody`."""
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    """Asks the server to stop without waiting for its clients."""

    def __init__(self) -> None:
        self.port = private_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"sessile-{self.name}-"))
        self.log = self.folder / "log"
        self._account = account(*self.accounts)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        self._prepared = False
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)

    @property
    @abstractmethod
    def url(self) -> str:
        """Where its database for tests is, with a user who may do everything."""

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder."""

    @abstractmethod
    def command(self) -> list[str]:
        """What runs the server in the foreground."""

    @abstractmethod
    def ping(self) -> str | None:
        """None if the server answers, else what it says."""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; it must run."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it, and return when it answers."""
        assert not self.running, f"{self.name} runs already"
        if not self._prepared:
            self.prepare()
            self._prepared = True
        with self.log.open("ab") as log:
            # In a session of its own, so that Ctrl-C reaches the tests, which stop it in their own order.
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **self._as()
            )
        self._tell_guard(str(self._process.pid))
        self._wait_until_ready(self._process)

    def revive(self) -> None:
        """Start it again if it has ended by itself; the end of its log is a warning of the test that finds it so.

        What it was doing then has failed; the tests after that are not to fail with it.
        """
        if self.running:
            return
        code = None if self._process is None else self._process.returncode
        lines = self.log.read_text(errors="replace").splitlines()[-30:]
        warnings.warn(
            "\n".join([f"{self.name} has ended by itself, with code {code}. Its log ends with:", *lines]), stacklevel=2
        )
        self._over()
        self.start()

    def stop(self) -> None:
        """Stop it in an orderly way."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
        self._over()

    def kill(self) -> None:
        """End the server and all its processes at once, as a crash of it does."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that it neither starts further processes nor says good-bye
        family = children(self._process.pid) if self.running else []
        for member in family:
            os.kill(member, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        while any(map(is_running, family)):
            time.sleep(0.001)
        self._over()

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def move(self) -> None:
        """Stop it, and start it on another port: for its clients, a failover."""
        self.stop()
        self.port = private_port()
        self.start()

    def close(self) -> None:
        """Stop it, and remove its data."""
        try:
            self.stop()
        finally:
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard.wait()

    def run(self, *command: str) -> None:
        """Run a program of the server to its end, as the user who owns the data."""
        with self.log.open("ab") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, **self._as())
        if done.returncode:
            raise self._failed(f"{command[0]} ended with code {done.returncode}")

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_TIMEOUT
        while (answer := self.ping()) is not None:
            if process.poll() is not None:
                self._over()
                raise self._failed(f"it ended with code {process.returncode}")
            if time.monotonic() > until:
                self.kill()
                raise self._failed(f"not ready after {START_TIMEOUT:g} s: {answer}")
            time.sleep(0.02)

    def _failed(self, what: str) -> ServerFailedError:
        lines = self.log.read_text(errors="replace").splitlines()[-30:]
        return ServerFailedError("\n".join([f"{self.name} did not start: {what}. Its log ends with:", *lines]))

    def _over(self) -> None:
        self._process = None
        self._tell_guard("")

    def _tell_guard(self, line: str) -> None:
        assert self._guard.stdin is not None
        self._guard.stdin.write(f"{line}\n".encode())
        self._guard.stdin.flush()

    def _as(self) -> dict[str, object]:
        """How a process of the server is started: as its user, in its folder, without the environment of clients."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "MYSQL", "MARIADB"))}
        options: dict[str, object] = {"cwd": self.folder, "env": kept | {"LC_ALL": "C"}}
        if self._account is not None:
            options |= {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        return options

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


# ---------------------------------------------------------------- the machine


_ports: list[IO[bytes]] = []  # the locks of this process's ports: they end with it


def private_port() -> int:
    """A port of 127.0.0.1 that nobody uses, and that no other process that runs tests is given while this one lives.

    Below the range that systems hand out to clients: else a client that calls a server which is down may be given the
    server's own port, and the server cannot start again. A server that is stopped does not hold its port, and one that
    starts does not hold it yet: a lock on a file does.
    """
    folder = Path(tempfile.gettempdir()) / f"sessile-ports-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        lock = (folder / str(port)).open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as trial:
                trial.bind(("127.0.0.1", port))
        except OSError:
            lock.close()
            continue
        _ports.append(lock)
        return port


def account(*names: str) -> pwd.struct_passwd | None:
    """The first of these users that exists, else `nobody`; None (this user) unless we are root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in (*names, "nobody") if name in known)


def find_program(names: Sequence[str], folders: Sequence[Path | str] = ()) -> Path | None:
    """The first of these programs in PATH or one of the folders (`/usr/sbin` is not in everybody's PATH)."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", *map(str, folders)])
    found = (shutil.which(name, path=path) for name in names)
    return next((Path(program) for program in found if program), None)


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if listed.exists():
        return [int(child) for child in listed.read_text().split()]
    table = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = (line.split() for line in table.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it is not a dead one that its parent has yet to notice."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, PermissionError):
        return False
    except FileNotFoundError:
        return not Path("/proc/self").exists()
    return state not in "ZX"
