"""The errors of Redis and of redis-py as ours, by their code (github.com/redis/redis, src/server.c and script.c)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from redis import exceptions as theirs

from ... import errors as ours
from ...storage.driver import Deadline
from ...storage.withholding import reason_of

TEMPORARY: Mapping[str, str] = {
    "BUSY": "Another script keeps the server busy.",
    "CLUSTERDOWN": "A part of the cluster is down.",
    "LOADING": "The server is reading its data from disk.",
    "MASTERDOWN": "The replica has lost its primary.",
    "NOREPLICAS": "Too few replicas are connected (min-replicas-to-write).",
    "TRYAGAIN": "The cluster is moving these keys to another node.",
}
"""Refusals before anything was done, that pass."""

LASTING: Mapping[str, str] = {
    "CROSSSLOT": "This is a node of a cluster: use ?cluster=true.",
    "MISCONF": "The server cannot write to its disk: look at its log.",
    "MOVED": "This is a node of a cluster: use ?cluster=true.",
    "NOAUTH": "Name a user and a password in the URL.",
    "NOPERM": "Let the user run the commands that docs/redis.md lists (ACL SETUSER).",
    "WRONGPASS": "Check the user and the password.",
}
"""Refusals that pass only when somebody does something. Those of a command inside a script come before it has written
anything, but for NOPERM."""

FULL_HINT = "Raise maxmemory, or free some memory; to delete a session needs a little, too, for a last commit."

_CODE = re.compile(r"^([A-Z]{3,})\b")
_CODE_IN_SCRIPT = re.compile(r": -([A-Z]{3,})\b")  # Redis 6 puts the script's story before the code


class LateError(Exception):
    """The deadline of an exchange has passed."""


def code_of(error: Exception) -> str:
    """The code that the server's answer begins with; empty if it is no answer of the server's."""
    code = getattr(error, "status_code", None)
    if code and code != "ERR":
        return code
    found = _CODE.search(str(error)) or _CODE_IN_SCRIPT.search(str(error))
    return found[1] if found and isinstance(error, theirs.ResponseError) else ""


def is_lost(error: Exception) -> bool:
    """Whether the connection is gone, or has led to a server that only follows another one."""
    if isinstance(error, (theirs.MaxConnectionsError, theirs.AuthenticationError)):
        return False
    return isinstance(error, (theirs.ConnectionError, theirs.TimeoutError)) or code_of(error) == "READONLY"


def translate(error: Exception, what: str, where: str, *, written: ours.Written = "no") -> ours.StorageError:
    """An error of an exchange; `written` is what is known of a write that was under way."""
    code = code_of(error)
    text = f"{what} failed on {where}: {_reason(error)}."
    if code in TEMPORARY:
        return ours.StorageUnavailableError(text, hint=f"{TEMPORARY[code]} Try again.")
    if code == "READONLY":
        return ours.ReadOnlyError(text, hint="The server only follows another one; name the primary.")
    if code == "OOM":
        return ours.StorageFullError(text, hint=FULL_HINT)
    if code in LASTING:
        return ours.StorageError(text, hint=LASTING[code], written=written if code == "NOPERM" else "no")
    if "equal or smaller than the target stream" in str(error):  # XADD, which is the first that a commit does
        return ours.CorruptDataError(text, hint="The log has entries that no head knows of: delete the session.")
    if code == "LOGLOST":
        return ours.CorruptDataError(text, hint="Was the log evicted? maxmemory-policy must be noeviction.")
    if code == "WRONGTYPE":
        return ours.CorruptDataError(
            text, hint="Something else uses these keys: choose another prefix.", written=written
        )
    if type(error) is theirs.ClusterError:  # so many redirections, and requests to try again: nothing was done
        return ours.StorageUnavailableError(text, hint=f"{TEMPORARY['TRYAGAIN']} Try again.")
    if isinstance(error, theirs.AuthenticationError):
        return ours.StorageError(text, hint="Check the user and the password.")
    if isinstance(error, theirs.MaxConnectionsError):
        return ours.StorageUnavailableError(text, hint="All connections are in use: try again, or allow more.")
    if isinstance(error, (theirs.ConnectionError, theirs.TimeoutError, theirs.RedisClusterException)):
        return ours.StorageUnavailableError(text, written=written)
    return ours.StorageError(text, written=written)


def refused(error: Exception, where: str) -> ours.StorageError:
    """The error of a connection that could not be made."""
    if isinstance(error, theirs.AuthenticationError) or code_of(error):
        return translate(error, "Connecting", where)
    return ours.StorageUnavailableError(
        f"Connecting to {where} failed: {_reason(error)}.", hint="Check that the server is up and reachable."
    )


def _reason(error: Exception) -> str:
    """What an error says, on one line, without the clients and their settings that redis-py adds for Sentinels."""
    return reason_of(str(error).partition(" : <")[0]) or type(error).__name__


def late(what: str, where: str, deadline: Deadline, written: ours.Written) -> ours.DeadlineError:
    """The error of an exchange that did not end in time."""
    return ours.DeadlineError(
        f"{what} on {where} did not end within {deadline.timeout:g} s.", written=written, retryable=written == "no"
    )
