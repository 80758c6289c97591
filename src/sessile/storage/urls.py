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

    Raises `InvalidInputError` also if a `/`, `?`, `#` or `@` in the password has ended the address too early: what is
    left of it would be taken for host, port and database, and appear in messages as such.
    """
    parts = split_url(url)
    if is_cut_off(parts) or not _HOSTS.fullmatch(parts.netloc.rpartition("@")[2]):
        raise InvalidInputError("The URL names no host and port that can be read.", hint=ENCODE_HINT)
    return parts


def is_cut_off(parts: SplitResult) -> bool:
    """Whether an `@` stands where none can be: what is before it may be the rest of a password.

    Only in the value of a setting there may be another one than that behind the password: libraries differ in which of
    two they take for it.
    """
    if parts.netloc.count("@") > 1:
        return True
    if "@" not in parts.netloc:
        return bool(parts.netloc) and "@" in f"{parts.path}{parts.query}{parts.fragment}"
    return "@" in f"{parts.path}{parts.query.partition('=')[0]}{parts.fragment}"


def take_settings(url: str, names: Collection[str]) -> tuple[dict[str, Any], str]:
    """The settings of these names after a URL's `?`, numbers as such; and the URL without them.

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
    if "max_connection_age" in ours:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", ours["max_connection_age"]):
            raise InvalidInputError(f"max_connection_age must be in seconds; it is {ours['max_connection_age']!r}.")
        ours["max_connection_age"] = float(ours["max_connection_age"])
    return ours, f"{address}?{left}" if left else address


WRONG_CALL = (TypeError, ValueError, AttributeError)
"""What client libraries raise, in their own code, over arguments that they are given by a URL and cannot use."""


def refused_call(error: Exception, where: str, *, lent: bool = False) -> InvalidInputError:
    """The error of a client library that cannot be called as the URL says; its text may hold the URL's password.

    `lent`: it is a client of the application's, which was made with arguments instead.
    """
    return InvalidInputError(
        f"The client of {where} refuses how it is called: {type(error).__name__}.",
        hint="Correct the arguments that the client was made with; nothing was sent."
        if lent
        else "Correct the URL: the host's name, the user, the password, or one of the options.",
    )
