"""`dataset` and `replay`: stored runs as a data set, and run again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InvalidInputError
from ..insight import RunFilters
from ..terminal import clean_json, say, say_text
from .looking import Agent, Error, Into, Label, MinScore, Model, RunStatus, Since, Tool, Until, filters_of
from .naming import named_object
from .opening import AsJson, Url, opened, url_and, whose
from .output import progress

evaluating = typer.Typer()

OfUser = Annotated[str | None, typer.Option(help="Only runs of this user's sessions.")]
Many = Annotated[int, typer.Option(min=1, help="At most so many of the newest.")]


@evaluating.command()
def dataset(
    url: Url = None,
    out: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write this file, .yaml or .json. Default: print YAML.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the data set is called.")] = "sessile",
    evaluator: Annotated[
        list[str] | None, typer.Option(help="An evaluator of pydantic_evals, such as EqualsExpected; may be repeated.")
    ] = None,
    user: OfUser = None,
    agent: Agent = None,
    model: Model = None,
    tool: Tool = None,
    status: RunStatus = None,
    label: Label = None,
    error: Error = None,
    min_score: MinScore = None,
    since: Since = None,
    until: Until = None,
    limit: Many = 1000,
    into: Into = None,
    json: AsJson = False,
) -> None:
    """Make a data set of runs, as pydantic_evals reads it."""
    from ..evaluation import Dataset

    filters = filters_of(agent, model, tool, status, label, error, min_score, since, until)
    made = Dataset(name, _cases(url, user, limit, into, filters), list(evaluator or ()))
    if out is None:
        say_text(made.to_text("json" if json else "yaml").rstrip("\n"))
        return
    made.to_file(out)
    if json:
        say_text(clean_json({"file": out, "cases": len(made.cases)}, indent=2))
    else:
        say("Wrote {} cases to {}.", len(made.cases), out)


@evaluating.command()
def replay(
    names: Annotated[
        list[str], typer.Argument(metavar="[URL] MODULE:NAME", help="The agent, team or workflow that runs again.")
    ],
    exact: Annotated[bool, typer.Option("--exact", help="Judge whether the answer is the expected one.")] = False,
    contains: Annotated[str | None, typer.Option(metavar="TEXT", help="Judge whether this is in the answer.")] = None,
    matches: Annotated[str | None, typer.Option(metavar="REGEX", help="Judge whether the answer matches this.")] = None,
    field: Annotated[list[str] | None, typer.Option(help="Judge this field of a JSON answer; may be repeated.")] = None,
    judge: Annotated[str | None, typer.Option(metavar="MODEL", help="Let this model judge by --rubric.")] = None,
    rubric: Annotated[str, typer.Option(help="What a good answer is, for --judge.")] = "It answers the question well.",
    evaluator: Annotated[
        list[str] | None, typer.Option(metavar="MODULE:NAME", help="An evaluator of your own; may be repeated.")
    ] = None,
    tools: Annotated[str, typer.Option(help="live, or log: answer calls of tools from the log.")] = "live",
    experiment: Annotated[str | None, typer.Option(help="A name; the same one again continues it.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many run at once.")] = 4,
    fail_under: Annotated[float | None, typer.Option(help="End with code 1 if the score is less.")] = None,
    markdown: Annotated[str | None, typer.Option(metavar="FILE", help="Write the report as Markdown.")] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write the report as HTML.")] = None,
    user: OfUser = None,
    agent: Agent = None,
    label: Label = None,
    min_score: MinScore = None,
    since: Since = None,
    until: Until = None,
    limit: Many = 100,
    into: Into = None,
    json: AsJson = False,
) -> None:
    """Run an agent again over stored runs, and compare what comes of it with what was.

    Runs that fail count as failures, with the score 0.
    """
    from ..evaluation import Contains, Exact, JsonFields, Judge, Matches
    from ..evaluation import replay as run_again

    url, (name,) = url_and(names, 1, "the agent, MODULE:NAME")
    evaluators: list[Any] = [named_object(one) for one in evaluator or ()]
    evaluators += [Exact()] if exact else []
    evaluators += [] if contains is None else [Contains(contains)]
    evaluators += [] if matches is None else [Matches(matches)]
    evaluators += [JsonFields(*field)] if field else []
    evaluators += [] if judge is None else [Judge(judge, rubric)]
    runner = named_object(name)
    if not hasattr(runner, "arun") or not hasattr(runner, "storage"):
        raise InvalidInputError(f"{name!r} is no agent, team or workflow.")
    filters = filters_of(agent, None, None, None, label, None, min_score, since, until)
    found = _cases(url, user, limit, into, filters)
    with opened(url) as storage, progress("runs", len(found)) as done:
        report = run_again(
            runner,
            found,
            evaluators=evaluators,
            experiment=experiment,
            tools=tools,  # type: ignore[arg-type] (it is checked there)
            jobs=jobs,
            storage=storage,
            progress=done,
        )
    for path, text in ((markdown, report.markdown), (html, report.html)):
        if path is not None:
            _write(path, text())
    say_text(clean_json(report.to_json(), indent=2) if json else report.text())
    if fail_under is not None and report.falls_under(fail_under):
        say("The score is less than {}.", fail_under, err=True)
        raise typer.Exit(1)


def _cases(url: str | None, user: str | None, limit: int, into: str | None, filters: RunFilters) -> list[Any]:
    from ..evaluation import cases

    with opened(url) as storage:
        return cases(storage, user_id=whose(user), limit=limit, into=into, **filters)


def _write(path: str, text: str) -> None:
    made = Path(f"{path}.new")
    try:
        made.write_text(text, "utf-8")
        os.replace(made, path)
    except OSError as error:
        raise InvalidInputError(f"{path!r} cannot be written: {error.strerror}.") from error
