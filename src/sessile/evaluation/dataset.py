"""Cases as a data set in the files of pydantic_evals, YAML or JSON; the library itself is not needed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from ..errors import InvalidInputError
from ..records import JsonObject
from ..storage.checks import check_choice
from .case import Case

Format = Literal["yaml", "json"]

_ODD = re.compile("[\x7f-\x9f\ud800-\udfff\u2028\u2029\ufeff\ufffe\uffff]")
"""What YAML wants escaped, or takes for the end of a line, beside what JSON escapes."""


PLAIN = frozenset(
    ("name", "cases", "inputs", "metadata", "expected_output", "evaluators", "session_id", "run", "run_id", "user_id")
)
"""Keys that need no quotation marks; any other might be one of YAML's own words, such as `no`."""


@dataclass(slots=True)
class Dataset:
    """A data set: cases with a name.

    Each case has an id of ours as its name (session, number and id of the run), and again in its metadata.

    Attributes:
        name: what it is called.
        cases: the cases.
        evaluators: evaluators of pydantic_evals in its own short form, for all cases: `["EqualsExpected"]`,
            `[{"Contains": {"value": "refund"}}]`.
    """

    name: str
    cases: Sequence[Case]
    evaluators: list[Any] = field(default_factory=list[Any])

    def to_json(self) -> JsonObject:
        """As pydantic_evals has it."""
        return {"name": self.name, "cases": [_case(one) for one in self.cases], "evaluators": self.evaluators}

    def to_text(self, fmt: Format = "yaml") -> str:
        """As the text of a file."""
        check_choice(fmt, "fmt", ("yaml", "json"))
        if fmt == "json":
            return _ODD.sub(_escape, json.dumps(self.to_json(), ensure_ascii=False, indent=2)) + "\n"
        return "\n".join(_yaml(self.to_json(), 0)) + "\n"

    def to_file(self, path: str | os.PathLike[str], fmt: Format | None = None) -> None:
        """Write a file; what it is, its name says (`.yaml`, `.yml`, `.json`). It is there whole, or not at all.

        Raises `InvalidInputError` if the name does not say that.
        """
        target = Path(path)
        chosen = fmt or {".yaml": "yaml", ".yml": "yaml", ".json": "json"}.get(target.suffix.lower())
        if chosen is None:
            raise InvalidInputError(
                f"The name {target.name!r} does not say what it is.", hint="Call it .yaml or .json."
            )
        made = target.with_name(f".{target.name}.new")
        made.write_text(self.to_text(cast(Format, chosen)), "utf-8")
        made.replace(target)


def _case(case: Case) -> JsonObject:
    where = {"session_id": case.session_id, "run": case.number, "run_id": case.run_id}
    more = {"user_id": case.user_id, "agent": case.run.agent, "corrected": case.corrected}
    return {
        "name": case.id,
        "inputs": case.input,
        "metadata": {**where, **{key: value for key, value in more.items() if value is not None}},
        "expected_output": case.expected,
    }


def _yaml(value: Any, depth: int) -> Iterator[str]:
    """A JSON value as lines of YAML: mappings and lists as blocks, all else as JSON, which is YAML, too."""
    indent = "  " * depth
    if isinstance(value, dict) and value:
        for key, item in cast(JsonObject, value).items():
            yield from _entry(f"{indent}{key if key in PLAIN else _scalar(key)}:", item, depth)
    elif isinstance(value, list) and value:
        for item in cast("list[Any]", value):
            lines = list(_yaml(item, depth + 1))
            yield f"{indent}- {lines[0].lstrip()}"
            yield from lines[1:]
    else:
        yield f"{indent}{_scalar(value)}"


def _entry(key: str, item: Any, depth: int) -> Iterator[str]:
    if isinstance(item, (dict, list)) and item:
        yield key
        yield from _yaml(item, depth + 1)
    else:
        yield f"{key} {_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, float) and "." not in (text := json.dumps(value)):
        return text.replace("e", ".0e")  # YAML 1.1 takes 1e+22 for text
    return _ODD.sub(_escape, json.dumps(value, ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
