"""The turn that every contender stores: one user request and one model response.

As Pydantic AI's JSON the two messages take about 3 KB. Peers get the same texts and token counts and put
them in their own messages, as their agents do. This module needs the standard library only, so that it runs
in every peer's environment.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

USER_CHARS = 200
ANSWER_CHARS = 450
SENTENCE = (
    "the quick session keeps its log while an agent answers another request about storage and asks a tool "
    "for weather in Paris or the price of a ticket then writes the result back with great care for every "
    "user who returns tomorrow from a different machine to pick up exactly where the last message stopped"
)
WORDS = SENTENCE.split()


class Exchange(NamedTuple):
    """What happens in one turn, apart from any format."""

    number: int
    user: str
    answer: str
    input_tokens: int
    output_tokens: int


def text(chars: int, seed: int) -> str:
    """Words up to a length of exactly `chars`; the same for the same seed."""
    rng = random.Random(seed)
    words: list[str] = []
    length = 0
    while length < chars:
        words.append(rng.choice(WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)[:chars].ljust(chars, ".")


_TEXTS = [(text(USER_CHARS, 2 * n), text(ANSWER_CHARS, 2 * n + 1)) for n in range(64)]


def exchange(number: int) -> Exchange:
    """The turn with that number; texts repeat every 64 turns, their numbers do not."""
    user, answer = _TEXTS[number % len(_TEXTS)]
    head = f"{number}: "
    return Exchange(number, head + user[len(head) :], head + answer[len(head) :], 900 + number % 50, 300)


def messages(turn: Exchange) -> list[dict[str, Any]]:
    """The two messages of a turn as Pydantic AI writes them to JSON."""
    run_id = f"01a205f4-8559-7067-8620-{turn.number:012x}"
    conversation_id = "01a205f4-8559-7067-8620-ca7fa67fb5e1"
    time = "2026-01-31T12:00:00.123456Z"
    request: dict[str, Any] = {
        "parts": [{"content": turn.user, "timestamp": time, "part_kind": "user-prompt"}],
        "timestamp": time,
        "instructions": None,
        "kind": "request",
        "run_id": run_id,
        "conversation_id": conversation_id,
        "metadata": None,
        "state": "complete",
    }
    response: dict[str, Any] = {
        "parts": [
            {
                "content": turn.answer,
                "id": None,
                "provider_name": None,
                "provider_details": None,
                "citations": None,
                "part_kind": "text",
            }
        ],
        "usage": usage(turn),
        "model_name": "benchmark",
        "model_id": "function:benchmark",
        "timestamp": time,
        "kind": "response",
        "provider_name": None,
        "provider_url": None,
        "canonical_system": None,
        "provider_details": None,
        "provider_response_id": None,
        "finish_reason": None,
        "run_id": run_id,
        "conversation_id": conversation_id,
        "metadata": None,
        "workspace_ref": None,
        "history_digest": None,
        "failed_attempts": None,
        "state": "complete",
    }
    return [request, response]


def usage(turn: Exchange) -> dict[str, Any]:
    """The token counts of a turn as Pydantic AI writes them to JSON."""
    return {
        "input_tokens": turn.input_tokens,
        "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0,
        "cache_read_tokens": 0,
        "output_tokens": turn.output_tokens,
        "output_reasoning_tokens": 0,
        "input_audio_tokens": 0,
        "cache_audio_read_tokens": 0,
        "output_audio_tokens": 0,
        "audio_seconds": 0.0,
        "details": {},
        "cost": None,
    }
