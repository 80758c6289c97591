"""Conversations in files: OpenAI's chat messages, Pydantic AI's messages, the data exports of ChatGPT and of Claude."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, cast

from ...errors import CorruptDataError, InvalidInputError
from ...records import JsonObject, Usage
from ...storage.formats import PYDANTIC_AI
from .building import count
from .conversations import Conversation, Conversations, Skip, Turn
from .databases import mapping, objects, seconds
from .items import Timed, branched, spoken, turns_of
from .openai_agents import moment
from .pricing import cost_of, priced, told_cost

LONGEST = 512 * 1024 * 1024
"""How long a whole file of JSON may be in bytes: what is longer would be in memory at once."""

LONGEST_LINE = 64 * 1024 * 1024
"""How long a line may be: each is one conversation."""

PIECE = 1024 * 1024
"""In pieces of how many bytes a line is passed over that is longer."""


class Document(NamedTuple):
    """A value of JSON, and where it stands."""

    name: str
    value: Any


def openai(source: str, skip: Skip) -> Conversations:
    """Chat messages: `{"messages": […]}` on each line, as fine-tuning has it, or a list of messages in a file."""
    for name, value in _documents(source, skip):
        messages = objects(mapping(value).get("messages") or value)
        if not messages or not all("role" in one or "type" in one for one in messages):
            skip(name, "it is no list of messages")
            continue
        timed = [(one, 0, f"{name}/{place + 1}") for place, one in enumerate(messages)]
        yield Conversation(source=name, session_id=name, turns=turns_of(timed))


# ---------------------------------------------------------------- Pydantic AI


def pydantic_ai(source: str, skip: Skip) -> Conversations:
    """Messages as `ModelMessagesTypeAdapter` dumps them: a list in a file, or on each line."""
    for name, value in _documents(source, skip):
        messages = objects(value)
        if not messages or not all(isinstance(one.get("parts"), list) for one in messages):
            skip(name, "it is no list of Pydantic AI's messages")
            continue
        turns = [_spoken_turn(name, place, part) for place, part in _spoken_parts(messages)]
        created = min((turn.started_us for turn in turns if turn.started_us), default=0)
        yield Conversation(source=name, session_id=name, created_us=created, turns=turns)


def _spoken_parts(messages: Sequence[JsonObject]) -> Iterator[tuple[int, list[JsonObject]]]:
    """The messages, cut where a user's prompt comes after an answer; each with its place."""
    part: list[JsonObject] = []
    begun = 0
    for place, message in enumerate(messages):
        asks = any(one.get("part_kind") == "user-prompt" for one in objects(message.get("parts")))
        if asks and any(one.get("kind") == "response" for one in part):
            yield begun, part
            part, begun = [], place
        part.append(message)
    if part:
        yield begun, part


def _spoken_turn(name: str, place: int, messages: list[JsonObject]) -> Turn:
    times = [seen for one in messages for seen in _times(one)]
    last = objects(messages[-1].get("parts")) if messages[-1].get("kind") == "response" else []
    answered = bool(last) and not any(one.get("part_kind") == "tool-call" for one in last)
    texts = [one["content"] for one in last if one.get("part_kind") == "text" and isinstance(one.get("content"), str)]
    prompts = [
        one.get("content")
        for message in messages
        for one in objects(message.get("parts"))
        if one.get("part_kind") == "user-prompt"
    ]
    run_id = next((str(one["run_id"]) for one in messages if one.get("run_id")), f"{name}/{place + 1}")
    return Turn(
        run_id=run_id,
        input=prompts[0] if prompts else None,
        output="\n".join(texts) if answered and texts else None,
        messages=messages,
        format=PYDANTIC_AI,
        status="completed" if answered else "cancelled",
        usage=_spoken_usage(messages),
        started_us=min(times, default=0),
        ended_us=max(times, default=0),
    )


def _times(message: JsonObject) -> Iterator[int]:
    for told in (message, *objects(message.get("parts"))):
        if when := moment(_with_zone(told.get("timestamp"))):
            yield when


