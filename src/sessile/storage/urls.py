"""What the URLs of databases have in common. No message repeats a URL, or a part that may be one of a password."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import InvalidInputError

ENCODE_HINT = (
    "Write special characters of the user and the password percent-encoded: / is %2F, @ is %40, : is %3A, # is %23, "
    "? is %3F, [ is %5B, ] is %5D, % is %25."
)

_HOSTS = re.compile(r"{host}(,{host})*".format(host=r"([^\s:@,\[\]]*|\[[^\[\]]*\])(:[0-9]*)?"))


def check_no_url(value: str, what: str) -> None:
    """Refuse a URL where something else is to be: it would become the name of a folder, with the password in it."""
    if "://" in value:
        raise InvalidInputError(f"This is a URL, not {what}.", hint="Give it to sessile.open.")


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


def take_settings(url: str, names: Collection[str]) -> tuple[dict[str, Any], str]:
    """The settings of these names after a URL's `?`, `pool_size` as a number; and the URL without them.

    What is left is as it was written: libraries differ in what they make of an address without a host, and of a `+`,
    which here is a plus, as in the keys of AWS.
    """
    address, _, query = url.partition("?")
    settings = [setting.partition("=") for setting in query.split("&") if setting]
    ours: dict[str, Any] = {name: unquote(value) for name, _, value in settings if name in names}
    left = "&".join("".join(setting) for setting in settings if setting[0] not in names)
    if "pool_size" in ours:
        if not re.fullmatch("[0-9]{1,9}", ours["pool_size"]):
            raise InvalidInputError(f"pool_size must be a whole number; it is {ours['pool_size']!r}.")
        ours["pool_size"] = int(ours["pool_size"])
    return ours, f"{address}?{left}" if left else address
