"""How LangGraph's values are read: stored data chooses no class and imports no module.

LangGraph's own serializer imports whatever module a checkpoint names and calls what it names there, unless it is told
what it may. Here it may make LangGraph's and LangChain's own types, and Pydantic models, dataclasses, enumerations and
named tuples of modules that the program has imported already.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others. Its own tests are run on it.)

from __future__ import annotations

import hashlib
import sys
import threading
from collections import OrderedDict
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from ..errors import UnknownFormatError, missing_dependency

try:
    import ormsgpack
    from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES, STRICT_MSGPACK_ENABLED
    from langgraph.checkpoint.serde.jsonplus import (
        EXT_DELTA_SNAPSHOT,
        EXT_METHOD_SINGLE_ARG,
        EXT_NUMPY_ARRAY,
        JsonPlusSerializer,
    )
except ImportError as error:
    raise missing_dependency("langgraph-checkpoint", "langgraph", "A saver of LangGraph's", error) from error

KINDS = ("null", "bytes", "bytearray", "msgpack")
DEEPEST = 100
"""How deep objects may lie in each other."""

MOST_SEEN = 20_000
"""How many contents are remembered as looked through."""

Name = tuple[str, str]


def serializer() -> Any:
    """What a saver reads with: LangGraph's own where it was told to be strict (`LANGGRAPH_STRICT_MSGPACK`)."""
    return JsonPlusSerializer() if STRICT_MSGPACK_ENABLED else CarefulSerializer()


class CarefulSerializer:
    """LangGraph's serializer (`dumps_typed`, `loads_typed`), which makes only what the program knows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._allowed: frozenset[Name] = frozenset()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        """Hashes of contents whose classes are all allowed: the pieces of a long list are read in every turn."""
        self._inner = JsonPlusSerializer(allowed_msgpack_modules=None)

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """The value as bytes, and what they are."""
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value; `UnknownFormatError` if it names a class that may not be made."""
        kind, content = data
        if kind not in KINDS:
            raise UnknownFormatError("A stored value is of a form that this saver does not write.")
        return (self._inner if kind != "msgpack" else self._looked_through(content)).loads_typed(data)

    def _looked_through(self, content: bytes) -> JsonPlusSerializer:
        """The serializer that makes the classes which a content names; it is looked through once."""
        digest = hashlib.sha256(content).digest()
        if digest in self._seen:
            return self._inner
        inner = self._knowing(_named(content))
        with self._lock:
            self._seen[digest] = None
            if len(self._seen) > MOST_SEEN:
                self._seen.popitem(last=False)
        return inner

    def _knowing(self, names: set[Name]) -> JsonPlusSerializer:
        """The serializer that makes the classes of these names."""
        with self._lock:
            new = names - self._allowed
            if new:
                for name in new:
                    _check(*name)
                self._allowed |= new
                self._inner = JsonPlusSerializer(allowed_msgpack_modules=tuple(self._allowed))
            return self._inner


def _named(content: bytes) -> set[Name]:
    """Which classes objects in a value name, beside LangGraph's own."""
    found: set[Name] = set()
    depth = 0

    def noted(code: int, data: bytes) -> Any:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise UnknownFormatError(f"A stored value has objects in each other, more than {DEEPEST} deep.")
        said = unpacked(data)
        depth -= 1
        if code == EXT_NUMPY_ARRAY and "numpy" not in sys.modules:
            raise UnknownFormatError("A stored value is an array of NumPy's, which is not imported here.")
        if code not in (
            EXT_NUMPY_ARRAY,
            EXT_DELTA_SNAPSHOT,
            EXT_METHOD_SINGLE_ARG,
        ):
            # Of methods, LangGraph calls its own alone.
            module, name = said[:2]
            if not isinstance(module, str) or not isinstance(name, str):
                raise TypeError("a class has a name")
            if (module, name) not in SAFE_MSGPACK_TYPES:
                found.add((module, name))
        return None

    def unpacked(data: bytes) -> Any:
        return ormsgpack.unpackb(data, ext_hook=noted, option=ormsgpack.OPT_NON_STR_KEYS)

    unpacked(content)
    return found


def _check(module: str, name: str) -> None:
    """Whether stored data may make objects of a class: looked up without running anything."""
    kind = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if isinstance(kind, type) and (
        issubclass(kind, BaseModel | Enum | SecretStr | SecretBytes)
        or _has(kind, "__dataclass_fields__")
        or (issubclass(kind, tuple) and _has(kind, "_fields"))
        or _is_old_model(kind)
    ):
        return
    raise UnknownFormatError(
        f"A stored value is a {module[:100]!r}, {name[:100]!r}, which is no model, dataclass, enumeration or named"
        " tuple of a module that is imported here.",
        hint="Import its module before the thread is read, or give the saver a `serde` of your own.",
    )


def _has(kind: type, name: str) -> bool:
    return any(name in vars(above) for above in kind.__mro__)


def _is_old_model(kind: type) -> bool:
    """Whether it is a model of Pydantic's first version."""
    old = sys.modules.get("pydantic.v1.main")
    return old is not None and issubclass(kind, vars(old)["BaseModel"])