def _with_zone(value: Any) -> Any:
    return value.replace("Z", "+00:00") if isinstance(value, str) else value


def _spoken_usage(messages: Sequence[JsonObject]) -> Usage | None:
    answers = [one for one in messages if one.get("kind") == "response"]
    tools = sum(part.get("part_kind") == "tool-return" for one in messages for part in objects(one.get("parts")))
    if not answers:
        return None
    told = [mapping(one.get("usage")) for one in answers]

    def total(name: str) -> int:
        return sum(count(one.get(name)) for one in told)

    used = Usage(
        len(answers),
        total("input_tokens"),
        total("output_tokens"),
        total("cache_read_tokens"),
        total("cache_write_tokens"),
        tools,
    )
    return priced(used, map(_spoken_cost, answers))


def _spoken_cost(answer: JsonObject) -> Decimal | None:
    """What was known of its cost when it was made, else what the prices of that time make it."""
    told = mapping(answer.get("usage"))
    known = told_cost(told.get("cost"))
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    used = Usage(1, *(count(told.get(name)) for name in names))
    when = moment(_with_zone(answer.get("timestamp")))
    return cost_of(used, answer.get("model_name"), answer.get("provider_name"), when) if known is None else known


# ---------------------------------------------------------------- data exports


def chatgpt(source: str, skip: Skip) -> Conversations:
    """A data export of ChatGPT: its ZIP, its folder, or one of its `conversations` files. Edits are branches."""
    for name, value in _exported(source, skip):
        for one in objects(value):
            nodes = mapping(one.get("mapping"))
            known = str(one.get("conversation_id") or one.get("id") or "")
            if not nodes or not known:
                skip(f"{name} {known}".strip(), "it is no conversation of ChatGPT's")
                continue
            yield Conversation(
                source=known,
                session_id=known,
                name=str(one.get("title") or "")[:60] or None,
                created_us=seconds(one.get("create_time")),
                turns=branched(_ways(nodes, str(one.get("current_node")), known, skip)),
            )


def _ways(nodes: dict[str, Any], current: str, known: str, skip: Skip) -> list[list[Timed]]:
    """The ways from the root to each leaf, that to the current one last."""
    parents = {mapping(node).get("parent") for node in nodes.values()}
    leaves = [name for name in nodes if name not in parents and name != current]
    left: dict[str, int] = {}
    ways = [_way(nodes, leaf, left) for leaf in [*leaves, *([current] if current in nodes else [])]]
    for kind, number in left.items():
        skip(known, f"{number} messages of the kind {kind!r} were left out")
    return [way for way in ways if way]


def _way(nodes: dict[str, Any], leaf: str, left: dict[str, int]) -> list[Timed]:
    path: list[Timed] = []
    seen: set[str] = set()
    at: Any = leaf
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = mapping(nodes[at])
        message = mapping(node.get("message"))
        if message and (made := _chatgpt_message(message, left)) is not None:
            path.append((made, seconds(message.get("create_time")), at))
        at = node.get("parent")
    return path[::-1]


def _chatgpt_message(message: JsonObject, left: dict[str, int]) -> JsonObject | None:
    """What a person or the model has said to the other; of what tools were told and thought only the number is kept."""
    role = mapping(message.get("author")).get("role")
    content = mapping(message.get("content"))
    kind, texts = content.get("content_type"), cast("list[Any]", content.get("parts") or [])
    hidden = mapping(message.get("metadata")).get("is_visually_hidden_from_conversation")
    if role not in ("user", "assistant") or hidden:
        return None
    if kind not in ("text", "multimodal_text") or message.get("recipient", "all") != "all":
        left[str(kind)] = left.get(str(kind), 0) + 1
        return None
    parts = [part if isinstance(part, str) else _file(mapping(part)) for part in texts]
    text = "\n".join(part for part in parts if part)
    return {"role": role, "content": text} if text else None


def _file(part: JsonObject) -> str:
    pointer = part.get("asset_pointer") or part.get("text") or ""
    return f"[{part.get('content_type') or 'file'}: {pointer}]" if pointer else ""


