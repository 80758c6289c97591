"""What a kind of entry is: a class with the fields of its JSON, and the questions that every kind answers.

A word is a view of the JSON that was stored. It never makes other JSON out of it: what this version does not know stays
in it, and is written back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields as fields_of
from operator import attrgetter
from typing import Any, ClassVar, TypeVar, cast, dataclass_transform

from ...records import Entry, JsonObject, Run, Session

ERASED = "[erased]"
"""What stands in place of text that was erased, where there must be text."""

ERASED_VALUE: JsonObject = {"$erased": True}
"""What stands in place of any other value that was erased."""

FieldsT = TypeVar("FieldsT", bound="Fields")
WordT = TypeVar("WordT", bound="Word")

_REQUIRED: Any = object()

ABSENT: Any = object()
"""The default of fields where null is a value like any other."""


def erased_value(value: Any) -> Any:
    """What is left of a value of which nothing may be left."""
    return None if value is None else ERASED_VALUE


class Field:
    """One field of a JSON object, and what a stranger must know to read it.

    Attributes:
        name: its key, where that is not the name of the attribute.
        meaning: what it says, for `docs/format.md`.
        default: what it is where it is not written; fields without a default are always written.
        once: the name that it had before the first release.
        erased: makes what is left of it when it is erased; None: it may not be erased, because the head needs it or it
            says nothing about anybody.
        since: the lowest format version of a reader that must know it.
    """

    __slots__ = ("default", "erased", "meaning", "name", "once", "since")

    def __init__(
        self,
        meaning: str,
        default: Any,
        name: str,
        once: str | None,
        erased: Callable[[Any], Any] | None,
        since: int,
    ) -> None:
        self.meaning, self.default, self.name = meaning, default, name
        self.once, self.erased, self.since = once, erased, since

    @property
    def required(self) -> bool:
        """Whether it is always written."""
        return self.default is _REQUIRED

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    def __get__(self, view: Any, owner: type | None = None) -> Any:
        if view is None:
            return self
        json = view.json
        if self.default is _REQUIRED:
            return json[self.name]
        if self.once is not None and self.name not in json:
            return json.get(self.once, self.default)
        return json.get(self.name, self.default)


def field(
    meaning: str,
    *,
    default: Any = _REQUIRED,
    name: str = "",
    once: str | None = None,
    erased: Callable[[Any], Any] | None = None,
    since: int = 1,
) -> Any:
    """Declare a field; see `Field`."""
    return Field(meaning, default, name, once, erased, since)


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Fields:
    """A JSON object that is stored, by its fields.

    `json` is the object itself, with what this version does not know.
    """

    __slots__ = ("json",)

    FIELDS: ClassVar[dict[str, Field]] = {}  # upper case, as all that is not a field: fields may have any name
    REQUIRED: ClassVar[frozenset[str]] = frozenset()
    WRITTEN: ClassVar[dict[str, tuple[str, Any, bool]]] = {}
    """By attribute: the key, what is not written because it is the default, and whether null is written."""
    json: Any

    def __init_subclass__(cls) -> None:
        own = {name: one for name, one in vars(cls).items() if isinstance(one, Field)}
        cls.FIELDS = {**cls.FIELDS, **own}  # pyright: ignore[reportConstantRedefinition] (of each class its own)
        cls.WRITTEN = {  # pyright: ignore[reportConstantRedefinition]
            name: (one.name, one.default, one.default is ABSENT or one.required) for name, one in cls.FIELDS.items()
        }
        cls.REQUIRED = frozenset(name for name, one in cls.FIELDS.items() if one.required)  # pyright: ignore[reportConstantRedefinition]

    def __init__(self, **given: Any) -> None:
        json: JsonObject = {}
        written = self.WRITTEN
        if not self.REQUIRED.issubset(given):
            raise KeyError(*sorted(self.REQUIRED - given.keys()))
        for attribute, value in given.items():
            name, default, nullable = written[attribute]
            if value is not default and (nullable or value is not None):
                json[name] = value
        self.json = json if written else None

    @classmethod
    def of(cls: type[FieldsT], json: Any) -> FieldsT:
        """A view of JSON that was stored."""
        view = cls.__new__(cls)
        view.json = json
        return view

    def but(self: FieldsT, **changed: Any) -> FieldsT:
        """The same with other values in these fields; None takes one away, where it may be away."""
        json: JsonObject = {**self.json}
        for attribute, value in changed.items():
            one = self.FIELDS[attribute]
            if value is None and not one.required:
                json.pop(one.name, None)
            else:
                json[one.name] = value
        return self.of(json)


class Word(Fields):
    """One kind of entry.

    Subclasses name the kind, what it was called before the first release (`once`), and the version: the lowest format
    version of a reader that may pass the entry. It is above 1 where a reader that does not know the kind would make
    another head, or another run, than one that does. Where only a field makes it so, the field says that (`since`).
    """

    __slots__ = ()

    KIND: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1
    DROPPABLE: ClassVar[bool] = False
    """Whether the entry may be taken out of the log whole: no head comes of it, and nothing counts it."""
    LATER: ClassVar[tuple[Field, ...]] = ()
    """The fields that a reader of the kind's own version does not know."""

    def __init_subclass__(
        cls, *, kind: str = "", once: str | None = None, version: int = 1, droppable: bool = False
    ) -> None:
        super().__init_subclass__()
        cls.KIND, cls.VERSION, cls.DROPPABLE = kind, version, droppable
        cls.LATER = tuple(one for one in cls.FIELDS.values() if one.since > version)
        if kind:
            WORDS[kind] = cls
            if once is not None:
                RENAMED[once] = kind
            if cls.fold.__func__ is not Word.fold.__func__:
                FOLDING[kind] = cls

    def entry(
        self,
        run_id: str | None = None,
        run: int | None = None,
        parent_run_id: str | None = None,
        agent: str | None = None,
        format: str | None = None,
    ) -> Entry:
        """An entry of this kind."""
        return Entry(self.KIND, self.json, run_id, run, parent_run_id, agent, format)

    @classmethod
    def read(cls: type[WordT], entry: Entry) -> WordT | None:
        """The entry as this kind of word, or None if it is of another."""
        return cls.of(entry.data) if entry.kind == cls.KIND else None

    # ------------------------------------------------------------ what every kind answers

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """Change the head by what the entry says. What is in the head is replaced, never changed in place."""

    @classmethod
    def is_quiet(cls, entry: Entry) -> bool:
        """Whether it is no change of the session: a commit of such entries neither prolongs nor moves it in lists."""
        return False

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """Put what the entry says into its run, which has started before."""
        run.steps.append(entry)

    @classmethod
    def state_after(cls, state: JsonObject, entry: Entry) -> JsonObject:
        """The session's state after the entry, if this was the state before it."""
        return state

    @classmethod
    def state_before(cls, state: JsonObject, entry: Entry) -> JsonObject:
        """The session's state before the entry, if this was the state after it."""
        return state

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """The entry in a fork, where its run has this number; None if forks do not have it.

        A fork asks only for entries of the runs that it copies.
        """
        (own,) = copies([entry])
        own.run = number
        return own

    @classmethod
    def erase(cls, entry: Entry) -> Any:
        """The entry's JSON without what may be erased."""
        if not isinstance(entry.data, dict):
            return erased_value(entry.data)
        kept = {**cast(JsonObject, entry.data)}
        for one in cls.FIELDS.values():
            for name in (one.name, one.once):
                if one.erased is not None and name is not None and name in kept:
                    kept[name] = one.erased(kept[name])
        return kept


