"""Sessions of Agno 1, 2 and 3: of its tables, and of the folders of its file databases.

The three releases write other forms, and one file may hold two of them: after an upgrade runs stand in a column of the
session, in a table of their own, or in both. Of a run the newest place counts. Members' runs stand before the run of
their team, or inside it; here they are below it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from ...errors import InvalidInputError, missing_dependency
from ...records import Status, Usage
from .building import count
from .conversations import Conversation, Conversations, Skip, Turn
from .databases import Row, Tables, decoded, mapping, objects, seconds
from .pricing import cost_of, priced, told_cost
from .sources import shown, tables_of

FORMAT = "openai-agno"
"""Its messages have the form of OpenAI's chat completions, with more beside it."""

INJECTED = ("current_user_id", "current_session_id", "current_run_id")
"""What Agno puts into the state by itself, anew for each run."""

_OLD = {"session_id", "memory", "session_data", "created_at"}
_NEW = {"session_id", "session_type", "session_data", "created_at"}
_RUNS = {"run_id", "session_id", "run_data"}
_NAMES = ("agent_name", "team_name", "agent_id", "team_id")
_STATUS: dict[str, Status] = {
    "ERROR": "failed",
    "CANCELLED": "cancelled",
    "PAUSED": "cancelled",
    "PENDING": "cancelled",
}


def is_agno(columns: dict[str, dict[str, str]]) -> bool:
    """Whether these are tables of Agno's."""
    return any(known.keys() >= _OLD or known.keys() >= _NEW for known in columns.values())


def conversations(source: str, skip: Skip) -> Conversations:
    """The sessions of a database, a folder of 1.x's JSON or YAML files, or a folder of 2.x's and 3.x's JSON."""
    if Path(source).is_dir():
        yield from _of_rows(*_files(Path(source), skip), skip)
        return
    with closing(tables_of(source)) as tables:
        columns = tables.columns()
        if not is_agno(columns):
            raise InvalidInputError(f"{shown(source)} has no table of Agno's sessions.")
        yield from _of_rows(_session_rows(tables, columns), _RunsOfTables(tables, columns), skip)


# ---------------------------------------------------------------- where rows come from


class _RunsOfTables:
    """The runs that have a table of their own."""

    def __init__(self, tables: Tables, columns: dict[str, dict[str, str]]) -> None:
        self._tables = tables
        self._names = {name: known for name, known in columns.items() if known.keys() >= _RUNS}

    def of(self, session: Row) -> list[dict[str, Any]]:
        """The runs of a session, in their order."""
        found: list[dict[str, Any]] = []
        for name, known in self._names.items():
            if _schema_of(name) != _schema_of(session["table"]):
                continue
            order = [column for column in ("run_index", "created_at", "run_id") if column in known]
            for row in self._tables.rows(name, order, {"session_id": session["session_id"]}):
                run = mapping(decoded(row["run_data"]))
                parent = row.get("parent_run_id")
                found.append({**run, "run_id": row["run_id"], **({"parent_run_id": parent} if parent else {})})
        return found


def _schema_of(table: str) -> str:
    """The schema before the name of a table; none for that of the connection."""
    return table.rpartition(".")[0]


class _RunsOfFiles:
    def __init__(self, rows: Sequence[Row]) -> None:
        self._of: dict[Any, list[Row]] = {}
        for row in sorted(rows, key=lambda row: (count(row.get("run_index")), str(row.get("run_id")))):
            self._of.setdefault(row.get("session_id"), []).append(row)

    def of(self, session: Row) -> list[dict[str, Any]]:
        """The runs of a session, in their order."""
        mine = self._of.get(session["session_id"], [])
        return [{**mapping(decoded(row.get("run_data"))), "run_id": row["run_id"]} for row in mine]


def _session_rows(tables: Tables, columns: dict[str, dict[str, str]]) -> Iterator[Row]:
    """Teams first: members that have sessions of their own are known by what stands in them."""
    named = sorted(columns, key=lambda name: ("team_id" not in columns[name], name))
    for name in named:
        if columns[name].keys() >= _OLD or columns[name].keys() >= _NEW:
            yield from ({**row, "table": name} for row in tables.rows(name, ["created_at", "session_id"]))


