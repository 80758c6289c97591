"""Media and other large binary parts: kept apart from the messages, once per session and content.

A part `{"kind": "binary", "data": <base64>, …}` whose content is large is stored as a record under its SHA-256
hash, before the commit that names it, and `data` becomes `{"$blob": hash, "size": bytes}`. It goes with the session.

What tools and models return may look like such a reference without being one, and must not be taken for it: it is
stored as `{"$blob": null, "value": …}`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeGuard, cast

from ..errors import CorruptDataError, InvalidInputError, SessionNotFoundError, TooLargeError
from ..records import JsonObject, Session, UserId
from .binary import is_binary
from .computing import compute, computed
from .core import Core
from .driver import Deadline, RecordName
from .encoding import decode, encode
from .ids import check_id
from .vocabulary import MediaIndex
from .withholding import damage_of

REFERENCE = "$blob"

_DIGEST = re.compile("[0-9a-f]{64}")


def put_aside(value: Any, inline: int) -> tuple[Any, dict[str, bytes]]:
    """The value with binary parts of over `inline` bytes replaced by references, and their contents by hash."""
    found: dict[str, bytes] = {}
    return _put_aside(value, inline, found), found


def _put_aside(value: Any, inline: int, found: dict[str, bytes]) -> Any:
    if isinstance(value, list):
        return [_put_aside(item, inline, found) for item in cast(list[Any], value)]
    if not isinstance(value, dict) or _is_call(cast(JsonObject, value)):
        return cast(Any, value)
    node = cast(JsonObject, value)
    if is_binary(node) and _names(node.get("data")):
        return {**node, "data": {REFERENCE: None, "value": node["data"]}}
    content = binary_content(node)
    if content is None or len(content) <= inline:
        return {key: _put_aside(item, inline, found) for key, item in node.items()}
    digest = digest_of(content)
    found[digest] = content
    return {**node, "data": {REFERENCE: digest, "size": len(content)}}


def without_too_large(value: Any, limit: int) -> Any:
    """The value with a note in the place of each binary part of over `limit` bytes."""
    if isinstance(value, list):
        return [without_too_large(item, limit) for item in cast(list[Any], value)]
    if not isinstance(value, dict) or _is_call(cast(JsonObject, value)):
        return cast(Any, value)
    node = cast(JsonObject, value)
    content = binary_content(node)
    if content is not None:
        note = f"[{node['media_type']} of {len(content):,} bytes: larger than media may be, and not kept]"
        return note if len(content) > limit else node
    kept = {key: without_too_large(item, limit) for key, item in node.items()}
    if kept.get("part_kind") == "file" and isinstance(kept.get("content"), str):  # a file is nothing else than media
        return {"part_kind": "text", "content": kept["content"]}
    return kept


def digest_of(content: bytes) -> str:
    """The SHA-256 hash under which a content is kept."""
    import hashlib  # loads OpenSSL, which sessions without media do not need

    return hashlib.sha256(content).hexdigest()


def binary_content(node: JsonObject) -> bytes | None:
    """The bytes of a binary part in its JSON form, or None if it is not one."""
    data = node.get("data")
    if not is_binary(node) or not isinstance(data, str):
        return None
    try:
        content = base64.urlsafe_b64decode(data)
    except (ValueError, binascii.Error):
        return None
    # Decoding passes over what is not base64, and so would lose it: only text that comes back as it was is taken.
    written = base64.urlsafe_b64encode(content).decode()
    return content if data in (written, written.replace("-", "+").replace("_", "/")) else None


def has_binary(value: Any) -> bool:
    """Whether a value holds a binary part, put aside or not."""
    if isinstance(value, list):
        return any(has_binary(item) for item in cast(list[Any], value))
    if isinstance(value, dict):
        node = cast(JsonObject, value)
        return is_binary(node) or any(has_binary(item) for item in node.values() if type(item) in _NESTED)
    return False


def _names(data: Any) -> TypeGuard[JsonObject]:
    """Whether the `data` of a binary part is a reference, or looks like one."""
    return isinstance(data, dict) and REFERENCE in data


def _is_call(node: JsonObject) -> bool:
    """Whether an object is a tool call: its arguments are the model's own JSON, whatever they look like."""
    return node.get("part_kind") == "tool-call"


_NESTED = (dict, list)


def references(value: Any) -> Iterator[str]:
    """The hashes of all media that a value refers to."""
    if isinstance(value, list):
        for item in cast(list[Any], value):
            yield from references(item)
    elif isinstance(value, dict):
        node = cast(JsonObject, value)
        digest = node.get(REFERENCE)
        if isinstance(digest, str) and "size" in node and _DIGEST.fullmatch(digest):
            yield digest
        else:
            for item in node.values():
                yield from references(item)


