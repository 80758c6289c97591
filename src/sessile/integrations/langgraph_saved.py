"""What a thread of LangGraph's keeps: values as JSON or beside the log, and checkpoints folded from its entries.

A value is stored in the form that LangGraph's serializer gives it. Small ones stand in their entry, as base64; larger
ones are records of the session, under the hash of their content: a channel that has not changed is stored once. A long
list is stored in pieces, so that what grows at its end is not written again from its beginning.

The name of a content also says how often something had been taken out of the session when it was written. So what only
entries name that were dropped can be removed at any time, by anybody: nobody who writes later counts on it.
"""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

import base64
import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import CorruptDataError, UnknownFormatError
from ..storage.extending import Core, Entry, Session, read_record, read_records, write_record
from .langgraph_pieces import WHOLE, Pieces, look_of, split, unpacked
from .stored import reads_stored

CHECKPOINT, WRITES, DROPPED = "langgraph.checkpoint", "langgraph.writes", "langgraph.dropped"
RECORDS = "langgraph/"
Moment = tuple[str, int]
"""Which session it is, and how often something was taken out of it: what is known to be beside it holds as long."""

REPEATED, REPEATED_BYTES = 64, 256 * 1024 * 1024
"""Contents that are named more than once are made as often: so many times what is stored, and these bytes, at most."""

Making = Callable[[Moment], tuple[Entry, dict[str, bytes]]]
"""Makes an entry for a session as it is at a moment, and by their names the contents that it needs."""

MOST_KNOWN, MOST_VERSIONS = 20_000, 2000
"""How many contents are remembered as stored, and how many versions of channels."""


@dataclass
class Contents:
    """By their names, contents as they are stored, and those of which the messages are known, packed."""

    stored: dict[str, bytes]
    packed: dict[str, bytes]


