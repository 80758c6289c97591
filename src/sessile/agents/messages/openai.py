"""OpenAI's messages as Pydantic AI's, and back: those of chat completions, and the items of Responses.

Conversations come from elsewhere in the one form or the other (`format="openai"`), and go elsewhere, too. Both are
JSON as the services document it: developers.openai.com/api/reference/resources/chat, and …/resources/responses.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, cast

from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryFeedbackPart,
    SystemPromptPart,
    TextContent,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserContent,
    UserPromptPart,
    VideoUrl,
)

from ...errors import UnknownFormatError
from ...records import JsonObject
from ...storage.formats import OPENAI

Api = Literal["chat", "responses"]

HOSTED = {"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "item_reference"}
"""Items about what the service has done itself: the answer tells of it, and no model needs them again."""

_SYSTEM = ("system", "developer")


def is_openai(format: str | None) -> bool:
    """Whether messages of this format are OpenAI's, in either form."""
    return format is not None and (format == OPENAI or format.startswith((f"{OPENAI}-", f"{OPENAI}/", f"{OPENAI}_")))


# ---------------------------------------------------------------- from OpenAI's


def from_openai(messages: Sequence[JsonObject]) -> list[ModelMessage]:
    """Messages of chat completions, or items of Responses, as Pydantic AI's, in their order.

    What follows each other on one side becomes one message: the results of tools and the user's words after them, or
    an answer and its calls. What was thought is left out, because only the service that wrote it can read it.

    Raises:
        UnknownFormatError: something in them has no form in Pydantic AI: files that only the service has, for example.
    """
    reader = _Reader()
    for message in messages:
        try:
            reader.read(message)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UnknownFormatError(f"A message is none of OpenAI's: {type(error).__name__}.") from None
    return reader.messages


class _Reader:
    """Gathers parts into messages."""

    def __init__(self) -> None:
        self.messages: list[ModelMessage] = []
        self._tools: dict[str, str] = {}

    def read(self, message: JsonObject) -> None:
        """Add one message, or item."""
        kind, role = message.get("type") or "message", message.get("role")
        if kind == "message" and role in _SYSTEM:
            self._ask(SystemPromptPart(_text(message["content"])))
        elif kind == "message" and role == "user":
            self._ask(UserPromptPart(_content(message["content"])))
        elif kind == "message" and role == "assistant":
            self._answer(message)
        elif kind == "message" and role in ("tool", "function"):
            self._result(message.get("tool_call_id") or message.get("name") or "", message.get("content"), message)
        elif kind in ("function_call", "custom_tool_call"):
            self._call(message["call_id"], message["name"], message.get("arguments", message.get("input")))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            self._result(message["call_id"], message.get("output"), message)
        elif kind != "reasoning" and kind not in HOSTED:
            raise UnknownFormatError(f"Messages of OpenAI's of the kind {kind!r}, role {role!r}, cannot be sent.")

    def _answer(self, message: JsonObject) -> None:
        text = _text(message.get("content") or "") or message.get("refusal") or ""
        if text:
            self._say(TextPart(text))
        calls: list[JsonObject] = message.get("tool_calls") or []
        for call in calls:
            said: JsonObject = call.get("function") or call["custom"]
            self._call(call["id"], said["name"], said.get("arguments", said.get("input")))
        legacy = message.get("function_call")
        if legacy:
            self._call(legacy["name"], legacy["name"], legacy.get("arguments"))

    def _call(self, call_id: str, name: str, args: Any) -> None:
        self._tools[call_id] = name
        self._say(ToolCallPart(name, args, call_id))

    def _result(self, call_id: str, content: Any, message: JsonObject) -> None:
        name = self._tools.get(call_id) or message.get("name") or "tool"
        items = [] if isinstance(content, str) or content is None else _items(content)
        if all(isinstance(item, str) for item in items):
            returned: Any = "\n".join(cast(list[str], items)) if items else content or ""
        else:
            returned = items
        self._ask(ToolReturnPart(name, returned, call_id))

    def _ask(self, part: ModelRequestPart) -> None:
        last = self.messages[-1] if self.messages else None
        if isinstance(last, ModelRequest):
            last.parts = [*last.parts, part]
        else:
            self.messages.append(ModelRequest(parts=[part]))

    def _say(self, part: ModelResponsePart) -> None:
        last = self.messages[-1] if self.messages else None
        if isinstance(last, ModelResponse):
            last.parts = [*last.parts, part]
        else:
            self.messages.append(ModelResponse(parts=[part]))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    texts = [item.get("text") or item.get("refusal") or "" for item in cast(list[JsonObject], content)]
    return "\n".join(text for text in texts if text)


def _content(content: Any) -> str | list[UserContent]:
    if isinstance(content, str):
        return content
    items = _items(content)
    return items[0] if len(items) == 1 and isinstance(items[0], str) else items


def _items(content: list[JsonObject]) -> list[UserContent]:
    return [_READ[item["type"]](item) for item in content]


def _image(item: JsonObject) -> UserContent:
    given: Any = item.get("image_url")
    detail = item.get("detail")
    if isinstance(given, dict):
        image = cast(JsonObject, given)
        given, detail = image["url"], image.get("detail", detail)
    return _at(given, ImageUrl, {"detail": detail} if detail in ("low", "high") else None)


