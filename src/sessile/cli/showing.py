"""`show`: a session as people read it."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import RunNotFoundError
from ..jsons import record_json, session_json
from ..records import Run, Session
from ..terminal import clean_json, say, say_block, say_text
from ..transcripts import head_lines, moment, transcript, usage_text
from .opening import AsJson, First, Second, User, not_found, opened, url_and_session, whose
from .output import paged, print_heading

showing = typer.Typer()


@showing.command()
def show(
    first: First = None,
    second: Second = None,
    user: User = None,
    runs: Annotated[int, typer.Option(min=0, help="How many of the newest runs.")] = 10,
    run: Annotated[
        int | None,
        typer.Option(min=1, help="Only this run, on whatever branch, with all that its tools have returned."),
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Messages as they are stored, one JSON on each line.")] = False,
    json: AsJson = False,
) -> None:
    """Show a session and its newest runs: who said what, tools, members, steps, ratings, and what is waited for."""
    url, session_id = url_and_session(first, second)
    with opened(url) as storage:
        view = storage.get_session(session_id, last_runs=0 if run else runs, user_id=whose(user))
        if view is None:
            raise not_found(session_id)
        found = view.runs if run is None else [storage.get_run(session_id, run, user_id=whose(user))]
    if json:
        shown = {"session": session_json(view), "runs": [record_json(one) for one in found]}
        say_text(clean_json(shown, indent=2))
        return
    with paged():
        if run is None and not raw:
            _print_head(view)
        for one in found:
            _print_run(one, whole=run is not None, raw=raw)
        for number, error in view.runs.unreadable.items():
            if not isinstance(error, RunNotFoundError):
                say("Run {} is not shown: {}", number, error)


def _print_head(view: Session) -> None:
    say("Session {}", view.session_id)
    for name, value in head_lines(view):
        say("  {}: {}", name, value)
    for name, time in (("created", view.created_at), ("updated", view.updated_at)):
        say("  {}: {} UTC", name, moment(time))


def _print_run(run: Run, *, whole: bool, raw: bool) -> None:
    if raw:
        for message in run.messages:
            say_text(clean_json(message.data))
        for child in run.children:
            _print_run(child, whole=whole, raw=True)
        return
    usage = f", {usage_text(run.usage)}" if run.usage.requests else ""
    by = "" if run.answered_by is None else f", answered by {run.answered_by}"
    print_heading("Run {}, {}, {} UTC{}{}", run.number, run.status, moment(run.started_at), by, usage)
    for line in transcript(run, whole=whole):
        if line.who:
            say_block(line.who, line.text, "  " * line.depth)
        else:
            say("{}{}", "  " * line.depth, line.text)
