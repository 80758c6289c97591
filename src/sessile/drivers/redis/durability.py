"""What a server keeps on disk, as it says itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Durability:
    """What becomes of acknowledged commits when servers end.

    Attributes:
        log: whether every server keeps an append-only file, so that they survive the end of its process.
        warnings: what may be lost, and what to do about it; one sentence each, none if all is well.
    """

    log: bool
    warnings: tuple[str, ...]


def durability(servers: Sequence[Mapping[str, str]], fsyncs: Collection[str] = ()) -> Durability:
    """Judge what servers keep.

    Args:
        servers: what INFO says of each server that takes writes, by its names; empty if it may not be asked.
        fsyncs: the setting `appendfsync` of each; none if it is not known.

    Sources: redis.io/docs/latest/operate/oss_and_stack/management/persistence, and
    redis.io/docs/latest/develop/reference/eviction.
    """
    warnings: list[str] = []
    for server in servers or [{}]:
        if "aof_enabled" not in server:
            warnings.append("The server does not say what it keeps on disk: ask who runs it.")
        elif server["aof_enabled"] == "0":
            warnings.append(
                "The server keeps no append-only file: all commits since its last snapshot, if it makes any, are lost "
                "when it ends. Set appendonly yes."
            )
        else:
            warnings += [_of_fsync(fsync) for fsync in fsyncs if fsync != "always"]
        policy = server.get("maxmemory_policy", "noeviction")
        if policy != "noeviction" and server.get("maxmemory", "0") != "0":
            warnings.append(f"maxmemory-policy is {policy}: the server may drop sessions. Set it to noeviction.")
    kept = bool(servers) and all(server.get("aof_enabled") == "1" for server in servers)
    return Durability(kept, tuple(dict.fromkeys(warnings)))


def _of_fsync(fsync: str) -> str:
    since = "the last second" if fsync == "everysec" else "the last half minute or so"
    return f"appendfsync is {fsync}: a power cut may take the commits of {since}. Set it to always."
