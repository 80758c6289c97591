"""What the URLs of databases have in common. No message repeats a URL, or a part that may be one of a password."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from ..errors import InvalidInputError

ENCODE_HINT = (
    "Write special characters of the user and the password percent-encoded: / is %2F, @ is %40, : is %3A, # is %23, "
    "? is %3F, [ is %5B, ] is %5D, % is %25."
)

_HOSTS = re.compile(r"{host}(,{host})*".format(host=r"([^\s:@,\[\]]*|\[[^\[\]]*\])(:[0-9]*)?"))


def split_url(url: str) -> SplitResult:
    """The parts of a URL; raises `InvalidInputError` where it has none."""
    try:
        return urlsplit(url)
    except ValueError:  # its text repeats what it cannot read; so would the traceback of a cause
        raise InvalidInputError("This is not a URL.", hint=ENCODE_HINT) from None


def split_server_url(url: str) -> SplitResult:
    """The parts of a URL of a server, or of several ones.

    Raises `InvalidInputError` also if a `/`, `?` or `#` in the password has ended the address too early: what is left
    of it would be taken for host, port and database, and appear in messages as such.
    """
    parts = split_url(url)
    login, _, hosts = parts.netloc.rpartition("@")
    cut_off = parts.netloc and not login and "@" in parts.path
    if cut_off or not _HOSTS.fullmatch(hosts):
        raise InvalidInputError("The URL names no host and port that can be read.", hint=ENCODE_HINT)
    return parts


def take_settings(query: str, names: Collection[str]) -> tuple[dict[str, Any], str]:
    """The settings of these names in a URL's query, `pool_size` as a number; and what is left of the query."""
    pairs = parse_qsl(query, keep_blank_values=True)
    ours: dict[str, Any] = {name: value for name, value in pairs if name in names}
    if "pool_size" in ours:
        if not re.fullmatch("[0-9]{1,9}", ours["pool_size"]):
            raise InvalidInputError(f"pool_size must be a whole number; it is {ours['pool_size']!r}.")
        ours["pool_size"] = int(ours["pool_size"])
    return ours, urlencode([(name, value) for name, value in pairs if name not in names])
