"""Texts of the worst shape, the functions that go over texts of users and models, and how what they cost grows.

No time is bounded, only how it grows: four times the text may take eight times the processor time (a quadratic
algorithm takes sixteen times). What disturbs a measurement makes it larger, so the best of several is taken.
"""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from pydantic_ai import BinaryContent, ModelRequest, ModelResponse, TextPart, UserPromptPart

from sessile import Agent, MemoryStorage
from sessile.agents.history.windows import estimate_tokens
from sessile.agents.messages.lookalikes import marked
from sessile.agents.messages.openai import from_openai, to_openai
from sessile.agents.messages.spoken import as_text
from sessile.agents.messages.stored import dump_input, dump_output
from sessile.agents.offline.model import OfflineModel
from sessile.agents.placeholders import fill_placeholders
from sessile.agents.titles import first_words
from sessile.drivers.files.yaml_aliases import line_of_alias
from sessile.errors import InvalidInputError, UnknownFormatError
from sessile.insight.search import snippets
from sessile.insight.texts import Piece
from sessile.records import Run
from sessile.redaction import KNOWN, Patterns
from sessile.server.openai.common import DATA_URL
from sessile.server.shown import cut, preview_of, run_shown
from sessile.storage.media import put_aside
from sessile.storage.old_records import old_keys
from sessile.storage.redacting import redacted_value
from sessile.storage.withholding import reason_of
from sessile.telemetry.messages import to_otel
from sessile.terminal import clean, clean_json, clean_line
from sessile.tokens import count_terms, question
from sessile.transcripts import clip
from sessile.transcripts.transcript import transcript
from sessile.transfer import export_messages, export_transcripts
from sessile.workflows.declared.words import is_yes, plain_words
from sessile.workflows.run.values import dump, load


class Shape(NamedTuple):
    """A text: its unit again and again, between a head and a tail that keep what matches the units from an end."""

    unit: str
    head: str = ""
    tail: str = " a!"


SHAPES: dict[str, Shape] = {
    "digits": Shape("7"),
    "long numbers": Shape("7" * 3999 + " "),
    "card numbers": Shape("4 4-"),
    "blanks": Shape(" "),
    "blanks in a fact": Shape(" ", "my name is x", "y"),
    "lines": Shape("\n"),
    "signs": Shape("-.", "a"),
    "words": Shape("ab "),
    "one word": Shape("a"),
    "capitals": Shape("A", tail="é"),
    "humps": Shape("aB", tail="_é"),
    "written together": Shape("a-", tail="é"),
    "addresses": Shape("a.a@"),
    "hexadecimal": Shape("0af"),
    "open braces": Shape("{a."),
    "placeholders": Shape("{a}"),
    "open brackets": Shape("["),
    "quotes": Shape('"'),
    "backslashes": Shape("\\"),
    "escapes": Shape("\x1b[31m"),
    "apostrophes": Shape("my 'a "),
    "facts": Shape("my name is "),
    "calls": Shape("call it {"),
    "tags": Shape("<b&*"),
    "pages of a PDF": Shape("/Type "),
    "spoilt data URL": Shape("a/", "data:", ";base64"),
    "lone surrogates": Shape("\ud800"),
    "combining marks": Shape("a\u0301"),
    "long when folded": Shape("\u0130"),
    "no blanks": Shape("\u6f22"),
    "JSON of media": Shape('{"kind":"binary","media_type":"a","data":"'),
}

LARGEST = 256 * 1024 * 1024
"""Bytes that a commit may have here."""

QUICK = 0.02
"""Seconds that say enough: the square of the larger size, at a nanosecond each, would be a hundred times that."""


