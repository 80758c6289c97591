"""What responses have cost that another library has stored: each by its own model and time, never by a sum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ...money import nano_dollars
from ...records import Usage

MOST = 1_000_000.0
"""US dollars: a response that is said to have cost more is a mistake."""


def cost_of(used: Usage, model: Any, provider: Any, when: int) -> Decimal | None:
    """The cost of one response in US dollars by the list of prices of that time (microseconds UTC).

    None where the model or the time is not known, nothing was counted, or the list has no such model.
    """
    counted = used.input_tokens or used.output_tokens
    if not isinstance(model, str) or not model or not when or not counted:
        return None
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    tokens = Tokens(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        cache_read_tokens=used.cache_read_tokens,
        cache_write_tokens=used.cache_write_tokens,
    )
    known = provider if isinstance(provider, str) and provider else None
    try:
        at = datetime.fromtimestamp(when / 1_000_000, UTC)
        return calc_price(tokens, model, provider_id=known, genai_request_timestamp=at).total_price
    except (LookupError, ValueError, AssertionError):  # no such model; counts that do not fit together
        return None


def told_cost(value: Any) -> Decimal | None:
    """A cost that the source itself has kept, in US dollars; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        amount = float(value)
    except ValueError:
        return None
    return Decimal(str(value)) if math.isfinite(amount) and 0 <= amount <= MOST else None


def priced(used: Usage, costs: Iterable[Decimal | None]) -> Usage:
    """What was counted, with what is known of the cost of its requests, in their order; None: not known."""
    known = [cost for cost in costs if cost is not None]
    used.nano_dollars = sum(map(nano_dollars, known))
    used.unpriced = max(used.requests - len(known), 0) if known else used.unpriced
    return used
