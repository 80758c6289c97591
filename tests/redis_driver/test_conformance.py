"""`RedisStorage` does what the contract says, against real servers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.campaigns import SampledConformance
from tests.servers.redis import RedisCluster, redis_client

import sessile
from sessile.storage import Storage
from sessile.testing import Scale


class OnRedis(SampledConformance):
    """Each storage has keys of its own, told apart by their prefix, and a user with the documented rights."""

    base: str
    nodes: list[Any]
    more_rights: tuple[str, ...] = ()

    @pytest.fixture(autouse=True)
    def _storages(self) -> Iterator[None]:
        self.urls: dict[Storage, str] = {}
        yield
        for node in self.nodes:
            for url in self.urls.values():
                node.execute_command("ACL", "DELUSER", self.user_of(url))

    def user_of(self, url: str) -> str:
        return url.rpartition("=")[2].rstrip(":")

    def make_storage(self) -> Storage:
        url = f"{self.base}{len(self.urls)}:"
        for node in self.nodes:
            node.execute_command("ACL", "SETUSER", *rights(self.user_of(url)), *self.more_rights)
        url = url.replace("://", f"://{quote(self.user_of(url))}:password@", 1)
        storage = sessile.open(url)
        storage.setup()  # then it has asked the server whether it is durable
        self.urls[storage] = url
        return storage

    def location(self, storage: Storage) -> str:
        return self.urls[storage]

    def break_database(self, storage: Storage) -> bool:
        """Somebody takes all rights away."""
        for node in self.nodes:
            node.execute_command("ACL", "SETUSER", self.user_of(self.urls[storage]), "-@all")
        return True


def rights(prefix: str) -> list[str]:
    """The rights that docs/redis.md asks for, for a user of this prefix."""
    page = Path(__file__).parents[2] / "docs" / "redis.md"
    (line,) = (line for line in page.read_text().splitlines() if line.startswith("ACL SETUSER sessile "))
    return line.replace("sessile", prefix).split()[2:]


class TestRedis(OnRedis):
    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.base, self.nodes = redis_url, [redis_client(redis_url)]


class TestValkey(OnRedis):
    """The same in its essentials: the long checks are shorter."""

    one_of_async = 4

    @pytest.fixture(autouse=True)
    def _server(self, valkey_url: str) -> None:
        self.base, self.nodes = valkey_url, [redis_client(valkey_url)]

    def scale(self) -> Scale:
        return shorter(super().scale())


class TestCluster(OnRedis):
    """Lists may lag here. The long checks are shorter; those that do not care where keys lie are left out of CI."""

    if "SESSILE_TORTURE" not in os.environ:
        test_branches = test_model = test_kill = None

    more_rights = ("+cluster|slots", "+cluster|shards", "+command", "+readonly", "+asking")

    @pytest.fixture(autouse=True)
    def _server(self, redis_cluster: RedisCluster, redis_cluster_url: str) -> None:
        self.base, self.nodes = redis_cluster_url, [node.connect() for node in redis_cluster.nodes]

    def scale(self) -> Scale:
        return shorter(super().scale())


def shorter(scale: Scale) -> Scale:
    return replace(scale, examples=scale.examples // 2, appends=scale.appends // 2, kills=scale.kills // 2)
