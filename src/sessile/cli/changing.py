"""The commands that change one session, and `stats`."""

from __future__ import annotations

import json as json_of
from typing import Annotated, Any, cast, get_args

import typer

from ..errors import InvalidInputError
from ..jsons import record_json, session_json
from ..records import ANY_USER, JsonObject, Session, Status, UserId
from ..storage import Storage
from ..storage.faces import background
from ..terminal import clean_json, say_text
from ..transcripts import moment
from .opening import AsJson, First, Second, Url, User, not_found, number_of, opened, url_and, url_and_session, whose
from .output import Table, paged, print_table, told

changing = typer.Typer()

KINDS = ("agent", "team", "workflow")

SessionAndRun = Annotated[
    list[str], typer.Argument(metavar="[URL] SESSION_ID RUN", help="The session's id, and the number of a run.")
]


@changing.command()
def rename(
    names: Annotated[
        list[str], typer.Argument(metavar="[URL] SESSION_ID NAME", help="The session's id, and the name: '' for none.")
    ],
    user: User = None,
    json: AsJson = False,
) -> None:
    """Give a session a name."""
    url, (session_id, name) = url_and(names, 2, "the id of a session, and its name")
    with opened(url) as storage:
        session = storage.rename(session_id, name or None, user_id=whose(user))
    told(session_json(session), "Session {} is called {}.", session_id, session.name or "nothing", json=json)


@changing.command()
def fork(
    first: First = None,
    second: Second = None,
    at: Annotated[int | None, typer.Option(min=0, help="The number of the last run that is copied.")] = None,
    message: Annotated[
        int | None, typer.Option(help="Keep so many messages of that run: the copy ends inside of it.")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="What tools of that run have returned instead, by the id of the call."),
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="ID", help="The id of the copy.")] = None,
    name: Annotated[str | None, typer.Option(help="The name of the copy.")] = None,
    user: User = None,
    json: AsJson = False,
) -> None:
    """Copy a session, up to and including a run, into a new one.

    With --message or --results the copy ends inside of that run (default: the newest), as interrupted; the agent's
    `resume` goes on from there.
    """
    url, session_id = url_and_session(first, second)
    given = None if results is None else _results(results)
    with opened(url) as storage:
        if message is None and given is None:
            copy = storage.fork(session_id, at=at, session_id=to, name=name, user_id=whose(user))
        else:
            copy = _forked_inside(storage, session_id, at, to, whose(user), message=message, results=given, name=name)
    told(session_json(copy), "Session {} is a copy of {}, runs: {}.", copy.session_id, session_id, copy.run_count,
         json=json)  # fmt: skip


def _results(text: str) -> JsonObject:
    """The results of tools that were given as text."""
    try:
        given: Any = json_of.loads(text)
    except ValueError as error:
        raise InvalidInputError(f"--results is no JSON: {error}.") from None
    if not isinstance(given, dict):
        raise InvalidInputError("--results is a JSON object: the ids of calls, and what each has returned.")
    return cast(JsonObject, given)


def _forked_inside(
    storage: Storage, session_id: str, at: int | None, to: str | None, user_id: UserId, **inside: Any
) -> Session:
    from ..agents.inside import fork_inside

    if at is None:
        head = storage.get_session(session_id, user_id=user_id)
        if head is None:
            raise not_found(session_id)
        at = head.tip
    return background.run(fork_inside(storage, session_id, at, session_id=to, user_id=user_id, **inside))


@changing.command()
def rewind(
    names: SessionAndRun,
    keep_state: Annotated[bool, typer.Option("--keep-state", help="Leave the state as it is now.")] = False,
    user: User = None,
    json: AsJson = False,
) -> None:
    """Go back to a run (0: before the first), to ask again; what it leaves stays as a branch."""
    url, (session_id, run) = url_and(names, 2, "the id of a session, and the number of a run")
    with opened(url) as storage:
        session = storage.rewind(session_id, at=number_of(run), restore_state=not keep_state, user_id=whose(user))
    told(session_json(session), "Session {} goes on after run {}.", session_id, session.tip, json=json)


@changing.command()
def erase(
    names: SessionAndRun,
    message: Annotated[int | None, typer.Option(min=0, help="Only this message of the run, counted from 0.")] = None,
    user: User = None,
    json: AsJson = False,
) -> None:
    """Erase what was said in a run, for good; the rest of the session stays."""
    url, (session_id, run) = url_and(names, 2, "the id of a session, and the number of a run")
    with opened(url) as storage:
        left = storage.erase_run(session_id, number_of(run), message=message, user_id=whose(user))
    what = "run" if message is None else f"message {message} of run"
    told(record_json(left), "Erased {} {} of session {}.", what, left.number, session_id, json=json)


@changing.command()
def scopes(url: Url = None, user: User = None, json: AsJson = False) -> None:
    """List what outlives sessions: the states of users and applications, the one that changed last first."""
    with opened(url) as storage:
        page = storage.scopes(user_id=whose(user), limit=1000)
        found = list(page)
        while page.next_cursor is not None:
            page = storage.scopes(user_id=whose(user), limit=1000, cursor=page.next_cursor)
            found += page
    if json:
        say_text(clean_json([session_json(one) for one in found], indent=2))
        return
    rows = [
        [
            "app" if one.user_id is None else "user",
            one.user_id or one.name or "",
            clean_json(one.state),
            moment(one.updated_at),
        ]
        for one in found
    ]
    with paged():
        print_table(Table(("scope", "whose", "state", "updated (UTC)"), rows))


@changing.command()
def stats(url: Url = None, json: AsJson = False) -> None:
    """Count the sessions by status and kind, and tell what the database can do."""
    with opened(url) as storage:
        total = storage.count_sessions(user_id=ANY_USER)
        by_status = {one: storage.count_sessions(user_id=ANY_USER, status=one) for one in get_args(Status)}
        by_kind = {one: storage.count_sessions(user_id=ANY_USER, kind=one) for one in KINDS}
        capabilities = storage.capabilities
    able = {name: getattr(capabilities, name) for name in sorted(_names(capabilities))}
    if json:
        shown = {"sessions": total, "status": by_status, "kind": by_kind, "database": able}
        say_text(clean_json(shown, indent=2))
        return
    counts = {**{f"{one} sessions": number for one, number in by_status.items()},
              **{f"sessions of kind {one}": number for one, number in by_kind.items()}}  # fmt: skip
    rows = [["sessions", str(total)], *([name, str(number)] for name, number in counts.items() if number)]
    rows += [[name.replace("_", " "), _said(value)] for name, value in able.items()]
    print_table(Table(("what", "value"), rows))


def _names(capabilities: object) -> list[str]:
    kinds = (bool, int, str)
    return [name for name in dir(capabilities) if name[0] != "_" and isinstance(getattr(capabilities, name), kinds)]


def _said(value: object) -> str:
    return (
        ("yes" if value else "no")
        if isinstance(value, bool)
        else f"{value:,}"
        if isinstance(value, int)
        else f"{value}"
    )
