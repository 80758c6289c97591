"""What a text is searched by: one tokenizer for texts and questions, so that the hits are the same on every database.

Text is brought into one form (NFKC, case folded, accents and vowel marks off). Its *units* are words of letters and
digits, and single characters of the scripts that write no blanks (Chinese, Japanese, Korean, Thai and others). Its
*tokens* are its units; the parts of `camelCase`; and pairs: of characters beside each other in those scripts, and of
the parts of what is written together (`customer_id`, `ORD-7781`, `src/app/main.py`, `gpt-5.1`). A question asks for all
of its tokens, so that engines only ever look up single tokens; what must stand together in it (`"a phrase"`, a longer
identifier) is then checked on the stored text, by the same units.

Engines get each token as an ASCII word (`term`), and so have nothing to parse.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from hashlib import blake2s
from itertools import islice, pairwise
from math import log

MOST_TOKENS = 50_000
"""How many different tokens of one run are kept; of more the first ones, and the run is marked."""

_DENSE = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Myanmar
    "\u1100-\u11ff\uac00-\ud7ff"  # Korean
    "\u1780-\u17ff"  # Khmer
    "\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff"  # radicals, kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003ffff"
)
"""Ranges of the scripts whose words stand together without blanks."""

_LONGEST = 40
_SHORT = 10_000
_ASCII_UNITS = re.compile(r"[a-z0-9]+")
_ASCII = {code: chr(code) for code in range(128)}
_WITH_POINTS = {
    code: char.lower() if char.isalnum() else "." if char in "_-./:" else " " for code, char in _ASCII.items()
}
_CASES = {code: "A" if char.isupper() else "a" if char.isalnum() else " " for code, char in _ASCII.items()}
_LETTERS = {code: "a" if char.isalnum() else " " for code, char in _ASCII.items()}
"""For `str.translate`, which is much faster than a pattern is: units of ASCII, with a point for what may hold them
together; which characters are capitals, and which other letters or digits; and which are any of these."""
_TOO_LONG = "a" * (_LONGEST + 1)
_ASCII_TOGETHER = re.compile(r"(?<![a-z0-9])[a-z0-9]++(?:[_\-./:]++[a-z0-9]++)+")
_SEPARATORS = re.compile(r"[_\-./:]+")
_CAMEL = re.compile(r"(?<![^\W_])(?:[a-z0-9]++|[A-Z]+(?![a-z])|[A-Z][a-z0-9]++){2,}+(?![^\W_])")
_HUMP = re.compile("[a-z0-9][A-Z]|[A-Z][A-Z][a-z]")
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_RARE = re.compile("[\U00010000-\U0010ffff]")
_PHRASE = re.compile(r'"([^"]*)(?:"|$)')


class _Patterns:
    """What is not of ASCII, compiled when the first such text comes: that takes longer than all else of the import."""

    @cached_property
    def units(self) -> re.Pattern[str]:
        return re.compile(rf"[{_DENSE}]|[^\W_{_DENSE}]+")

    @cached_property
    def together(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![^\W_{_DENSE}])[^\W_{_DENSE}]++(?:[_\-./:]++[^\W_{_DENSE}]++)+")

    @cached_property
    def dense_run(self) -> re.Pattern[str]:
        return re.compile(rf"[{_DENSE}]{{2,}}")


_any_script = _Patterns()

PAIR = "\u00b7"
"""Stands between the halves of a pair; no unit has it."""


def folded(text: str) -> str:
    """A text in the form in which it is compared."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    common, rare = _marks()
    bare = common.sub("", decomposed)
    if _RARE.search(bare):
        bare = rare.sub("", bare)
    return unicodedata.normalize("NFC", bare)  # Korean syllables whole again


@cache
def marks() -> tuple[str, str]:
    """What is taken off, combining marks and the Arabic stretching line, as two patterns of one character.

    Those within 16 bits are looked up in a table, but only while no others stand in the same brackets: these are
    compared one by one, a thousand of them with each character of a text.
    """
    common, rare = ["\u0640"], list[str]()
    for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "M" and not re.match(f"[{_DENSE}]", chr(code)):
            (common if code < 0x10000 else rare).append(chr(code))
    return f"[{''.join(common)}]", f"(?={_RARE.pattern})[{''.join(rare)}]"


@cache
def _marks() -> tuple[re.Pattern[str], re.Pattern[str]]:
    common, rare = marks()
    return re.compile(f"{common}+"), re.compile(rare)


def units(text: str) -> list[str]:
    """The words, and single characters, of a text in their order."""
    form = folded(text)
    return (_ASCII_UNITS if form.isascii() else _any_script.units).findall(form)


def count_tokens(texts: Iterable[str]) -> Counter[str]:
    """The tokens of some texts, and how often each occurs."""
    plain, others = _counted(texts)
    return plain + others