def of_size(shape: str, size: int) -> str:
    """The text of a shape with so many characters."""
    unit, head, tail = SHAPES[shape]
    room = size - len(head) - len(tail)
    return head + (unit * (room // len(unit) + 1))[:room] + tail


def cost(work: Callable[[Any], Any], given: Any) -> float:
    """Seconds of the processor."""
    gc.disable()  # it looks through all that the process holds, which has nothing to do with the work
    try:
        began = time.process_time()
        work(given)
        return time.process_time() - began
    finally:
        gc.enable()


def check_growth(make: Callable[[int], Any], work: Callable[[Any], Any], size: int, times: int = 4) -> None:
    """Work over `times` as much takes not much more than as many times as long: at most their power of 1.5."""
    small, large = make(size), make(times * size)
    best_small = best_large = float("inf")
    for _ in range(12):
        best_large = min(best_large, cost(work, large))
        if best_large < QUICK:
            return
        best_small = min(best_small, cost(work, small))
        if best_large <= times**1.5 * best_small:
            return
    raise AssertionError(f"{size}: {best_small:.4f} s, {times * size}: {best_large:.4f} s")


# ---------------------------------------------------------------- functions over text


def offline(text: str) -> None:
    with MemoryStorage(max_commit_bytes=LARGEST) as storage:  # what is asked and answered, in one commit
        Agent(OfflineModel(), storage=storage).run(text)


def run_of(text: str) -> tuple[MemoryStorage, Run]:
    """A stored run in which all is that text."""
    said = text.encode(errors="replace").decode()  # lone surrogates are no Unicode to Pydantic AI
    call = {"tool_name": "t", "tool_call_id": "1"}
    messages = [
        {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": said}]},
        {"kind": "response", "parts": [{"part_kind": "tool-call", "args": said, **call}]},
        {"kind": "request", "parts": [{"part_kind": "tool-return", "content": said, **call}]},
        {"kind": "response", "parts": [{"part_kind": "text", "content": said}]},
    ]  # fmt: skip
    storage = MemoryStorage(max_commit_bytes=2**30)
    run = storage.add_run("s", input=text, output=text, messages=messages, format="pydantic-ai/2")
    return storage, storage.get_run("s", run.number)


def told(given: tuple[MemoryStorage, Run]) -> None:
    """For people, and for programs that are not ours."""
    storage, run = given
    list(transcript(run, whole=True))
    for form in ("markdown", "html"):
        export_transcripts(storage, io.BytesIO(), form=form, whole=True)
    export_messages(storage, io.BytesIO(), form="csv")
    run_shown("s", run, whole_errors=True)
    preview_of(run)
    to_otel(run.messages)


def indexed(text: str) -> None:
    count_terms([text])
    snippets([Piece("input", text)], question('absent "not there"'))
    snippets([Piece("input", text)], question("a aé"))


def answered(text: str) -> None:
    """What a model answers where a workflow asks it to choose."""
    plain_words(text)
    with suppress(InvalidInputError):
        is_yes(text)


def openai(text: str) -> None:
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    to_openai(from_openai(messages))
    with suppress(UnknownFormatError):
        from_openai([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": text}}]}])


def tokens(text: str) -> None:
    pdf = BinaryContent(text.encode(errors="replace"), media_type="application/pdf")
    estimate_tokens([ModelResponse(parts=[TextPart(text)]), ModelRequest(parts=[UserPromptPart([text, pdf])])])


def yaml(text: str) -> None:
    for form in (text, f'a: "{text}', f"a: '{text}", f"a: [{text}", f"a: |\n  {text}", f"a: {text} &b"):
        line_of_alias(form)


every_pattern = Patterns(*KNOWN)

TEXT_WORK: dict[str, Callable[[Any], Any]] = {
    "dump_input": lambda text: dump_input([text]),
    "dump_output": dump_output,
    "a value of a step": lambda text: load(dump(text, "text")),
    "placeholders": lambda text: fill_placeholders(text, {"a": "x"}),
    "put_aside": lambda text: put_aside({"kind": "binary", "media_type": "a", "data": text}, 10),
    "old records": lambda text: list(old_keys(lambda key: False, [text], 0)),
    "as_text": lambda text: as_text([text]),
    "tokens": tokens,
    "clean": clean,
    "clean_line": clean_line,
    "clean_json": clean_json,
    "clip": lambda text: clip(text, 80),
    "offline": offline,
    "told": told,
    "indexed": indexed,
    "a question to the index": question,
    "redacted": lambda text: redacted_value(every_pattern, {"a": [text]}),
    "answered": answered,
    "titles": first_words,
    "reasons": reason_of,
    "openai": openai,
    "data URL": DATA_URL.fullmatch,
    "marked": lambda text: marked({"kind": text, text: {"a": text}}),
    "cut": lambda text: cut({"a": [text]}),
    "yaml": yaml,
}
"""Each is given a text; `told` a run."""

SLOW = frozenset({"offline", "told", "indexed", "a question to the index", "redacted", "yaml", "old records"}) | {
    name for name in TEXT_WORK if name.startswith("clean")
}
"""What takes more than a second for a megabyte of each shape."""

MAKES: dict[str, Callable[[str, int], Any]] = {"told": lambda shape, size: run_of(of_size(shape, size))}


def check_function(work: str, shape: str, size: int, times: int = 4) -> None:
    """One function and one shape, at `size` and at `times` as many characters."""
    make = MAKES.get(work, of_size)
    check_growth(lambda size: make(shape, size), TEXT_WORK[work], size, times)
