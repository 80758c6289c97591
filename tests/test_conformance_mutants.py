"""Mutants of the memory driver: each has one small mistake, and the conformance suite catches every one of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sessile.errors import SessileError
from sessile.storage import Driver, Storage
from sessile.testing import ConformanceError, Subject
from sessile.testing.checks import Check, NotDeclaredError
from sessile.testing.suite import AREAS

pytestmark = pytest.mark.no_cover  # a mutant is no code of the package

MEMORY = "sessile.drivers.memory"
MATCHING = "sessile.storage.matching"

MUTANTS: list[tuple[str, str, str]] = [
    # load
    (MEMORY, "found.log[-newest:] if newest else []", "found.log[-newest:]"),
    (MEMORY, "found.log[-newest:] if newest else []", "found.log[:newest]"),
    (MEMORY, "found.log[-newest:] if newest else []", "found.log[-newest - 1 :] if newest else []"),
    (MEMORY, "found.log[-newest:] if newest else []", "found.log[-newest:][::-1] if newest else []"),
    (MEMORY, "time.time_ns() // 1000)", "time.time_ns())"),
    (MEMORY, "time.time_ns() // 1000)", "time.time_ns() // 1_000_000)"),
    (MEMORY, "time.time_ns() // 1000)", "0)"),
    # append
    (MEMORY, "if write.session_id in self._sessions:", "if False:"),
    (MEMORY, "if write.expected == 0:", "if write.session_id not in self._sessions:"),
    (MEMORY, "found.head.revision != write.expected", "found.head.revision < write.expected"),
    (MEMORY, "found.head.revision != write.expected", "found.head.revision > write.expected"),
    (MEMORY, "found is None or found.head.revision != write.expected", "found is None"),
    (MEMORY, "found is not None and found.head.incarnation == incarnation", "found is not None"),
    (MEMORY, "list(write.commits))", "list(write.commits[:1]))"),
    (MEMORY, "list(write.commits))", "list(write.commits[::-1]))"),
    (MEMORY, "found.log.extend(write.commits)", "found.log.append(write.commits[-1])"),
    (MEMORY, "found.log.extend(write.commits)", "found.log = list(write.commits)"),
    (MEMORY, "            found.head = write.head\n", ""),
    (MEMORY, "            found.log.extend(write.commits)\n", ""),
    (MEMORY, "found.head = write.head", "found.head = write.head._replace(name=found.head.name)"),
    (MEMORY, "found.head = write.head", "found.head = write.head._replace(status=found.head.status)"),
    (MEMORY, "found.head = write.head", "found.head = write.head._replace(user_id=found.head.user_id)"),
    (MEMORY, "found.head = write.head", "found.head = write.head._replace(metadata=found.head.metadata)"),
    (MEMORY, "found.head = write.head", "found.head = write.head._replace(expires_at=found.head.expires_at)"),
    (MEMORY, "found.head = write.head", "found.head = write.head._replace(hidden=found.head.hidden)"),
    (MEMORY, "found.head = write.head", "found.head = write.head._replace(created_at=write.head.updated_at)"),
    # entries
    (MEMORY, "found.log[span.first - 1 : span.last]", "found.log[span.first : span.last]"),
    (MEMORY, "found.log[span.first - 1 : span.last]", "found.log[span.first - 1 :]"),
    (MEMORY, "found.log[span.first - 1 : span.last]", "found.log[: span.last]"),
    (MEMORY, "if span.newest_first:", "if not span.newest_first:"),
    (MEMORY, "if span.newest_first:", "if False:"),
    (MEMORY, ", span.limit))", ", 10_000))"),
    (MEMORY, "row.run > 0 and runs[0] <= row.run <= runs[1]", "runs[0] <= row.run <= runs[1]"),
    (MEMORY, "row.run > 0 and runs[0] <= row.run <= runs[1]", "row.run > 0 and runs[0] <= row.run"),
    (MEMORY, "row.run > 0 and runs[0] <= row.run <= runs[1]", "row.run > 0 and row.run <= runs[1]"),
    (MEMORY, "row.run > 0 and runs[0] <= row.run <= runs[1]", "row.run > 0 and runs[0] <= row.run < runs[1]"),
    (MEMORY, "span.key is None or row.key == span.key", "True"),
    (MEMORY, "row.key == span.key", "(row.key or '').startswith(span.key)"),
    (MEMORY, "row.key == span.key", "(row.key or '').lower() == span.key.lower()"),
    # lists
    (MEMORY, "reverse=not query.ascending", "reverse=True"),
    (MEMORY, "reverse=not query.ascending", "reverse=query.ascending"),
    (MEMORY, "rows[: query.limit]", "rows[: query.limit + 1]"),
    (MEMORY, "if follows(row, query)]", "]"),
    (
        MEMORY,
        "sum(1 for _ in self._matching(query, deadline))",
        "min(3, sum(1 for _ in self._matching(query, deadline)))",
    ),
    (MATCHING, "place > query.after if query.ascending else place < query.after", "place < query.after"),
    (MATCHING, "place > query.after if query.ascending else place < query.after", "place <= query.after"),
    (MATCHING, 'head.created_at if query.order == "created" else head.updated_at', "head.updated_at"),
    (MATCHING, 'head.created_at if query.order == "created" else head.updated_at', "head.created_at"),
    (MATCHING, "head.updated_at, head.session_id)", "head.updated_at, head.session_id.lower())"),
    (MATCHING, "query.kind is None or head.kind == query.kind", "True"),
    (MATCHING, "query.agent is None or head.agent == query.agent", "True"),
    (MATCHING, "query.user_id is ANY_USER or", "query.user_id is None or query.user_id is ANY_USER or"),
    (MATCHING, "head.user_id == query.user_id", "True"),
    (MATCHING, "query.status is None or head.status == query.status", "True"),
    (MATCHING, ".startswith(query.name_prefix)", ".lower().startswith(query.name_prefix.lower())"),
    (MATCHING, ".startswith(query.name_prefix)", ".__contains__(query.name_prefix)"),
    (MATCHING, "moment >= query.since", "moment > query.since"),
    (MATCHING, "moment < query.until", "moment <= query.until"),
    (MATCHING, "head.expires_at > query.now", "head.expires_at >= query.now"),
    (MATCHING, "head.expires_at <= moment", "head.expires_at < moment"),
    (MATCHING, "query.hidden is None or head.hidden == query.hidden", "not head.hidden"),
    (MATCHING, "all(key in metadata for key in keys)", "True"),
    (MATCHING, "all(key in metadata for key in keys)", "all(metadata.get(key) for key in keys)"),
    (MATCHING, "return a is b", "return a == b"),
    (MATCHING, "type(a) in (str, int, float, type(None)) and a == b", "str(a) == str(b)"),
    # delete, records, rewriting
    (MEMORY, "if self._find(session_id, incarnation) is not None:", "if session_id in self._sessions:"),
    (
        MEMORY,
        "                del self._sessions[session_id]",
        "                self._sessions[session_id].log.clear()",
    ),
    (MEMORY, "found.records.get(key)", "found.records.get(key) or None"),
    (MEMORY, "found.records.pop(key, None)", "pass"),
    (MEMORY, "found.records[key] = value", "found.records.setdefault(key, value)"),
    (MEMORY, "found.records[key] = value", "found.records[key] = value[:65_536]"),
    (MEMORY, "found.records[key] = value", "found.records[key.lower()] = value"),
    (MEMORY, "            return found is not None\n", "            return True\n"),
    (MEMORY, "sorted(() if found is None else found.records)", "list(() if found is None else found.records)"),
    (MEMORY, "key.startswith(prefix) and key > after", "prefix in key and key > after"),
    (MEMORY, "key.startswith(prefix) and key > after", "key.startswith(prefix) and key >= after"),
    (MEMORY, "and key > after][:limit]", "and key > after]"),
    (MEMORY, "found is None or any(not _same_commit(found.log, row) for row in commits)", "found is None"),
    (MEMORY, "found.log[row.seq - 1] = row", "found.log[row.seq - 1] = row._replace(key=found.log[row.seq - 1].key)"),
    (MEMORY, "(there.commit_id, there.run, there.time) ==", "(row.commit_id, there.run, there.time) =="),
    # deadlines
    (MEMORY, '        deadline.check("An operation in memory")\n', ""),
]


def mutant(module: str, old: str, new: str) -> Driver:
    """A memory driver with one place of one module changed."""
    changed = _executed(module, old, new)
    if module == MEMORY:
        return changed.MemoryDriver()
    memory = _executed(MEMORY, "", "")
    for name in ("follows", "listing", "matches", "place_of"):
        setattr(memory, name, getattr(changed, name))
    return memory.MemoryDriver()


def _executed(module: str, old: str, new: str) -> Any:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    assert not old or old in source, f"{module} has no {old!r} any more: change the mutant with it"
    made = ModuleType(f"{module}_mutant")
    made.__package__ = module.rpartition(".")[0]
    sys.modules[made.__name__] = made  # dataclasses look their module up
    exec(
        compile(source.replace(old, new, 1) if old else source, f"{module} ({old!r} -> {new!r})", "exec"), made.__dict__
    )
    return made


def checks() -> Iterator[Check]:
    """The checks of the areas that every driver must pass, the quick ones."""
    for area in AREAS:
        if area.name in ("contract", "lookups", "lists"):
            yield from (check for check in area.checks if "sync" in check.faces)


def caught_by(make: Any) -> str | None:
    """The first check that a driver fails."""
    for check in checks():
        try:
            check.run(Subject(lambda: Storage(make())), "sync")
        except NotDeclaredError:
            continue
        except (ConformanceError, SessileError, LookupError, TypeError, ValueError, AssertionError):
            return check.name
    return None


@pytest.mark.parametrize("change", MUTANTS, ids=[f"{number:02}" for number in range(len(MUTANTS))])
def test_a_mutant_is_killed(change: tuple[str, str, str]) -> None:
    assert caught_by(lambda: mutant(*change)), f"no check noticed {change[1]!r} -> {change[2]!r}"


def test_what_is_not_changed_is_right() -> None:
    assert caught_by(lambda: mutant(MEMORY, "found", "found")) is None
    assert caught_by(lambda: mutant(MATCHING, "query", "query")) is None