def _counted(texts: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """The tokens of some texts: words of ASCII that are their own terms, which most are, and all others."""
    plain: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for text in _together(texts):
        form = text if text.isascii() else folded(text)
        if form.isascii():
            _count_ascii(form, plain, others)
        else:
            others.update(_any_script.units.findall(form))
            for run in _any_script.dense_run.findall(form):
                others.update(_pairs(run))
            for word in _any_script.together.findall(form):
                others.update(_pairs(_SEPARATORS.split(word)))
        if _has_hump(text):
            for word in _CAMEL.findall(text):
                parts = _HUMPS.split(word)
                others.update(folded(part) for part in parts if len(parts) > 1)
        if len(plain) + len(others) > MOST_TOKENS:
            break
    return plain, others


def _together(texts: Iterable[str]) -> Iterator[str]:
    """The texts; short ones of ASCII as one, because each costs time beside that of its words."""
    short: list[str] = []
    for text in texts:
        if len(text) > _SHORT or not text.isascii():
            if short:
                yield "\n".join(short)
                short = []
            yield text
        else:
            short.append(text)
    if short:
        yield "\n".join(short)


def _has_hump(text: str) -> bool:
    if not text.isascii():
        return _HUMP.search(text) is not None
    cases = text.translate(_CASES)
    return "A" in cases and ("aA" in cases or "AAa" in cases)


def _count_ascii(text: str, plain: Counter[str], others: Counter[str]) -> None:
    form = text.translate(_WITH_POINTS)
    if "." in form:
        form = form.replace(". ", " ")  # at the end of a sentence nothing is held together
    words = form.split()
    if "." in form:
        for word in words:
            if "." in word:
                others.update(_pairs([part for part in word.split(".") if part]))
        words = form.replace(".", " ").split()
    if _TOO_LONG in text.translate(_LETTERS):
        others.update(word for word in words if len(word) > _LONGEST)
        words = [word for word in words if len(word) <= _LONGEST]
    plain.update(words)


def _pairs(parts: list[str] | str) -> Iterator[str]:
    return (f"{one}{PAIR}{other}" for one, other in pairwise(parts))


@dataclass(frozen=True, slots=True)
class Question:
    """What is searched for: all of these tokens, and these rows of units, each beside the other."""

    tokens: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    def holds(self, texts: Iterable[str]) -> bool:
        """Whether each phrase stands in one of the texts."""
        rows = [_row(units(text)) for text in texts] if self.phrases else []
        return all(any(_row(phrase) in row for row in rows) for phrase in self.phrases)

    def words(self) -> frozenset[str]:
        """The units that are highlighted."""
        return frozenset(unit for token in self.tokens for unit in token.split(PAIR))


def _row(row: Iterable[str]) -> str:
    return f" {' '.join(row)} "


def question(text: str) -> Question:
    """What a user's words ask for: all of the words, and what stands between quotation marks as a phrase.

    Nothing else in them is syntax. There may be no tokens at all, where nothing but signs was given.
    """
    tokens: dict[str, None] = {}
    phrases: dict[tuple[str, ...], None] = {}
    chunks = [match[1] for match in _PHRASE.finditer(text)] + _PHRASE.sub(" ", text).split()
    for chunk in chunks:
        row = tuple(units(chunk))
        asked = _asked(chunk, row)
        tokens.update(dict.fromkeys(asked))
        if len(row) > 2 or (len(row) == 2 and PAIR.join(row) not in asked):
            phrases[row] = None
    return Question(tuple(tokens), tuple(phrases))


def _asked(chunk: str, row: tuple[str, ...]) -> list[str]:
    """The tokens of one word or phrase of a question; pairs of characters make the single ones needless."""
    form = folded(chunk)
    together = _ASCII_TOGETHER if form.isascii() else _any_script.together
    pairs = [pair for word in together.findall(form) for pair in _pairs(_SEPARATORS.split(word))]
    if not form.isascii():
        pairs += [pair for run in _any_script.dense_run.findall(form) for pair in _pairs(run)]
    paired = {half for pair in pairs for half in pair.split(PAIR)}
    return [*pairs, *(unit for unit in row if unit not in paired)]


def ranked(texts: Sequence[str], query: str) -> list[int]:
    """The places of those texts that have words of a query: of more, and rarer ones, first; equals in their order."""
    asked = set(count_tokens([query]))
    have = [asked & set(count_tokens([text])) for text in texts]
    common = Counter(word for words in have for word in words)
    rare = {word: log(1 + len(texts) / count) for word, count in common.items()}
    order = sorted(range(len(texts)), key=lambda place: -sum(rare[word] for word in have[place]))
    return [place for place in order if have[place]]


# ---------------------------------------------------------------- what engines see


def term(token: str) -> str:
    """A token as an engine gets it: one of ASCII letters and digits as it is, another one as its hash behind a line."""
    if token.isascii() and token.isalnum() and len(token) <= _LONGEST:  # all are folded: there are no capitals
        return token
    return f"_x{_hash(token)}"


def user_term(user_id: str | None) -> str:
    """What stands in the text of a user's runs, and in no text."""
    return f"_u{_hash('' if user_id is None else f'+{user_id}')}"


def session_term(session_id: str) -> str:
    """What stands in the text of a session's runs, and in no text."""
    return f"_s{_hash(session_id)}"


def agent_term(agent: str) -> str:
    """What stands in the text of an agent's runs, and in no text."""
    return f"_a{_hash(agent)}"


@lru_cache(maxsize=16_384)
def _hash(text: str) -> str:
    return blake2s(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def count_terms(texts: Iterable[str]) -> tuple[dict[str, int], bool]:
    """The terms of the tokens of some texts, how often each occurs, and whether some had to be left out."""
    made, others = _counted(texts)
    for token, count in others.items():
        name = term(token)
        made[name] = made.get(name, 0) + count
    if len(made) <= MOST_TOKENS:
        return made, False
    return dict(islice(made.items(), MOST_TOKENS)), True