def _files(folder: Path, skip: Skip) -> tuple[Iterator[Row], _RunsOfFiles]:
    """The sessions of a folder: one file each, or lists of them."""
    sessions: list[Row] = []
    runs: list[Row] = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".yaml", ".yml"):
            continue
        found = _parsed(path, skip)
        for row in objects(found) or [mapping(found)]:
            if row.keys() >= _RUNS:
                runs.append(row)
            elif "session_id" in row:
                sessions.append({"memory": None, **row, "table": path.name})
    if not sessions:
        raise InvalidInputError(f"No file in {str(folder)!r} is a session of Agno's.")
    sessions.sort(key=lambda row: ("team_id" not in row, count(row.get("created_at")), str(row["session_id"])))
    return iter(sessions), _RunsOfFiles(runs)


def _parsed(path: Path, skip: Skip) -> Any:
    try:
        text = path.read_text("utf-8")
        return json.loads(text) if path.suffix == ".json" else _yaml(text)
    except (OSError, ValueError, RecursionError) as error:
        skip(path.name, f"it cannot be read: {type(error).__name__}")
    return None


def _yaml(text: str) -> Any:
    try:
        import yaml12
    except ImportError as error:
        raise missing_dependency("py-yaml12", "yaml", "Reading YAML") from error
    return yaml12.parse_yaml(text)


# ---------------------------------------------------------------- sessions


def _of_rows(rows: Iterator[Row], table: _RunsOfTables | _RunsOfFiles, skip: Skip) -> Conversations:
    seen: set[str] = set()
    members: set[str] = set()
    for row in rows:
        session_id = str(row.get("session_id"))
        where = f"{row['table']} {session_id}"
        runs = _runs_of(row, table)
        ids = {str(run.get("run_id")) for run in runs}
        members |= {str(below.get("run_id")) for run in runs for below in objects(run.get("member_responses"))}
        if row.get("team_session_id") and ids and ids <= members:
            skip(where, "its runs stand in the session of their team, too, and are taken from there")
            continue
        taken = session_id if session_id not in seen else f"{row['table']}:{session_id}"
        seen.add(session_id)
        yield _conversation(row, where, taken, runs, skip)


def _runs_of(row: Row, table: _RunsOfTables | _RunsOfFiles) -> list[dict[str, Any]]:
    """The runs of a session from all places, each once: those of the column are the older ones."""
    memory = mapping(decoded(row.get("memory")))
    old = objects(decoded(row.get("runs"))) or objects(memory.get("runs"))
    old = [{**mapping(one.get("response")), **one} if "response" in one else one for one in old]  # of the first 1.x
    new = table.of(row)
    newer = {str(one.get("run_id")): one for one in new}
    kept = [newer.pop(str(one.get("run_id")), one) for one in old]
    return [*kept, *newer.values()]


def _conversation(row: Row, where: str, session_id: str, runs: list[dict[str, Any]], skip: Skip) -> Conversation:
    data = mapping(decoded(row.get("session_data")))
    kind = str(row.get("session_type") or _kind_of(row))
    about = mapping(decoded(row.get(f"{kind}_data")))
    state = mapping(data.get("session_state"))
    return Conversation(
        source=where,
        session_id=session_id,
        user_id=row.get("user_id") or None,
        agent=about.get("name") or row.get(f"{kind}_id") or None,
        kind=kind,
        name=data.get("session_name") or None,
        state={name: value for name, value in state.items() if name not in INJECTED} or None,
        metadata=mapping(decoded(row.get("metadata") or row.get("extra_data"))),
        created_us=seconds(row.get("created_at")),
        turns=_turns(runs, where, skip),
    )


def _kind_of(row: Row) -> str:
    return next((kind for kind in ("workflow", "team") if row.get(f"{kind}_id")), "agent")


# ---------------------------------------------------------------- runs


