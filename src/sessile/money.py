"""Money: inside it is an integer number of nano-dollars, outside a `Decimal` of US dollars."""

from __future__ import annotations

from decimal import Decimal

from .errors import InvalidInputError

NANO = 10**9
"""Nano-dollars in a dollar."""


def nano_dollars(cost: Decimal | float) -> int:
    """Dollars as nano-dollars. Raises `InvalidInputError` for what is no finite number."""
    try:
        return round(Decimal(cost) * NANO)
    except (ArithmeticError, TypeError, ValueError):
        raise InvalidInputError(f"usage.cost must be a number of dollars; it is {cost!r}.") from None
