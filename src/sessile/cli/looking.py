"""The commands that look into many sessions by their index, and `rate`. Needs the extra `cli`."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, cast

import typer

from ..errors import InvalidInputError
from ..insight import Example, FoundRun, Hit, Index, RunFilters, UsageRow
from ..insight.usage import Group
from ..jsons import record_json, usage_row_json
from ..records import JsonObject, Status
from ..terminal import clean_json, say, say_text
from ..transcripts import moment
from .opening import AsJson, Url, User, opened, url_and, url_and_session, whose
from .output import Table, paged, print_table, progress, told

PAGE = 100

_AGO = re.compile(r"(\d+)([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

looking = typer.Typer()

Into = Annotated[
    str | None, typer.Option(metavar="URL", help="The SQL database of the index, if it is not beside the log.")
]
Agent = Annotated[str | None, typer.Option(help="Only runs of this agent, team or workflow.")]
Model = Annotated[str | None, typer.Option(help="Only runs that used this model.")]
Tool = Annotated[str | None, typer.Option(help="Only runs that called this tool.")]
RunStatus = Annotated[list[str] | None, typer.Option("--status", help="Only runs of this status; may be repeated.")]
Label = Annotated[str | None, typer.Option(help="Only runs with this label.")]
Error = Annotated[str | None, typer.Option(help="Only runs that failed with this type of error.")]
MinScore = Annotated[float | None, typer.Option(help="Only runs that were rated at least so high.")]
Since = Annotated[str | None, typer.Option(help="Only runs that began then or later: 2026-11-01, or 24h, 7d, 2w ago.")]
Until = Annotated[str | None, typer.Option(help="Only runs that began before that.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]


@looking.command()
def runs(
    url: Url = None,
    user: Annotated[str | None, typer.Option(help="Only runs of this user's sessions.")] = None,
    agent: Agent = None,
    model: Model = None,
    tool: Tool = None,
    status: RunStatus = None,
    label: Label = None,
    error: Error = None,
    min_score: MinScore = None,
    since: Since = None,
    until: Until = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The oldest first.")] = False,
    limit: Limit = 20,
    into: Into = None,
    json: AsJson = False,
) -> None:
    """List runs of all sessions, newest first."""
    filters = filters_of(agent, model, tool, status, label, error, min_score, since, until)
    found: list[FoundRun] = []
    unreadable: dict[str, Any] = {}
    cursor: str | None = None
    with _index(url, into) as index:
        while len(found) < limit:
            page = index.runs(
                user_id=whose(user),
                limit=min(limit - len(found), PAGE),
                cursor=cursor,
                ascending=oldest_first,
                **filters,
            )
            found += page.items
            unreadable |= page.unreadable
            cursor = page.next_cursor
            if cursor is None:
                break
    _tell_unreadable(unreadable)
    if json:
        say_text(clean_json([record_json(run, without=("row",)) for run in found], indent=2))
        return
    columns = (
        "started (UTC)",
        "session",
        "run",
        "agent",
        "user",
        "model",
        "status",
        "seconds",
        "tokens",
        "cost",
        "score",
    )
    with paged():
        spare = ("seconds", "tokens", "model", "user", "score", "agent", "cost")
        print_table(Table(columns, [_run_row(run) for run in found], spare))
    if cursor is not None:
        say("There are more; --limit {} shows them.", limit * 10, err=True)


def _branch(run: FoundRun) -> str:
    return "" if run.on_branch else ", rewound"


def _run_row(run: FoundRun) -> list[str]:
    scores = [f"{one.score:g}" for one in run.ratings.values() if one.score is not None]
    return [
        moment(run.started_at),
        run.session_id,
        str(run.number),
        run.agent or "",
        run.user_id or "",
        run.model or "",
        (run.status if run.error is None else f"{run.status}: {run.error}") + _branch(run),
        "" if run.duration is None else f"{run.duration.total_seconds():.1f}",
        str(run.total_tokens),
        "unknown" if run.cost is None else f"${run.cost:f}",
        ", ".join(scores),
    ]


@looking.command()
def search(
    first: Annotated[str | None, typer.Argument(metavar="URL", show_default=False, help="The database.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="TEXT", show_default=False, help="The words.")] = None,
    user: Annotated[str | None, typer.Option(help="Only in this user's sessions.")] = None,
    agent: Agent = None,
    since: Since = None,
    until: Until = None,
    best: Annotated[bool, typer.Option("--best", help="The best hits first, not the newest.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=PAGE, help="At most so many.")] = 20,
    into: Into = None,
    json: AsJson = False,
) -> None:
    """Find runs by their words, and sessions by their names and metadata.

    All words must be there; those in quotation marks beside each other.
    """
    url, text = url_and_session(first, second)
    filters = filters_of(agent, None, None, None, None, None, None, since, until)
    with _index(url, into) as index:
        page = index.search(text, user_id=whose(user), limit=limit, order="best" if best else "newest", **filters)
        _tell_unreadable(page.unreadable)
    if json:
        say_text(clean_json([_hit_json(hit) for hit in page], indent=2))
        return
    with paged():
        for hit in page:
            run = hit.run
            place = "" if run is None else f" run {run.number}, {moment(run.started_at)} UTC{_branch(run)}"
            say("{}{}", hit.session_id, place)
            for one in hit.snippets:
                say("  {}: {}", one.where, " ".join(one.text.split()))
    if page.next_cursor is not None:
        say("There are more; --limit shows up to {}.", PAGE, err=True)
    elif not page:
        say("Nothing was found.", err=True)


def _hit_json(hit: Hit) -> JsonObject:
    return {
        "session_id": hit.session_id,
        "session_name": hit.session_name,
        "user_id": hit.user_id,
        "run": None if hit.run is None else hit.run.number,
        "score": hit.score,
        "snippets": [{"where": one.where, "text": one.text, "marks": one.marks} for one in hit.snippets],
    }


@looking.command()
def rate(
    names: Annotated[
        list[str], typer.Argument(metavar="[URL] SESSION_ID RUN", help="The run, by its number or its id.")
    ],
    score: Annotated[float | None, typer.Option(help="A number of the source's own scale.")] = None,
    label: Annotated[str | None, typer.Option(help="A category.")] = None,
    comment: Annotated[str | None, typer.Option(help="Words.")] = None,
    by: Annotated[str | None, typer.Option(help="Who says it.")] = None,
    source: Annotated[str, typer.Option(help="Whose scale it is.")] = "user",
    correction: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What should have come out: makes the run an example.")
    ] = None,
    user: User = None,
    json: AsJson = False,
) -> None:
    """Rate a run. Of several ratings by one source the newest counts."""
    url, (session_id, run) = url_and(names, 2, "the id of a session, and the run")
    with opened(url) as storage:
        said = storage.rate(
            session_id,
            int(run) if run.isascii() and run.isdigit() and len(run) < 10 else run,
            score=score,
            label=label,
            comment=comment,
            correction=correction,
            by=by,
            source=source,
            user_id=whose(user),
        )
    told(record_json(said), "Rated run {} of session {}, as {}.", run, session_id, said.source, json=json)


@looking.command()
def usage(
    url: Url = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="hour, day, week, month, agent, model, tool, user, session, status; several: day,model."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only runs of this user's sessions.")] = None,
    agent: Agent = None,
    model: Model = None,
    since: Since = None,
    until: Until = None,
    zone: Annotated[str, typer.Option(help="The time zone of days and weeks, such as Europe/Berlin.")] = "UTC",
    into: Into = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    prometheus: Annotated[bool, typer.Option("--prometheus", help="Print the text that Prometheus reads.")] = False,
    chart: Annotated[bool, typer.Option("--chart", help="Print lines of bars over the rows as well.")] = False,
    json: AsJson = False,
) -> None:
    """Tell what was used: runs, errors, tokens, cost, how long runs took, and until an answer began."""
    if csv + prometheus + json > 1:
        raise typer.BadParameter("Choose one of --csv, --prometheus and --json.")
    groups = cast("list[Group]", [name.strip() for some in by or ["day"] for name in some.split(",")])
    filters = filters_of(agent, model, None, None, None, None, None, since, until)
    with _index(url, into) as index:
        table = index.usage(user_id=whose(user), by=groups, zone=zone, **filters)
    if json:
        rows = [usage_row_json(groups, row) for row in table.rows]
        say_text(clean_json({"rows": rows, "total": usage_row_json([], table.total)}, indent=2))
        return
    if csv or prometheus:
        say_text((table.csv() if csv else table.prometheus()).rstrip("\n"))
        return
    is_streamed = any(row.first_token_p50 is not None for row in (*table.rows, table.total))
    columns = (*groups, "runs", "errors", "input", "output", "cost", "p50", "p95", *(["first"] if is_streamed else []))
    rows = [[*map(_group_text, groups, row.group), *_usage_row(row)] for row in table.rows]
    total = [["total", *[""] * (len(groups) - 1), *_usage_row(table.total)]]
    rows, total = ([row[: len(columns)] for row in some] for some in (rows, total))
    print_table(Table(columns, rows + total, spare=("first", "p95", "p50", "errors", "output", "input")))
    if chart:
        for name, bars in table.charts().items():
            say_text(f"{name:>6}  {bars}")


def _group_text(group: Group, value: datetime | str | None) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M" if group == "hour" else "%Y-%m" if group == "month" else "%Y-%m-%d")
    return value or "-"


def _usage_row(row: UsageRow) -> list[str]:
    known = row.known_cost.normalize() if row.known_cost else row.known_cost
    seconds = ["" if one is None else f"{one.total_seconds():.1f}" for one in (row.p50, row.p95, row.first_token_p50)]
    counts = [row.runs, row.errors, row.usage.input_tokens, row.usage.output_tokens]
    price = f"${known:f}" if row.cost is not None else f"${known:f} and unknown" if known else "unknown"
    return [*map(str, counts), price, *seconds]


@looking.command()
def examples(
    url: Url = None,
    user: Annotated[str | None, typer.Option(help="Only of this user's sessions.")] = None,
    agent: Agent = None,
    model: Model = None,
    label: Label = None,
    min_score: MinScore = None,
    like: Annotated[str | None, typer.Option(help="Such as fit this question.")] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="About how many tokens they may have together.")] = None,
    tools: Annotated[
        bool, typer.Option("--tools", help="With the calls of tools that were made for the answers.")
    ] = False,
    openai: Annotated[bool, typer.Option("--openai", help="As messages in OpenAI's form, JSON.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=PAGE, help="At most so many.")] = 5,
    into: Into = None,
    json: AsJson = False,
) -> None:
    """Pick good runs as examples for a prompt."""
    filters = filters_of(agent, model, None, None, label, None, min_score, None, None)
    with _index(url, into) as made:
        found = made.examples(user_id=whose(user), like=like, limit=limit, tokens=tokens, tools=tools, **filters)
    if openai:
        say_text(clean_json(found.openai(), indent=2))
        return
    if json:
        places = [{"session_id": one.session_id, "run": one.number, "corrected": one.corrected} for one in found]
        pairs = zip(places, found, strict=True)
        shown = [
            {**place, "question": one.question, "answer": one.answer, **({"tools": _uses(one)} if tools else {})}
            for place, one in pairs
        ]
        say_text(clean_json(shown, indent=2))
        return
    if found:
        say_text(found.prompt())
    else:
        say("There are no such runs that are good examples.", err=True)


def _uses(one: Example) -> list[JsonObject]:
    return [{"tool": use.tool, "args": use.args, "result": use.result} for uses in one.tools for use in uses]


@looking.command()
def index(
    url: Url = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Drop it and build it again.")] = False,
    drop: Annotated[bool, typer.Option("--drop", help="Remove it.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Also look for sessions that are gone unnoticed.")] = False,
    text: Annotated[
        bool | None,
        typer.Option(
            "--text/--no-text",
            help="With the words of what was said, for search, or without.",
            show_default="as the one that is there, else with them",
        ),
    ] = None,
    compact: Annotated[bool, typer.Option("--compact", help="Also take out words that deleted sessions left.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the statements that make its tables.")] = False,
    into: Into = None,
    json: AsJson = False,
) -> None:
    """Make the index by which runs, search and usage are answered, or bring it up to date."""
    with opened(url) as storage, Index(storage, into, text=text) as made, progress("sessions") as done:
        if dry_run:
            statements = [f"{statement};" for statement in made.migrate(dry_run=True)]
            say_text(clean_json({"statements": statements}, indent=2) if json else "\n".join(statements))
            return
        if drop:
            made.drop()
            told({"dropped": True}, "Removed the index.", json=json)
            return
        if rebuild:
            made.rebuild(done)
        else:
            made.migrate()
        complete = datetime.fromtimestamp((made.compact(done) if compact else made.update(done)) / 1e6, UTC)
        gone = made.check() if check else 0
        total = made.usage(user_id=whose(None)).total.runs
    if json:
        shown = {"runs": total, "complete_until": complete.isoformat(timespec="microseconds")}
        say_text(clean_json({**shown, **({"gone": gone} if check else {})}, indent=2))
        return
    if check:
        say("Took out {} sessions that are gone.", gone)
    say("The index has {} runs, up to {} UTC.", total, moment(complete))


# ---------------------------------------------------------------- what they share


@contextmanager
def _index(url: str | None, into: str | None) -> Generator[Index]:
    with opened(url) as storage, Index(storage, into) as made:
        yield made


def _tell_unreadable(unreadable: dict[str, Any]) -> None:
    for name, error in unreadable.items():
        say("{} is not shown: {}", name, error, err=True)


def filters_of(
    agent: str | None,
    model: str | None,
    tool: str | None,
    status: list[str] | None,
    label: str | None,
    error: str | None,
    min_score: float | None,
    since: str | None,
    until: str | None,
) -> RunFilters:
    """The filters that the options are."""
    given: RunFilters = {
        "agent": agent,
        "model": model,
        "tool": tool,
        "status": cast("list[Status]", status) if status else None,
        "label": label,
        "error": error,
        "min_score": min_score,
        "since": moment_of(since, "--since"),
        "until": moment_of(until, "--until"),
    }
    return cast(RunFilters, {name: value for name, value in given.items() if value is not None})


def moment_of(text: str | None, option: str) -> datetime | None:
    """A date or time, in UTC where it names no zone; or so long ago."""
    if text is None:
        return None
    if (ago := _AGO.fullmatch(text)) is not None:
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(
            f"{option} is no time: {text!r}.",
            hint="Write 2026-11-01, 2026-11-01T08:00, or 24h, 7d, 2w for so long ago.",
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