async def put_back(value: Any, read: Callable[[str], Awaitable[bytes]]) -> Any:
    """The value with the `data` of every binary part as bytes, references looked up with `read`. On an event loop."""
    if isinstance(value, list):
        return [await put_back(item, read) for item in cast(list[Any], value)]
    if not isinstance(value, dict) or _is_call(cast(JsonObject, value)):
        return cast(Any, value)
    node = cast(JsonObject, value)
    data = node.get("data")
    content = await computed(lambda: binary_content(node), data)
    if is_binary(node) and _names(data) and data[REFERENCE] is None and "value" in data:
        return {**node, "data": data["value"]}
    digest = next(references(data), None) if is_binary(node) else None
    if digest is not None:
        content = await read(digest)
    if content is not None:
        return {**node, "data": content}
    return {key: await put_back(item, read) for key, item in node.items()}


def check_media(core: Core, content: bytes) -> None:
    """Raise `TooLargeError` if a content is over the storage's limit."""
    limit = core.settings.max_media_bytes
    if len(content) > limit:
        raise TooLargeError(f"A binary part has {len(content):,} bytes; the limit is {limit:,}.")


async def keep_apart(
    core: Core, value: Any, session: Callable[[], Awaitable[Session]], kept: dict[str, bytes] | None = None
) -> Any:
    """The value with its large binary parts stored with a session, which is asked for only then, and as references.

    `kept` gets the contents by their hashes.
    """
    inline = core.settings.inline_media_bytes
    reduced, found = await compute(core.driver, lambda: put_aside(value, inline), value)
    if found:
        for content in found.values():
            check_media(core, content)
        deadline = core.deadline()
        head = await session()
        for digest, content in found.items():
            await write_media(core, head, digest, content, deadline)
    if kept is not None:
        kept.update(found)
    return reduced


async def has_media(core: Core, head: Session, digest: str, deadline: Deadline) -> bool:
    """Whether the session has the content of a hash."""
    return await core.driver.get_record(head.session_id, head.incarnation, f"media/{digest}", deadline) is not None


PARTS_AT_ONCE = 256
"""How many records of one content are read in one round trip: 64 MiB of them where they are small."""


async def write_media(core: Core, head: Session, digest: str, content: bytes, deadline: Deadline) -> None:
    """Store a content under its hash, in as many records as the database needs, unless it is there already.

    The record that names the parts comes last, so a content is there whole or not at all.
    """
    check_media(core, content)
    driver, key = core.driver, f"media/{digest}"
    if await has_media(core, head, digest, deadline):
        return
    size = driver.capabilities.max_record_bytes
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    records = [(f"{key}/{number}", part) for number, part in enumerate(parts)]
    records.append((key, encode(MediaIndex(size=len(content), parts=len(parts)).json).encode()))
    for name, value in records:
        if not await driver.put_record(head.session_id, head.incarnation, name, value, deadline):
            raise SessionNotFoundError(f"Session {head.session_id!r} was deleted while media were stored.")


async def read_media(core: Core, head: Session, digest: str, deadline: Deadline) -> bytes:
    """The content of a hash; `CorruptDataError` if it is missing or not what was stored."""
    key = f"media/{digest}"
    driver = core.driver
    index = await driver.get_record(head.session_id, head.incarnation, key, deadline)
    try:
        count = 0 if index is None else int(MediaIndex.of(decode(index.decode())).parts)
    except (CorruptDataError, ValueError, KeyError, TypeError) as error:
        raise CorruptDataError(
            f"The media {digest} of session {head.session_id!r} are damaged: {damage_of(error)}."
        ) from error
    parts: list[bytes] = []
    while len(parts) < count:  # what is said of their number may be anything
        numbers = range(len(parts), min(count, len(parts) + PARTS_AT_ONCE))
        names = [RecordName(head.session_id, head.incarnation, f"{key}/{number}") for number in numbers]
        found = [part for part in await driver.get_records(names, deadline) if part is not None]
        parts += found
        if len(found) < len(names):
            break
    content = b"".join(parts)
    if await compute(driver, lambda: digest_of(content), content) != digest:
        raise CorruptDataError(f"The media {digest} of session {head.session_id!r} are missing or damaged.")
    return content


async def media(core: Core, session_id: str, digest: str, *, user_id: UserId = None) -> bytes:
    """See `Storage.media`."""
    user_id = core.check_access(session_id, user_id)
    if not _DIGEST.fullmatch(check_id(digest, "digest")):
        raise InvalidInputError(f"{digest!r} is not the hash of a content: 64 hexadecimal digits.")
    deadline = core.deadline()
    return await read_media(core, await core.head_of(session_id, user_id, deadline), digest, deadline)