def _turns(runs: list[dict[str, Any]], where: str, skip: Skip) -> list[Turn]:
    """The runs as turns, those of members below the run that they worked for."""
    made: dict[str, Turn] = {}
    for place, run in enumerate(runs):
        run_id = str(run.get("run_id") or f"{place + 1}")
        if not objects(run.get("messages")) and run.get("content") is None and not run.get("input"):
            skip(f"{where} {run_id}", "the run has neither input nor output nor messages")
            continue
        made[run_id] = _turn(run, run_id)
    top: list[Turn] = []
    for run in runs:
        turn = made.get(str(run.get("run_id")))
        parent = made.get(str(run.get("parent_run_id")))
        if turn is not None and (parent is None or parent is turn):
            top.append(turn)
        elif turn is not None and parent is not None and turn.run_id not in [one.run_id for one in parent.below]:
            parent.below.append(turn)
    return top


def _turn(run: dict[str, Any], run_id: str) -> Turn:
    messages = [one for one in objects(run.get("messages")) if _is_own(one)]
    times = [moment for one in messages if (moment := seconds(one.get("created_at")))] or [
        seconds(run.get("created_at"))
    ]
    said = messages[-1] if messages else {}
    answered = said.get("role") in ("assistant", "model") and not said.get("tool_calls")
    told = str(run.get("status") or "").rpartition(".")[2].upper()
    status: Status = _STATUS.get(told, "completed" if answered or not messages else "cancelled")
    content = run.get("content")
    return Turn(
        run_id=run_id,
        input=_input(run, messages),
        output=content if status == "completed" else (said.get("content") if answered else None),
        messages=messages,
        format=FORMAT,
        status=status,
        error={"type": "AgnoError", "message": str(content or "")} if status == "failed" else None,
        usage=_usage(run, messages),
        agent=next((str(run[name]) for name in _NAMES if run.get(name)), None),
        metadata=mapping(run.get("metadata")) or None,
        started_us=min(times),
        ended_us=max(times),
        below=[
            _turn(one, str(one.get("run_id") or f"{run_id}/{place + 1}"))
            for place, one in enumerate(objects(run.get("member_responses")))
        ],
    )


def _is_own(message: dict[str, Any]) -> bool:
    """Whether it is the run's own, and no part of a history or of instructions that were sent along."""
    return not message.get("from_history") and message.get("role") in ("user", "assistant", "model", "tool")


def _input(run: dict[str, Any], messages: list[dict[str, Any]]) -> Any:
    given = mapping(run.get("input")).get("input_content", run.get("run_input"))
    if given is not None:
        return given
    return next((one.get("content") for one in messages if one.get("role") == "user"), None)


def _usage(run: dict[str, Any], messages: list[dict[str, Any]]) -> Usage | None:
    """What it has used. Of Anthropic's models Agno counts cached tokens apart from the input, and of others within."""
    metrics = mapping(run.get("metrics"))
    provider = f"{run.get('model_provider') or ''} {run.get('model') or ''}".lower()
    apart = "anthropic" in provider or "claude" in provider
    requests = [one for one in messages if one.get("role") in ("assistant", "model")]
    tools = sum(one.get("role") == "tool" for one in messages)
    used = _counted(metrics, len(requests), tools, apart=apart)
    if not (used.input_tokens or used.output_tokens or requests):
        return None
    if (known := told_cost(metrics.get("cost"))) is not None:
        return priced(used, [known, *[Decimal(0)] * (len(requests) - 1)])
    begun = seconds(run.get("created_at"))
    return priced(used, [_cost(one, run, begun, apart=apart) for one in requests])


def _counted(metrics: dict[str, Any], requests: int, tools: int, *, apart: bool) -> Usage:
    read = count(metrics.get("cache_read_tokens") or metrics.get("cached_tokens"))
    written = count(metrics.get("cache_write_tokens"))
    asked = count(metrics.get("input_tokens")) + (read + written if apart else 0)
    return Usage(requests, asked, count(metrics.get("output_tokens")), read, written, tools)


def _cost(message: dict[str, Any], run: dict[str, Any], begun: int, *, apart: bool) -> Decimal | None:
    """What one response has cost: what Agno was told, else what the prices of that time make it."""
    metrics = mapping(message.get("metrics"))
    if (known := told_cost(metrics.get("cost"))) is not None:
        return known
    used = _counted(metrics, 1, 0, apart=apart)
    when = seconds(message.get("created_at")) or begun
    return cost_of(used, run.get("model"), run.get("model_provider"), when)