class Values:
    """Stores values of one saver, and remembers which contents are stored already.

    Args:
        serde: LangGraph's serializer: `dumps_typed`, `loads_typed`.
        inline: how many bytes of a value stand in its entry.
        pieces: what is known of lists of messages; None for serializers that may do more than write down.
    """

    def __init__(self, serde: Any, inline: int, pieces: Pieces | None) -> None:
        self._serde = serde
        self._inline = inline
        self._pieces = pieces
        self._lock = threading.Lock()
        self._versions: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def dump(self, value: Any, moment: Moment, contents: dict[str, bytes]) -> dict[str, Any]:
        """The value as JSON; what is to be put beside the log is added to `contents`, by name."""
        if type(value) is list and len(value) > WHOLE:
            return {"list": [self._dump(part, moment, contents) for part in split(value)]}
        return self._dump(value, moment, contents)

    def dump_version(
        self, value: Any, moment: Moment, contents: dict[str, bytes], version: tuple[Any, ...], *, new: bool
    ) -> dict[str, Any]:
        """As `dump`, but for a version of a channel that is not new and was stored before: that stays as it is."""
        key = (*moment, *version)
        said = None if new else self._versions.get(key)
        if said is None:
            said = self.dump(value, moment, contents)
            with self._lock:
                self._versions[key] = said
                if len(self._versions) > MOST_VERSIONS:
                    self._versions.popitem(last=False)
        return said

    def _dump(self, value: Any, moment: Moment, contents: dict[str, bytes]) -> dict[str, Any]:
        looks = None if self._pieces is None else look_of(value)
        made = None if self._pieces is None else self._pieces.made(looks)
        if made is not None and (moment[0], named(made[1], moment[1])) in self._known:
            return {"type": made[0], "at": named(made[1], moment[1])}
        kind, data = self._serde.dumps_typed(value)
        if len(data) <= self._inline:
            return {"type": kind, "data": base64.b64encode(data).decode()}
        digest = hashlib.sha256(data).hexdigest()
        if self._pieces is not None:
            self._pieces.note(looks, kind, digest)
        contents[named(digest, moment[1])] = data
        return {"type": kind, "at": named(digest, moment[1])}

    async def put(self, core: Core, head: Session, contents: dict[str, bytes]) -> None:
        """Put contents beside the log, but for those that are known to be there."""
        size = core.driver.capabilities.max_record_bytes
        for name, data in contents.items():
            key = (head.incarnation, name)
            if key in self._known:
                continue
            for place, part in enumerate(_parts(data, size)):
                await write_record(core, head, _record(name, place), part)
            self._know(head, [name])

    async def read(self, core: Core, head: Session, said: Iterable[Any]) -> Contents:
        """All contents of stored values, but for those of which the messages are known."""
        wanted = Counter(name for one in said for name in names(one))
        known = {name: self._packed(name) for name in wanted}
        found = Contents({}, {name: packed for name, packed in known.items() if packed is not None})
        found.stored.update(await contents_of(core, head, [name for name in wanted if name not in found.packed]))
        sizes = {name: len(data) for part in (found.stored, found.packed) for name, data in part.items()}
        made = sum(count * sizes[name] for name, count in wanted.items())
        if made > REPEATED_BYTES + REPEATED * sum(sizes.values()):
            raise UnknownFormatError(f"A checkpoint of session {head.session_id!r} is {made} bytes of the same few.")
        self._know(head, wanted)
        return found

    def _know(self, head: Session, stored: Iterable[str]) -> None:
        with self._lock:
            self._known.update({(head.incarnation, name): None for name in stored})
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)

    def _packed(self, name: str) -> bytes | None:
        return None if self._pieces is None else self._pieces.packed(digest_in(name))

    @reads_stored
    def load(self, said: dict[str, Any], contents: Contents) -> Any:
        """A stored value; `contents` are what `read` has brought for it."""
        if "list" in said:
            return [item for part in said["list"] for item in self.load(part, contents)]
        if "at" not in said:
            return self._serde.loads_typed((said["type"], base64.b64decode(said["data"])))
        name = said["at"]
        if name in contents.packed:
            return unpacked(contents.packed[name])
        value = self._serde.loads_typed((said["type"], contents.stored[name]))
        if self._pieces is not None:
            self._pieces.keep(value, said["type"], digest_in(name))
        return value


@reads_stored
def pruned(head: Session) -> int:
    """How often something was taken out of the session."""
    return int(head.state.get("pruned") or 0)


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    """A content in as many records as the database needs: all but the last are full."""
    for start in range(0, len(data) + 1, size):
        yield data[start : start + size]


def named(digest: str, often: int) -> str:
    """The name of a content that is written when something was taken out of its session so many times."""
    return f"{digest}@{often}" if often else digest


def digest_in(name: str) -> str:
    """The hash in the name of a content."""
    return name.partition("@")[0]


def _record(name: str, place: int) -> str:
    return f"{RECORDS}{name}" if place == 0 else f"{RECORDS}{name}.{place}"


def values_in(entry: dict[str, Any]) -> list[Any]:
    """The stored values of an entry."""
    channels = entry.get("channels") or {}
    return [entry.get("checkpoint"), *channels.values(), *(one["value"] for one in entry.get("writes") or ())]


def names(said: Any) -> list[str]:
    """The names of all that a stored value, or a list of them, has beside the log."""
    found: list[str] = []
    todo = [said]
    while todo:
        one = todo.pop()
        if isinstance(one, dict) and "list" in one:
            todo.append(one["list"])
        elif isinstance(one, dict) and isinstance(one.get("at"), str):
            found.append(one["at"])
        elif isinstance(one, list):
            todo += one
    return found


def moved(said: Any, often: int) -> Any:
    """A stored value, or an entry of them, with the names that its contents have when they are written again."""
    if isinstance(said, list):
        return [moved(one, often) for one in said]
    if not isinstance(said, dict):
        return said
    if isinstance(said.get("at"), str) and "type" in said:
        return {**said, "at": named(digest_in(said["at"]), often)}
    kept = {"metadata": said["metadata"]} if "metadata" in said else {}
    return {**{key: moved(one, often) for key, one in said.items()}, **kept}


