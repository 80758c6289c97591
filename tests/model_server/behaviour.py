"""How a request is answered, apart from what the answer says: errors, cuts, delays."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = re.compile(r"\[(\d{3}|cut-stream|cut|hang-stream|hang|slow|delay)(?: (\d+(?:\.\d+)?))?\]")


@dataclass(frozen=True)
class Behaviour:
    """What happens to one request; the fields may be combined. The default is an answer at once.

    Order: `delay` (seconds), `hang` (until the server releases it), `cut` (the connection ends without any
    answer), `status` (an HTTP error with an OpenAI body; `retry_after` is sent with 429 and 503), the answer.

    `slow` waits that many seconds between the events of a stream. `cut_stream` ends the connection in the
    middle: after half of the deltas of a stream, after half of the bytes of a plain answer. `hang_stream`
    waits at the same place until the server releases it, and then goes on.
    """

    status: int | None = None
    retry_after: str = "1"
    cut: bool = False
    cut_stream: bool = False
    slow: float = 0.0
    delay: float = 0.0
    hang: bool = False
    hang_stream: bool = False


def parse_behaviour(text: str) -> Behaviour:
    """The behaviour that the marks in a text ask for; all other text is ignored.

    Marks: `[429]`, `[429 0.05]` (with this Retry-After), `[500]` and any other status from 400 to 599,
    `[cut]`, `[cut-stream]`, `[slow 0.05]`, `[delay 0.5]`, `[hang]`, `[hang-stream]`.
    """
    found = dict(_MARK.findall(text))
    status = next((int(name) for name in found if name.isdigit() and 400 <= int(name) < 600), None)
    return Behaviour(
        status=status,
        retry_after=found.get(str(status)) or "1",
        cut="cut" in found,
        cut_stream="cut-stream" in found,
        slow=float(found.get("slow") or 0),
        delay=float(found.get("delay") or 0),
        hang="hang" in found,
        hang_stream="hang-stream" in found,
    )


def planned_behaviour(text: str) -> Behaviour:
    """The behaviour a planned text names: `ok`, or marks with or without brackets (`429`, `slow 0.05`)."""
    behaviour = parse_behaviour(text if "[" in text else f"[{text}]")
    if behaviour == Behaviour() and text != "ok":
        raise ValueError(f"no behaviour of the model server: {text!r}")
    return behaviour
