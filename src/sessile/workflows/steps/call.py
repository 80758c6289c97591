"""One call of a step, and the outcome of an attempt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any

from ...records import Entry, JsonObject
from ...storage import patch
from ...storage.encoding import LARGE
from ...storage.repeating import canonical
from ..run.journal import Path, path_text
from ..run.runtime import Scope
from ..run.values import dump
from .step import Nested, Step


class Call:
    """One call of a step: what, where, and with what; and what its result must pass, raising an error else."""

    __slots__ = ("args", "check", "inputs", "kwargs", "name", "path", "scope", "step")

    def __init__(
        self, step: Step[..., Any], path: Path, scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.step, self.path, self.scope, self.args, self.kwargs = step, path, scope, args, kwargs
        self.check: Callable[[Any], Any] | None = None
        self.name = step.name
        self.inputs = _digest(args, kwargs) if args or kwargs else None

    @property
    def nested(self) -> bool:
        """Whether it is a workflow, whose own steps are kept as well."""
        return isinstance(self.step.target, Nested)

    def about(self, attempt: int, started: int, ended: int) -> JsonObject:
        """What an entry about this step begins with."""
        return {
            "path": path_text(self.path),
            "name": self.name,
            "attempt": attempt,
            "started_at": started,
            "ended_at": max(ended, started),
            "within": self.scope.within,
            "inputs": self.inputs,
        }


def _digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What tells one call of a step from another: of its arguments, as far as they have a JSON form.

    Clients, models and other objects that have none are no part of it.
    """
    text = None if kwargs else _text_of(args)
    if text is not None:  # ASCII
        return sha256(text.encode()).hexdigest()[:32]
    known: JsonObject = {}
    given = dict(zip(map(str, range(len(args))), args, strict=True))
    for name, value in (given | kwargs if kwargs else given).items():
        try:
            known[name] = dump(value, name)
        except Exception:  # noqa: BLE001, S112 (whatever a value of the caller's raises: it has no JSON form)
            continue
    if not known:
        return None
    return sha256(canonical(known).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _text_of(args: tuple[Any, ...]) -> str | None:
    """What `canonical` gives of a few plain values, by their places, in less time; None: it is to be asked."""
    if len(args) > 10:  # whose places are not in the order of their texts
        return None
    texts: list[str] = []
    for place, value in enumerate(args):
        if type(value) is int and -LARGE < value < LARGE:
            texts.append(f'"{place}":{value}')
        elif type(value) is str and value.isascii():
            texts.append(f'"{place}":{encode_basestring(value)}')
        else:
            return None
    return f"{{{','.join(texts)}}}"


@dataclass(slots=True)
class Outcome:
    """The outcome of an attempt: the value, its JSON form, what it changed in the state, and what its agent said."""

    value: Any
    data: Any
    changes: patch.Patch = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
