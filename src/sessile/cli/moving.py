"""The commands that move sessions: into another storage, into files, and out of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from ..errors import InvalidInputError, SessileError
from ..jsons import record_json
from ..records import Status
from ..storage import Storage, open_storage
from ..terminal import clean_json, say, say_text
from ..transfer import (
    Archived,
    Copied,
    Exported,
    Imported,
    Library,
    SessionChoice,
    copy,
    export_archive,
    export_chat,
    export_messages,
    export_runs,
    export_transcripts,
    import_archive,
    import_conversations,
)
from ..transfer.copying import STOP_SECONDS, Stop
from ..transfer.importing.importing import LIBRARIES
from .looking import moment_of
from .opening import (
    KEYS,
    AsJson,
    First,
    Second,
    User,
    for_file,
    not_found,
    opened,
    url_and,
    url_and_session,
    url_of,
    whose,
    with_keys,
)
from .output import Progress, progress, told

PAGE = 1000

FORMS = ("archive", "runs", "messages", "chat", "otel", "markdown", "html")

moving = typer.Typer()

Kind = Annotated[str | None, typer.Option(help="Only sessions of this kind: agent, team, workflow, …")]
Agent = Annotated[str | None, typer.Option(help="Only sessions of this agent, team or workflow.")]
WithStatus = Annotated[str | None, typer.Option(help=f"Only those whose newest run is {', '.join(get_args(Status))}.")]
Since = Annotated[str | None, typer.Option(help="Only what has changed since then: a date, a time, or 24h, 7d, 2w.")]
Until = Annotated[str | None, typer.Option(help="Only what has not changed since then.")]


@moving.command("copy")
def copy_command(
    names: Annotated[list[str], typer.Argument(metavar="[FROM] TO", help="URLs of two databases.")],
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.")] = None,
    agent: Agent = None,
    kind: Kind = None,
    status: WithStatus = None,
    since: Since = None,
    until: Until = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Remove from TO what matches and FROM does not have any more.")
    ] = False,
    verify: Annotated[bool, typer.Option(help="Compare each session that was copied, commit by commit.")] = True,
    workers: Annotated[int, typer.Option(min=1, help="How many sessions are copied at once.")] = 4,
    rate: Annotated[float | None, typer.Option(help="At most so many commits a second.")] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="To move for good: ask for what writes to FROM to be stopped, at the end.")
    ] = False,
    stop_command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="As --stop, by a command, which returns when all has stopped.")
    ] = None,
    stop_seconds: Annotated[
        float, typer.Option(help="How long it may take behind the stop, else it is given up.")
    ] = STOP_SECONDS,
    from_plain: Annotated[
        bool, typer.Option("--from-plain", help=f"FROM is not encrypted, though ${KEYS} is set.")
    ] = False,
    to_plain: Annotated[bool, typer.Option("--to-plain", help=f"TO is not encrypted, though ${KEYS} is set.")] = False,
    json: AsJson = False,
) -> None:
    """Copy sessions into another database, as they are, while both are in use.

    Call it again after a crash, or for what has come since: what is there already is not copied again. TO is made if it
    is not there. With --stop or --stop-command nothing that was acknowledged in FROM is missing in TO when it ends
    without an error; start your programs with TO then, and with FROM if there was one.
    """
    if len(names) > 2:
        raise typer.BadParameter("Give two URLs.")
    if stop and stop_command is not None:
        raise typer.BadParameter("Give --stop or --stop-command, not both.")
    choice = _choice(user, agent, kind, status, since, until)
    first = names[0] if len(names) == 2 else None
    with (
        opened(first, plain=from_plain) as source,
        open_or_make(names[-1], plain=to_plain) as target,
        progress("sessions") as shown,
    ):
        copied = copy(
            source,
            target,
            verify=verify,
            mirror=mirror,
            workers=workers,
            commits_per_second=rate,
            progress=lambda done: shown(done.sessions + done.unchanged),
            stop=_stopping(stop, stop_command, shown),
            stop_seconds=stop_seconds,
            **choice,
        )
    _tell(copied, json, removed=copied.removed)


def _stopping(ask: bool, command: str | None, shown: Progress) -> Stop | None:
    """What stops the writers of a source: a command, or whoever sits there."""

    def stop(copied: Copied) -> None:
        shown.end()
        if command is not None:
            _run(command)
            return
        say("{} sessions are copied. Stop all that writes to FROM, then press Enter.", copied.sessions, err=True)
        if not sys.stdin.readline():
            raise SessileError("Nobody has said that all has stopped.", hint="Use --stop-command where nobody sits.")

    return stop if ask or command is not None else None


def _run(command: str) -> None:
    """Run a command of the user's shell; what it says goes to the standard error, where it spoils no JSON."""
    code = subprocess.run(command, shell=True, check=False, stdout=2).returncode  # noqa: S602 (it is the user's own)
    if code:
        raise SessileError(
            f"The command that was to stop all that writes has failed: it ended with {code}.",
            hint="All that had changed before is copied; call it again.",
        )


