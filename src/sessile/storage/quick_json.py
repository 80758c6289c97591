"""JSON of the bodies of commits and heads, by `pydantic_core`: three to five times as fast as the standard library.

It means the same: what the two do not agree on is left to the standard library. `pydantic_core` is there in every
process that has run an agent. One that has not loads it when that pays: it takes as long as a thousand bodies or so.
"""

from __future__ import annotations

import binascii
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from .forking import Hooks, forks

WORTH_LOADING = 2000
"""After how many bodies it is loaded where nobody else has done so."""

_bodies = 0
_loads: Callable[..., Any] | None = None
_dumps: Callable[..., bytes] | None = None
_bytes: Callable[[str], bytes] | None = None


def dumps(value: Any) -> str | None:
    """JSON text of a checked value; None: leave it to the standard library.

    The text of numbers with exponents differs (`1e16`, `1e+16`): use it where no text is compared.
    """
    if _dumps is None:
        _load()
    if _dumps is None:
        return None
    try:
        text: str = _dumps(value).decode()
    except Exception:  # noqa: BLE001 (lone surrogates, deep nesting, what is no JSON: the standard library says it)
        return None
    # Words of somebody's, or numbers that are not JSON. Most texts lack even the letter, which is found out at once.
    if ("N" in text and "NaN" in text) or ("I" in text and "Infinity" in text):
        return None
    return text


def loads(text: str) -> Any:
    """The value of JSON text; raises `ValueError` or another error where it is to be left to the standard library."""
    if _loads is None:
        _load()
    if _loads is None:
        raise ValueError
    return _loads(text, cache_strings="keys")


def unbase64(text: str) -> bytes:
    """The bytes of base64, in a tenth of the standard library's time; raises `ValueError` for what is none."""
    if _bytes is None:
        _load()
    return binascii.a2b_base64(text) if _bytes is None else _bytes(f'"{text}"')


class _FirstUse:
    """Keeps forks out of the first use of `pydantic_core`: a child would wait for ever for what that has begun."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        forks.join(self, Hooks(_FirstUse.wait, _FirstUse.release, _FirstUse.renew))

    def renew(self) -> None:
        """In a forked child: be free, whoever held it."""
        self.lock = threading.RLock()

    def wait(self) -> None:
        """Before a fork: wait for the end of the first use, and let nobody begin."""
        self.lock.acquire()

    def release(self) -> None:
        """After it."""
        with suppress(RuntimeError):  # it is not ours: the fork was interrupted before
            self.lock.release()


_first = _FirstUse()


def _load() -> None:
    """Take it if it is there, or is worth loading now; while another thread does so, go without."""
    lock = _first.lock
    if lock.acquire(blocking=False):
        try:
            _take()
        finally:
            lock.release()


def _take() -> None:
    global _bodies, _bytes, _dumps, _loads
    _bodies += 1
    module = sys.modules.get("pydantic_core")
    if module is None:
        if _bodies != WORTH_LOADING:
            return
        try:
            module = import_module("pydantic_core")
        except ImportError:
            return
    dumps, loads = getattr(module, "to_json", None), getattr(module, "from_json", None)
    if dumps is not None and loads is not None:
        loads(dumps({"": ["", 1.5, None]}))
    schemas, validator = getattr(module, "core_schema", None), getattr(module, "SchemaValidator", None)
    if schemas is not None and validator is not None:
        taken = validator(schemas.bytes_schema(), config=schemas.CoreConfig(val_json_bytes="base64"))
        taken.validate_json('""')
        _bytes = taken.validate_json
    _dumps, _loads = dumps, loads