def _at(url: Any, kind: Callable[..., Any], settings: JsonObject | None = None) -> UserContent:
    """Content at an address, or in it."""
    if not isinstance(url, str) or not url:
        raise UnknownFormatError("A file that only OpenAI has cannot be sent to a model.")
    if not url.startswith("data:"):
        return kind(url=url, vendor_metadata=settings)
    found = BinaryContent.from_data_uri(url)
    found.vendor_metadata = settings
    return found


def _audio(item: JsonObject) -> UserContent:
    said = cast(JsonObject, item["input_audio"])
    return BinaryContent(
        _decoded(said["data"]), media_type=f"audio/{'mpeg' if said['format'] == 'mp3' else said['format']}"
    )


def _file(item: JsonObject) -> UserContent:
    given = cast(JsonObject, item.get("file") or item)
    data = given.get("file_data")
    if isinstance(data, str) and not data.startswith("data:"):
        return BinaryContent(_decoded(data), media_type="application/pdf")
    return _at(data or given.get("file_url"), DocumentUrl)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        raise UnknownFormatError("The data of a file are no base64.") from None


def _of_text(item: JsonObject) -> UserContent:
    return cast(str, item["text"])


_READ: dict[str, Callable[[JsonObject], UserContent]] = {
    "text": _of_text,
    "input_text": _of_text,
    "output_text": _of_text,
    "refusal": lambda item: cast(str, item["refusal"]),
    "image_url": _image,
    "input_image": _image,
    "input_audio": _audio,
    "file": _file,
    "input_file": _file,
}


# ---------------------------------------------------------------- to OpenAI's


def to_openai(messages: Sequence[ModelMessage], *, api: Api = "chat") -> list[JsonObject]:
    """Pydantic AI's messages as those of chat completions, or (`api="responses"`) as items of Responses.

    Instructions come first, as a system message. What was thought is left out, and of media that neither form has their
    address stands in the text.
    """
    chat = api == "chat"
    return [
        item for message in messages for item in (_of_message_chat(message) if chat else _of_message_items(message))
    ]


def _of_message_chat(message: ModelMessage) -> Iterator[JsonObject]:
    if isinstance(message, ModelRequest):
        for role, part, content in _requested(message, chat=True):
            yield (
                {"role": role, "content": content}
                if part is None
                else {
                    "role": "tool",
                    "tool_call_id": part.tool_call_id,
                    "content": content,
                }
            )
        return
    calls = [
        {"id": call.tool_call_id, "type": "function", "function": {"name": call.tool_name, "arguments": _args(call)}}
        for call in message.tool_calls
    ]
    text = _said(message)
    if text or calls:
        yield {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}


def _of_message_items(message: ModelMessage) -> Iterator[JsonObject]:
    if isinstance(message, ModelRequest):
        for role, part, content in _requested(message, chat=False):
            if part is None:
                yield {"type": "message", "role": role, "content": content}
            else:
                yield {"type": "function_call_output", "call_id": part.tool_call_id, "output": content}
        return
    text = _said(message)
    if text:
        yield {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    for call in message.tool_calls:
        name, args = call.tool_name, _args(call)
        yield {"type": "function_call", "call_id": call.tool_call_id, "name": name, "arguments": args}


def _requested(message: ModelRequest, *, chat: bool) -> Iterator[tuple[str, ToolReturnPart | None, Any]]:
    """The parts of a request: the role, the part of a tool's result or None, the content."""
    if message.instructions:
        yield "system", None, message.instructions
    for part in message.parts:
        if isinstance(part, SystemPromptPart):
            yield "system", None, part.content
        elif isinstance(part, UserPromptPart):
            is_text = isinstance(part.content, str)
            yield "user", None, part.content if is_text else [_written(item, chat=chat) for item in part.content]
        elif isinstance(part, ToolReturnPart):
            yield "tool", part, part.model_response_str()
        elif isinstance(part, RetryFeedbackPart):
            yield "user", None, part.model_response()


def _said(message: ModelResponse) -> str:
    return "\n\n".join(part.content for part in message.parts if isinstance(part, TextPart))


def _args(call: ToolCallPart) -> str:
    return call.args if isinstance(call.args, str) else json.dumps(call.args or {}, ensure_ascii=False)


def _written(item: Any, *, chat: bool) -> JsonObject:
    """One item of a user's prompt."""
    if isinstance(item, BinaryContent) and item.is_audio:
        data = base64.b64encode(item.data).decode()
        return {"type": "input_audio", "input_audio": {"data": data, "format": item.format}}
    if isinstance(item, BinaryContent) and not item.is_image:
        file = {"file_data": item.data_uri, "filename": f"file.{item.format}"}
        return {"type": "file", "file": file} if chat else {"type": "input_file", **file}
    if isinstance(item, (ImageUrl, BinaryContent)):
        url = item.url if isinstance(item, ImageUrl) else item.data_uri
        return {"type": "image_url", "image_url": {"url": url}} if chat else {"type": "input_image", "image_url": url}
    if isinstance(item, DocumentUrl) and not chat:
        return {"type": "input_file", "file_url": item.url}
    if isinstance(item, (AudioUrl, VideoUrl, DocumentUrl)):
        text = item.url
    else:
        text = item.content if isinstance(item, TextContent) else item if isinstance(item, str) else ""
    return {"type": "text" if chat else "input_text", "text": text}
