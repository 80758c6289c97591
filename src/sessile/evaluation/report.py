"""What came of an experiment, side by side with what was before: in words, as JSON, Markdown, HTML."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any, Literal

from ..records import JsonObject
from ..terminal import clean, clean_line
from .case import Case, Replayed

Change = Literal["better", "worse", "same"]

SHOWN = 60
"""How many characters of a question or an answer stand in a table."""

_EPSILON = 1e-9


@dataclass(slots=True)
class Compared:
    """A case, and what came of it then and now."""

    case: Case
    old: Replayed
    new: Replayed

    @property
    def change(self) -> Change:
        """What became of it: by its score, or, where nobody has judged, by whether it has failed."""
        before, now = (self._worth(one) for one in (self.old, self.new))
        return "same" if abs(now - before) < _EPSILON else "better" if now > before else "worse"

    @staticmethod
    def _worth(one: Replayed) -> float:
        return one.score if one.score is not None else 1.0


@dataclass(slots=True)
class Report:
    """An experiment: its cases, then and now, in the order in which they were given.

    Attributes:
        experiment: its name, by which it can be continued.
        compared: the cases.
    """

    experiment: str
    compared: list[Compared]

    @property
    def score(self) -> float | None:
        """The mean score of all cases, those that failed with 0; None if nobody has judged any that did not."""
        return _mean(one.new for one in self.compared)

    @property
    def failures(self) -> int:
        """How many cases had no result."""
        return sum(one.new.failed for one in self.compared)

    @property
    def passed(self) -> float:
        """Which share of the cases had a result: from 0 to 1; 1 if there are none."""
        return 1.0 if not self.compared else 1 - self.failures / len(self.compared)

    def changes(self) -> dict[Change, int]:
        """How many cases got better, worse, and stayed the same."""
        found: dict[Change, int] = {"better": 0, "worse": 0, "same": 0}
        for one in self.compared:
            found[one.change] += 1
        return found

    def falls_under(self, least: float) -> bool:
        """Whether it is worse than that: its score, or, where nobody has judged, the share that had a result."""
        score = self.score
        return (self.passed if score is None else score) < least - _EPSILON

    def to_json(self) -> JsonObject:
        """All of it: `totals` then and now, and `cases`."""
        return {
            "experiment": self.experiment,
            "changes": self.changes(),
            "totals": {name: [before, now] for name, before, now in self._totals()},
            "cases": [
                {
                    "id": one.case.id,
                    "session_id": one.case.session_id,
                    "run": one.case.number,
                    "input": one.case.input,
                    "expected": one.case.expected,
                    "change": one.change,
                    "old": _figures(one.old),
                    "new": _figures(one.new),
                }
                for one in self.compared
            ],
        }

    def text(self) -> str:
        """As text for a terminal; what was stored can do nothing to it."""
        lines = [f"Experiment {clean_line(self.experiment)}: {self._summary()}", "", *self._table()]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        totals = [(name, _shown(before), _shown(now)) for name, before, now in self._totals()]
        parts = [_aligned([("", "then", "now"), *totals])]
        for one in self.compared:
            if one.change == "same" and not one.new.failed:
                continue
            parts.append(["", *(clean(line) for line in _told(one))])
        return [line for part in parts for line in part]

    def markdown(self) -> str:
        """As Markdown: totals, and a row for each case."""
        lines = [
            f"# Experiment {_cell(self.experiment)}",
            "",
            f"{self._summary()}",
            "",
            "| | then | now |",
            "|---|---|---|",
        ]
        lines += [f"| {name} | {_shown(before)} | {_shown(now)} |" for name, before, now in self._totals()]
        lines += ["", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(map(_cell, _row(one)))} |" for one in self.compared]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """As one page of HTML, without scripts; texts stand in it as texts, whatever they are."""
        totals = _html_table(("", "then", "now"), [(n, _shown(a), _shown(b)) for n, a, b in self._totals()])
        rows = [(one.change, _row(one, length=2000)) for one in self.compared]
        body = "".join(
            f'<tr class="{change}">{"".join(f"<td>{html.escape(x)}</td>" for x in row)}</tr>' for change, row in rows
        )
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        title = html.escape(f"Experiment {self.experiment}")
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
            f"<h1>{title}</h1><p>{html.escape(self._summary())}</p>{totals}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></html>\n"
        )

    def _summary(self) -> str:
        found = self.changes()
        told = ", ".join(f"{count} {name}" for name, count in found.items())
        return f"{len(self.compared)} cases: {told}; {self.failures} failed"

    def _totals(self) -> list[tuple[str, Any, Any]]:
        olds, news = [one.old for one in self.compared], [one.new for one in self.compared]

        def both(name: str, of: Callable[[Sequence[Replayed]], Any]) -> tuple[str, Any, Any]:
            return name, of(olds), of(news)

        judges = list(dict.fromkeys(name for one in news for name in one.verdicts))
        return [
            both("score", _mean),
            *(both(f"score: {name}", lambda runs, name=name: _mean_of(runs, name)) for name in judges),
            both("failed", lambda runs: sum(one.failed for one in runs)),
            both("cost ($)", _cost),
            both("seconds (median)", lambda runs: _median([one.seconds for one in runs])),
            both("tokens", lambda runs: sum(one.tokens for one in runs)),
            both("calls of tools", lambda runs: sum(len(one.tools) for one in runs)),
        ]


_PAIRS = ("answer", "tools", "score", "cost", "seconds", "tokens")
COLUMNS = ("case", "change", "question", *(f"{name} {when}" for name in _PAIRS for when in ("then", "now")))

STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2rem}table{border-collapse:collapse;margin:1rem 0}"
    "td,th{border:1px solid #ccc;padding:.3rem .5rem;text-align:left;vertical-align:top;white-space:pre-wrap;"
    "overflow-wrap:anywhere}.better td:nth-child(2){background:#d7f0d7}.worse td:nth-child(2){background:#f6d5d5}"
)


def _row(one: Compared, length: int = SHOWN) -> list[str]:
    old, new = one.old, one.new
    pairs = [(_answer(old, length), _answer(new, length)), (_tools(old), _tools(new)), (old.score, new.score),
             (old.cost, new.cost), (old.seconds, new.seconds), (old.tokens, new.tokens)]  # fmt: skip
    place = f"{one.case.session_id}#{one.case.number}"
    return [place, one.change, _cut(one.case.input, length), *(_shown(value) for pair in pairs for value in pair)]


def _told(one: Compared) -> list[str]:
    """A case that has changed, in lines."""
    lines = [f"{one.change}: {clean_line(one.case.session_id)} run {one.case.number}: {_cut(one.case.input, SHOWN)}"]
    for when, run in (("then", one.old), ("now", one.new)):
        score = "" if run.score is None else f" ({_shown(run.score)})"
        lines.append(f"  {when}{score}: {_answer(run, 200)}")
        if _tools(run):
            lines.append(f"    tools: {_tools(run)}")
    reasons = {name: said["reason"] for name, said in one.new.verdicts.items() if said.get("reason")}
    return lines + [f"  {clean_line(name)}: {_cut(reason, 200)}" for name, reason in reasons.items()]


def _answer(run: Replayed, length: int) -> str:
    return f"({run.status}) {_cut(run.error or '', length)}" if run.failed else _cut(run.output, length)


def _tools(run: Replayed) -> str:
    return ", ".join(f"{use.tool} {_cut(use.args, SHOWN)}" for use in run.tools)


def _cut(value: Any, length: int) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def _cell(text: str) -> str:
    """A text in a cell of Markdown, where it is no markup."""
    line = clean_line(" ".join(text.split()))
    return "".join(f"\\{char}" if char in "\\`*_[]<>#|~$&!" else char for char in line)


def _figures(run: Replayed) -> JsonObject:
    return {
        "session_id": run.session_id,
        "run": run.number,
        "status": run.status,
        "output": run.output,
        "error": run.error,
        "tools": [{"tool": use.tool, "args": use.args, "result": use.result} for use in run.tools],
        "score": run.score,
        "verdicts": run.verdicts,
        "seconds": run.seconds,
        "cost": None if run.cost is None else format(run.cost, "f"),
        "tokens": run.tokens,
    }


def _mean(runs: Iterable[Replayed]) -> float | None:
    scores = [one.score for one in runs]
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def _mean_of(runs: Sequence[Replayed], name: str) -> float | None:
    scores = [one.verdicts[name]["score"] for one in runs if one.verdicts.get(name, {}).get("score") is not None]
    return sum(scores) / len(scores) if scores else None


def _cost(runs: Sequence[Replayed]) -> str | None:
    costs = [one.cost for one in runs]
    known = [cost for cost in costs if cost is not None]
    return format(sum(known, Decimal(0)), "f") if len(known) == len(costs) else None


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _shown(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