class Unknown(Word):
    """An entry of a kind that this version does not know: it is kept, listed and copied as it is.

    Of what it holds nobody here can say what may be left, so erasing leaves nothing.
    """

    __slots__ = ()
    DROPPABLE = True

    @classmethod
    def erase(cls, entry: Entry) -> Any:
        """See `Word.erase`."""
        return erased_value(entry.data)


WORDS: dict[str, type[Word]] = {}
"""The kinds that this version knows."""

FOLDING: dict[str, type[Word]] = {}
"""Those that change the head."""

RENAMED: dict[str, str] = {}
"""Kinds by the names that they had before the first release; entries are read under the new ones."""


def kind_of(entry: Entry) -> type[Word]:
    """The entry's word."""
    return WORDS.get(entry.kind, Unknown)


def copies(entries: Iterable[Entry]) -> list[Entry]:
    """Entries that may be written: what is written is numbered, dated, and may be redacted. They share their data."""
    return [Entry(*_values_of(entry)) for entry in entries]  # a tenth of the time of `copy` and `replace`


_values_of = attrgetter(*(one.name for one in fields_of(Entry)))


def version_needed(entry: Entry) -> int:
    """The lowest format version of a reader that may read or pass an entry."""
    known = WORDS.get(entry.kind)
    if known is None:
        return (entry.more or {}).get("version", 1)
    version = known.VERSION
    data: Any = entry.data
    if known.LATER and isinstance(data, dict):
        for one in known.LATER:
            if one.since > version and one.name in data:
                version = one.since
    return version


def newest_version() -> int:
    """The highest format version that this program reads."""
    return max(
        version
        for known in WORDS.values()
        for version in (known.VERSION, *(one.since for one in known.FIELDS.values()))
    )
