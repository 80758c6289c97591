"""Sample sessions for `sessile demo --dashboard`: two weeks of a small shop's agents, the same each time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ..records import JsonObject, Usage
from ..storage import Storage
from ..storage.core import Core
from ..storage.driver import Deadline
from ..storage.rows import Loaded
from ..storage.storage import operate, wrap
from ..storage.wrapping import WrappedDriver
from ..times import micros_of

FORMAT = "pydantic-ai/2"

PRICES = {
    "gpt-5-mini": (Decimal("0.25"), Decimal(2)),
    "claude-haiku-4-5": (Decimal(1), Decimal(5)),
    "gemini-3.5-flash-lite": (Decimal("0.1"), Decimal("0.4")),
}
"""Dollars for a million tokens, in and out: made up for the samples."""

USERS = ("ada", "grace", "linus", "margaret", "alan", "barbara", "ken", "نور", "mei")
DAYS = 14


@dataclass
class Said:
    """A sample of a run: what was asked, what was called, what was answered."""

    asked: str
    answer: str
    calls: Sequence[tuple[str, JsonObject, Any]] = ()
    thought: str = ""
    state: JsonObject = field(default_factory=dict[str, Any])
    error: JsonObject | None = None
    rated: tuple[float, str] | None = None


class _Then(WrappedDriver):
    """A driver whose database has another time."""

    at = 0

    async def now(self, deadline: Deadline) -> int:
        """That other time."""
        return self.at or await super().now(deadline)

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        """As the inner one's, at another time."""
        loaded = await super().load(session_id, newest, deadline)
        return None if loaded is None else loaded._replace(now=self.at)


class Filling:
    """Fills a new storage, as if all had happened in the last two weeks."""

    def __init__(self, storage: Storage) -> None:
        self._storage, self._random = storage, random.Random(16)
        self._times = random.Random(5)  # apart, so that what is said does not depend on it
        self._thens: list[_Then] = []
        wrap(storage, self._wrapped)
        self.now = datetime.now(UTC).replace(microsecond=0)

    def _wrapped(self, driver: Any) -> _Then:
        then = _Then(driver)
        self._thens.append(then)
        return then

    def _at(self, moment: datetime) -> None:
        """From now on it is this time for the database."""
        micros = micros_of(moment)
        for then in self._thens:
            then.at = micros

        async def set_clock(core: Core) -> None:
            core.clock.set(micros)

        operate(self._storage, set_clock)

    def session(
        self, session_id: str, said: Sequence[Said], *, began: datetime, name: str | None, agent: str, user: str
    ) -> None:
        """Store a session whose first run began then."""
        moment = began
        for number, one in enumerate(said, 1):
            model = self._random.choice(list(PRICES))
            seconds = round(self._random.lognormvariate(0.6, 0.7) + len(one.calls) * 0.7, 3)
            ended = moment + timedelta(seconds=seconds)
            self._at(ended)
            messages, usage = _messages(one, model, moment, seconds)
            self._storage.add_run(
                session_id,
                input=one.asked,
                output=None if one.error else one.answer,
                messages=messages,
                status="failed" if one.error else "completed",
                error=one.error,
                usage=usage,
                state=one.state or None,
                user_id=user,
                agent=agent,
                format=FORMAT,
                started_at=moment,
                ended_at=ended,
                first_token=round(self._times.uniform(0.15, 0.45) * seconds, 3) if self._times.random() < 0.7 else None,
            )
            if one.rated is not None:
                score, comment = one.rated
                self._storage.rate(session_id, number, score=score, comment=comment or None, by="grace", user_id=user)
            moment = ended + timedelta(seconds=self._random.randint(20, 400))
        if name is not None:
            self._storage.rename(session_id, name, user_id=user)

    def fill(self, many: Callable[[random.Random], tuple[str, str, list[Said]]], count: int) -> None:
        """Store further sessions, spread over the two weeks."""
        for number in range(count):
            hours = self._random.expovariate(1 / 90) % (DAYS * 24)
            name, agent, said = many(self._random)
            user = self._random.choice(USERS)
            began = self.now - timedelta(hours=hours + 0.4, minutes=self._random.randint(0, 59))
            self.session(f"{agent}-{number:03}", said, began=began, name=name, agent=agent, user=user)

    def done(self) -> None:
        """It is now again."""
        self._at(datetime.now(UTC))


def _messages(one: Said, model: str, began: datetime, seconds: float) -> tuple[list[JsonObject], Usage]:
    """The messages of a run, as Pydantic AI has them, and what they used."""
    steps = len(one.calls) + 1
    asked: JsonObject = {"kind": "request", "parts": [_part("user-prompt", one.asked, began)]}
    messages, total = [asked], Usage(cost=0)
    tokens = 180 + len(one.asked) // 3
    for number in range(steps):
        moment = began + timedelta(seconds=seconds * (number + 1) / steps)
        parts: list[JsonObject] = [_part("thinking", one.thought, None)] if one.thought and number == 0 else []
        call = one.calls[number] if number < len(one.calls) else None
        if call is not None:
            parts.append(
                {"part_kind": "tool-call", "tool_name": call[0], "args": call[1], "tool_call_id": f"call_{number}"}
            )
        elif one.error is None:
            parts.append(_part("text", one.answer, None))
        if not parts:
            break
        used = 25 + len(str(parts)) // 4
        price_in, price_out = PRICES[model]
        cost = (tokens * price_in + used * price_out) / 10**6
        usage = {"input_tokens": tokens, "output_tokens": used, "cost": str(cost)}
        response: JsonObject = {"kind": "response", "parts": parts, "usage": usage, "model_name": model}
        messages.append({**response, "timestamp": moment.isoformat()})
        total += Usage(1, tokens, used, tool_calls=int(call is not None), cost=cost)
        tokens += used
        if call is not None and call[2] is not None:
            returned = {**_part("tool-return", call[2], moment), "tool_name": call[0], "tool_call_id": f"call_{number}"}
            messages.append({"kind": "request", "parts": [returned]})
            tokens += len(str(call[2])) // 4
    return messages, total


def _part(kind: str, content: Any, moment: datetime | None) -> JsonObject:
    timed = {} if moment is None else {"timestamp": moment.isoformat()}
    return {"part_kind": kind, "content": content, **timed}