async def copied(core: Core, session: Session, entry: Entry) -> Making:
    """Makes an entry of a session once more, for another one."""
    found = await contents_of(core, session, [*dict.fromkeys(names(values_in(entry.data)))])

    def make(moment: Moment) -> tuple[Entry, dict[str, bytes]]:
        contents = {named(digest_in(name), moment[1]): data for name, data in found.items()}
        return Entry(entry.kind, moved(entry.data, moment[1])), contents

    return make


async def content_of(core: Core, head: Session, name: str) -> bytes:
    """What is kept under a name; `CorruptDataError` if it is not there."""
    size = core.driver.capabilities.max_record_bytes
    data, place = b"", 0
    while True:
        part = await read_record(core, head, _record(name, place))
        data += part or b""
        if part is None or len(part) < size:
            break
        place += 1
    if hashlib.sha256(data).hexdigest() != digest_in(name):
        raise CorruptDataError(f"A value of session {head.session_id!r} is missing or damaged.")
    return data


async def drop_contents(core: Core, head: Session, gone: Iterable[str]) -> None:
    """Remove contents that nothing names any longer."""
    size = core.driver.capabilities.max_record_bytes
    for name in gone:
        place = 0
        while True:
            part = await read_record(core, head, _record(name, place))
            if part is not None:
                await write_record(core, head, _record(name, place), None)
            if part is None or len(part) < size:
                break
            place += 1


async def contents_of(core: Core, head: Session, wanted: Sequence[str]) -> dict[str, bytes]:
    """Contents by their names."""
    size = core.driver.capabilities.max_record_bytes
    found: dict[str, bytes] = {}
    for name, data in zip(wanted, await read_records(core, head, [_record(one, 0) for one in wanted]), strict=True):
        whole = data is not None and len(data) < size and hashlib.sha256(data).hexdigest() == digest_in(name)
        found[name] = data if data is not None and whole else await content_of(core, head, name)
    return found


# ---------------------------------------------------------------- checkpoints


@dataclass
class Saved:
    """One checkpoint as it is stored, None before it has come, and its writes by task and place."""

    checkpoint_id: str
    said: dict[str, Any] | None = None
    writes: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict["tuple[str, int]", "dict[str, Any]"])

    def entries(self) -> list[Entry]:
        """What makes it, and its writes, once more."""
        parts = [Entry(CHECKPOINT, self.said)] if self.said else []
        if self.writes:
            parts.append(Entry(WRITES, {"id": self.checkpoint_id, "writes": [*self.writes.values()]}))
        return parts

    @reads_stored
    def in_order(self) -> list[dict[str, Any]]:
        """The writes in the order in which a run applies them."""
        return [one for _, one in sorted(self.writes.items(), key=lambda item: (item[1]["path"], *item[0]))]


@reads_stored
def folded(entries: Sequence[Entry]) -> dict[str, Saved]:
    """The checkpoints of a session by their ids, from its entries in the order of the log.

    A checkpoint that is put again replaces the one before. A write of the same task and place that is there already
    stays, but for those of errors, interrupts and the like, whose places are below 0.
    """
    found: dict[str, Saved] = {}
    for entry in entries:
        if entry.kind == DROPPED:
            for checkpoint_id in entry.data["ids"]:
                found.pop(checkpoint_id, None)
        elif entry.kind in (CHECKPOINT, WRITES):
            if not isinstance(entry.data["id"], str):
                raise TypeError("an id is a text")
            saved = found.setdefault(entry.data["id"], Saved(entry.data["id"]))
            if entry.kind == CHECKPOINT:
                saved.said = entry.data
            for one in entry.data.get("writes", ()):
                place = (one["task"], one["idx"])
                if one["idx"] < 0 or place not in saved.writes:
                    saved.writes[place] = one
    return found