def claude(source: str, skip: Skip) -> Conversations:
    """A data export of Claude: its ZIP, its folder, or its `conversations.json`."""
    for name, value in _exported(source, skip):
        for one in objects(value):
            known, said = str(one.get("uuid") or ""), objects(one.get("chat_messages"))
            if not known or "chat_messages" not in one:
                skip(f"{name} {known}".strip(), "it is no conversation of Claude's")
                continue
            timed = [made for message in said if (made := _claude_message(message)) is not None]
            yield Conversation(
                source=known,
                session_id=known,
                user_id=None,
                name=str(one.get("name") or "")[:60] or None,
                created_us=moment(_with_zone(one.get("created_at"))),
                turns=turns_of(timed),
            )


def _claude_message(message: JsonObject) -> Timed | None:
    role = {"human": "user", "assistant": "assistant"}.get(str(message.get("sender")))
    texts = [one for one in objects(message.get("content")) if one.get("type") == "text"]
    text = spoken(texts) or str(message.get("text") or "")
    for file in (*objects(message.get("attachments")), *objects(message.get("files"))):
        text += f"\n\n[{file.get('file_name') or 'file'}]\n{file.get('extracted_content') or ''}".rstrip()
    if role is None or not text.strip():
        return None
    return {"role": role, "content": text}, moment(_with_zone(message.get("created_at"))), str(message.get("uuid"))


# ---------------------------------------------------------------- files


def _exported(source: str, skip: Skip) -> Iterator[Document]:
    """The files of conversations in a data export."""
    path = Path(source)
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            names = sorted(name for name in packed.namelist() if _is_conversations(name))
            if not names:
                raise InvalidInputError(f"{source!r} has no file of conversations.")
            for name in names:
                if packed.getinfo(name).file_size > LONGEST:
                    skip(name, f"it is longer than {LONGEST:,} bytes")
                    continue
                try:
                    raw = packed.read(name)
                except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: with a password
                    skip(name, f"it cannot be unpacked ({error})")
                    continue
                yield Document(name, _parsed(name, raw, skip))
        return
    files = sorted(one for one in path.rglob("*.json") if _is_conversations(one.name)) if path.is_dir() else [path]
    if not files:
        raise InvalidInputError(f"{source!r} has no file of conversations.")
    for file in files:
        yield Document(file.name, _parsed(file.name, _bytes(file), skip))


def _is_conversations(name: str) -> bool:
    return Path(name).name.startswith("conversations") and name.endswith(".json")


def _documents(source: str, skip: Skip) -> Iterator[Document]:
    """The values of a file: one, or one on each line; of a folder those of its files."""
    path = Path(source)
    files = sorted([*path.glob("*.json"), *path.glob("*.jsonl")]) if path.is_dir() else [path]
    if not files:
        raise InvalidInputError(f"{source!r} has no file that ends in .json or .jsonl.")
    for file in files:
        if file.suffix != ".jsonl":
            yield Document(file.stem, _parsed(file.name, _bytes(file), skip))
            continue
        with _opened(file) as lines:
            number = 0
            while line := lines.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    while line and not line.endswith(b"\n"):
                        line = lines.readline(PIECE)
                    skip(f"{file.name}, line {number}", f"it is longer than {LONGEST_LINE:,} bytes")
                elif line.strip():
                    yield Document(f"{file.stem}-{number}", _parsed(f"{file.name}, line {number}", line, skip))


def _opened(path: Path) -> Any:
    if not path.is_file():
        raise InvalidInputError(f"There is no file {str(path)!r}.")
    return path.open("rb")


def _bytes(path: Path) -> bytes:
    with _opened(path) as file:
        if path.stat().st_size > LONGEST:
            raise CorruptDataError(f"{path.name!r} is longer than {LONGEST:,} bytes.")
        return file.read()


def _parsed(name: str, raw: bytes, skip: Skip) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        skip(name, "it is no JSON")
        return None
