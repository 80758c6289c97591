"""What both protocols share when a reply becomes bytes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from uuid import uuid4

from .wire import Json


@dataclass(frozen=True)
class StreamEvent:
    """One event of a stream; `delta` says that it carries a piece of the answer (text or arguments)."""

    data: str
    name: str | None = None
    delta: bool = False

    @property
    def wire(self) -> bytes:
        """The event as server-sent bytes."""
        head = f"event: {self.name}\n" if self.name else ""
        return f"{head}data: {self.data}\n\n".encode()


def dump(value: Json) -> str:
    """Compact JSON in ASCII, which also carries lone surrogates."""
    return json.dumps(value, separators=(",", ":"))


def new_id(prefix: str) -> str:
    """An id that no other answer of any server has."""
    return f"{prefix}{uuid4().hex}"


def pieces(text: str) -> list[str]:
    """A text cut into words with the blanks behind them; joined they are the text again."""
    return re.findall(r"\s*\S+\s*|\s+", text)


def argument_pieces(arguments: str) -> list[str]:
    """The arguments of a call cut into short pieces, without regard to what they hold."""
    return [arguments[start : start + 8] for start in range(0, len(arguments), 8)]


def error_body(status: int, message: str | None = None, param: str | None = None, code: str | None = None) -> Json:
    """The error body that OpenAI sends with a status."""
    known = {
        401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
        404: ("Invalid URL or model.", "invalid_request_error", "not_found"),
        429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    }
    other = "server_error" if status >= 500 else "invalid_request_error"
    text = "The server had an error while processing your request." if status >= 500 else "Invalid request."
    default, kind, default_code = known.get(status, (text, other, None))
    return {"error": {"message": message or default, "type": kind, "param": param, "code": code or default_code}}