@moving.command()
def export(
    first: First = None,
    second: Second = None,
    to: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a file: of this session, or of all that match.")
    ] = None,
    what: Annotated[
        str, typer.Option("--as", metavar="FORM", help=f"What it is to have: {', '.join(FORMS)}.")
    ] = "archive",
    min_score: Annotated[
        float | None, typer.Option(help="Of chat: learn only from answers that were rated so high, or corrected.")
    ] = None,
    user: User = None,
    agent: Agent = None,
    kind: Kind = None,
    status: WithStatus = None,
    since: Since = None,
    until: Until = None,
    json: AsJson = False,
) -> None:
    """Print a session's log as JSON Lines; or, with --to, write a file of one session or of many.

    Printed are all entries, oldest first, on all branches; media stay in the database. An archive is complete, and
    `sessile import` takes it in. Tables of runs or messages are CSV, JSON Lines or Parquet, as the file's name ends;
    chat is for fine-tuning; otel has runs as OpenTelemetry's conventions do; markdown and html are transcripts. What
    ends in .gz is compressed.
    """
    if to is None:
        url, session_id = url_and_session(first, second)
        with opened(url) as storage:
            _print_entries(storage, session_id, user)
        return
    url, session_id = (first, second) if second is not None or _is_url(first) else (None, first)
    choice = _choice(user, agent, kind, status, since, until)
    chosen = None if session_id is None else [session_id]
    if chosen is not None and len(choice) > (user is not None):
        raise InvalidInputError("A session that is named is chosen by nothing else.")
    with opened(url) as storage, progress("sessions") as shown, for_file(to, "written"):
        if session_id is not None and user is not None:
            _check_owner(storage, session_id, user)
        if what != "archive":
            _tell_rows(_export_told(storage, to, what, min_score, chosen, choice), json)
            return
        done = export_archive(storage, to, session_ids=chosen, progress=_count(shown), **choice)
    _tell(done, json)


def _export_told(
    storage: Storage,
    to: str,
    what: str,
    min_score: float | None,
    chosen: list[str] | None,
    choice: SessionChoice,
) -> Exported:
    if what == "runs":
        return export_runs(storage, to, session_ids=chosen, **choice)
    if what == "messages":
        return export_messages(storage, to, session_ids=chosen, **choice)
    if what == "chat":
        return export_chat(storage, to, min_score=min_score, session_ids=chosen, **choice)
    if what == "otel":
        from ..telemetry import export_otel  # loads OpenTelemetry

        return export_otel(storage, to, session_ids=chosen, **choice)
    if what not in FORMS:
        raise InvalidInputError(f"--as is one of {', '.join(FORMS)}; {what!r} is none.")
    form = "html" if what == "html" else "markdown"
    return export_transcripts(storage, to, form=form, session_ids=chosen, **choice)


def _tell_rows(done: Exported, json: bool) -> None:
    skipped = {name: str(error) for name, error in done.skipped.items()}
    counts = {"sessions": done.sessions, "rows": done.rows, "skipped": skipped}
    told(counts, "{} sessions, {} rows.", done.sessions, done.rows, json=json)
    for name, error in done.skipped.items():
        say("'{}' was left out: {}", name, error, err=True)
    if done.skipped:
        raise typer.Exit(1)


