"""Taking out of texts what must not be stored, or passed on.

```python
from sessile import SqliteStorage
from sessile.redaction import Patterns

storage = SqliteStorage("sessions.db", redact=Patterns("mail", "card", customer=r"C-[0-9]{8}"))
```

Any function that is given a text and returns one is a redaction. `Patterns` is one that is made of regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from .errors import InvalidInputError

Redaction = Callable[[str], str]
"""Takes out of a text what must not be in it. Called in any thread, often; must return the same for the same text."""

KNOWN: Mapping[str, str] = {
    "mail": r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+",
    "phone": r"(?<![\w+])\+[0-9](?:[ ()/-]?[0-9]){6,14}(?![0-9])",
    "card": r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])",
    "iban": r"(?<!\w)[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}(?!\w)",
    "ip": r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w.])",
    "key": r"(?<![\w-])(?:sk|pk|rk|ghp|gho|xox[abp]|AKIA|AIza)[-_]?[A-Za-z0-9_-]{16,}",
}
"""Patterns by name. They find what looks like it: cards and IBANs by their check digits."""


class Patterns:
    """A redaction by regular expressions: what one matches becomes its name in brackets, `[mail]`.

    Args:
        known: names of patterns that are known: `mail`, `phone` (with a `+`), `card`, `iban`, `ip`, `key` (of known
            providers).
        **own: patterns of your own, by name.

    Raises:
        InvalidInputError: there is none, a name is not known, or a pattern cannot be read or matches nothing at all.
    """

    def __init__(self, *known: str, **own: str) -> None:
        unknown = [name for name in known if name not in KNOWN]
        if unknown:
            raise InvalidInputError(f"There is no pattern {unknown[0]!r}.", hint=f"Known are: {', '.join(KNOWN)}.")
        self._patterns = [(name, _compiled(name, text)) for name, text in own.items()]
        self._patterns += [(name, re.compile(KNOWN[name])) for name in KNOWN if name in known]
        if not self._patterns:
            raise InvalidInputError("Patterns needs a pattern.", hint='For example Patterns("mail").')

    def __call__(self, text: str) -> str:
        """The text without what the patterns match."""
        for name, pattern in self._patterns:
            text = pattern.sub(lambda found, name=name: _mark(name, found[0]), text)
        return text


def _compiled(name: str, text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except (re.error, TypeError) as error:
        raise InvalidInputError(f"The pattern {name!r} cannot be read: {error}.") from error
    if pattern.match(""):
        raise InvalidInputError(f"The pattern {name!r} matches what is empty.")
    return pattern


def _mark(name: str, found: str) -> str:
    checked = {"card": _is_card, "iban": _is_iban}.get(name)
    return found if checked is not None and not checked(found) else f"[{name}]"


def _is_card(text: str) -> bool:
    """Whether the digits add up as Luhn has it."""
    digits = [int(one) for one in text if one.isdigit()][::-1]
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * one, 10)) for one in digits[1::2]) % 10


def _is_iban(text: str) -> bool:
    plain = text.replace(" ", "")
    return int("".join(str(int(one, 36)) for one in plain[4:] + plain[:4])) % 97 == 1