@moving.command("import")
def import_command(
    names: Annotated[
        list[str], typer.Argument(metavar="[URL] FILE", help="A file that `sessile export --to` wrote, or see --from.")
    ],
    library: Annotated[
        str | None, typer.Option("--from", help=f"What another library has stored: {', '.join(LIBRARIES)}.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="With --from: whose they become, where nothing says it.")] = None,
    agent: Annotated[str | None, typer.Option(help="With --from: of which agent, where nothing says it.")] = None,
    prefix: Annotated[str, typer.Option(help="With --from: what the ids of sessions begin with here.")] = "",
    zone: Annotated[
        str | None, typer.Option(help="With --from: the time zone of times that have none: Europe/Berlin.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="With --from openai-agents: a file with the key that it is encrypted with.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Take sessions in, as they were: those of an archive, or what another library has stored.

    Of an archive all is checked first, and nothing is written if a line is wrong. A second import changes nothing.
    """
    url, (path,) = url_and(names, 1, "the path of an archive")
    if library is None:
        if not Path(path).is_file():
            raise InvalidInputError(f"There is no file {path!r}.")
        with open_or_make(url) as storage, progress("sessions") as shown, for_file(path, "read"):
            done = import_archive(path, storage, progress=_count(shown))
        _tell(done, json)
        return
    key = None if key_file is None else _key_in(key_file)
    with open_or_make(url) as storage, progress("sessions") as shown, for_file(path, "read"):
        taken = import_conversations(
            path,
            storage,
            library=cast(Library, library),
            user_id=user,
            agent=agent,
            prefix=prefix,
            zone=zone,
            key=key,
            progress=lambda done: shown(done.sessions + done.unchanged),
        )
    _tell_taken(taken, json)


def _key_in(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError):
        raise InvalidInputError(f"There is no text in {str(path)!r} that could be a key.") from None


def _tell_taken(done: Imported, json: bool) -> None:
    """What was taken over; what was left out is told line by line, and is no error: the rest is here."""
    if json:
        skipped = [{"where": where, "why": why} for where, why in done.skipped]
        counts = {"sessions": done.sessions, "runs": done.runs, "messages": done.messages, "unchanged": done.unchanged}
        say_text(clean_json({**counts, "skipped": skipped}, indent=2))
        return
    say("{} sessions, {} runs, {} messages; {} sessions were there already.",
        done.sessions, done.runs, done.messages, done.unchanged)  # fmt: skip
    for where, why in done.skipped:
        say("Left out: {}: {}", where, why, err=True)


# ---------------------------------------------------------------- what they share


def _is_url(text: str | None) -> bool:
    return text is None or text == "-" or "://" in text


def open_or_make(named: str | None, *, plain: bool = False) -> Storage:
    """The storage of a URL, whose tables or files are made if they are not there."""
    return with_keys(open_storage(url_of(named)), plain=plain)


def _print_entries(storage: Storage, session_id: str, user: str | None) -> None:
    after = 0
    while found := storage.entries(session_id, after=after, limit=PAGE, user_id=whose(user)):
        for entry in found:
            say_text(clean_json(record_json(entry)))
        after = found[-1].seq


def _check_owner(storage: Storage, session_id: str, user: str) -> None:
    if storage.get_session(session_id, user_id=user) is None:
        raise not_found(session_id)


def _choice(
    user: str | None, agent: str | None, kind: str | None, status: str | None, since: str | None, until: str | None
) -> SessionChoice:
    given = {
        "user_id": user,
        "agent": agent,
        "kind": kind,
        "status": status,
        "since": moment_of(since, "--since"),
        "until": moment_of(until, "--until"),
    }
    return cast(SessionChoice, {name: value for name, value in given.items() if value is not None})


def _count(shown: Progress) -> Callable[[Archived], None]:
    return lambda done: shown(done.sessions + done.unchanged)


def _tell(done: Copied | Archived, json: bool, **more: int) -> None:
    """What was done; what was left out is an error, because somebody has to look at it."""
    counts = {"sessions": done.sessions, "commits": done.commits, "records": done.records, "unchanged": done.unchanged}
    counts |= more
    if json:
        skipped = {session_id: str(error) for session_id, error in done.skipped.items()}
        say_text(clean_json({**counts, "skipped": skipped}, indent=2))
    else:
        say("{} sessions, {} commits, {} media and records; {} were there already.", *list(counts.values())[:4])
        if more.get("removed"):
            say("Removed {} sessions that are gone.", more["removed"])
        for session_id, error in done.skipped.items():
            say("Session '{}' was left out: {}", session_id, error, err=True)
    if done.skipped:
        raise typer.Exit(1)
