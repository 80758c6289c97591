"""The commands that let what is old go: sweeping by policies, holds, deleting a user. Needs the extra `cli`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InvalidInputError
from ..retention import Policy, Retained, erase_user, retain
from ..storage import Storage
from ..terminal import clean_json, say, say_text
from .opening import AsJson, First, Second, Url, User, opened, url_and, url_and_session, whose
from .output import Progress, progress, told

retaining = typer.Typer()


@retaining.command()
def sweep(
    url: Url = None,
    keep: Annotated[
        str | None, typer.Option(help="Delete sessions that have not changed for so long: 24h, 90d, 12w, 2y.")
    ] = None,
    keep_runs: Annotated[
        int | None, typer.Option(min=1, help="Of longer sessions, remove what the oldest runs have; so many stay.")
    ] = None,
    branches: Annotated[
        bool, typer.Option("--branches", help="Remove what runs have that were left by going back.")
    ] = False,
    spare_rated: Annotated[bool, typer.Option("--spare-rated", help="Leave alone what somebody has rated.")] = False,
    user: Annotated[str | None, typer.Option(help="Only sessions of this user.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only sessions of this agent, team or workflow.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only sessions of this kind; cache: kept results of steps.")] = None,
    label: Annotated[str | None, typer.Option(help="Only sessions with a run that has this label.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, and say what would go.")] = False,
    json: AsJson = False,
) -> None:
    """Remove expired sessions, and what is older than you want to keep.

    Also what crashes have left; and notes, for runs whose process is gone, that they are interrupted.
    """
    policy = _policy(keep, keep_runs, branches, spare_rated, user, agent, kind, label)
    if dry_run and policy is None:
        raise InvalidInputError("--dry-run says what a policy would take: give --keep, --keep-runs or --branches.")
    with opened(url) as storage, progress("sessions") as shown:
        done = None if policy is None else _retained(storage, policy, dry_run, shown)
        removed = 0 if dry_run else storage.sweep()
    if done is None:
        told({"removed": removed}, "Removed {} session{}.", removed, "" if removed == 1 else "s", json=json)
        return
    if json:
        say_text(clean_json({"removed": removed, **done.to_json()}, indent=2))
    else:
        _tell(done, removed)
    if done.skipped:
        raise typer.Exit(1)


def _policy(
    keep: str | None,
    runs: int | None,
    branches: bool,
    spare_rated: bool,
    user: str | None,
    agent: str | None,
    kind: str | None,
    label: str | None,
) -> Policy | None:
    if keep is None and runs is None and not branches:
        if spare_rated or (user, agent, kind, label) != (None, None, None, None):
            raise InvalidInputError("Say what is to go: --keep, --keep-runs or --branches.")
        return None
    return Policy(keep, runs, branches, spare_rated, kind, agent, user, label)


def _retained(storage: Storage, policy: Policy, dry_run: bool, shown: Progress) -> Retained:
    def count(done: Retained) -> None:
        shown(len(done.deleted) + len(done.trimmed) + len(done.branches))

    return retain(storage, [policy], dry_run=dry_run, progress=count)


def _tell(done: Retained, removed: int) -> None:
    would = "Would delete" if done.dry_run else "Deleted"
    for session_id, why in done.deleted.items():
        say("{} session '{}': {}.", would, session_id, why)
    would = "Would remove" if done.dry_run else "Removed"
    for session_id, upto in done.trimmed.items():
        say("{} what runs up to {} of session '{}' have.", would, upto, session_id)
    for session_id, numbers in done.branches.items():
        say("{} what {} left runs of session '{}' have.", would, len(numbers), session_id)
    for session_id, why in done.held.items():
        say("Session '{}' is held: {}", session_id, why)
    for session_id, error in done.skipped.items():
        say("Session '{}' was left as it is: {}", session_id, error, err=True)
    counts = (len(done.deleted), len(done.trimmed), len(done.branches), removed)
    say("{} sessions by age, {} trimmed, {} with branches; {} had expired.", *counts)


@retaining.command()
def hold(
    names: Annotated[list[str], typer.Argument(metavar="[URL] SESSION_ID REASON", help="Which session, and why.")],
    user: User = None,
    json: AsJson = False,
) -> None:
    """Keep a session from being deleted, by anybody and anything, until it is released."""
    url, (session_id, reason) = url_and(names, 2, "the id of a session and the reason")
    with opened(url) as storage:
        storage.hold(session_id, reason, user_id=whose(user))
    told({"held": session_id}, "Session {} is held.", session_id, json=json)


@retaining.command()
def release(first: First = None, second: Second = None, user: User = None, json: AsJson = False) -> None:
    """Let a session that was held be deleted again."""
    url, session_id = url_and_session(first, second)
    with opened(url) as storage:
        storage.release(session_id, user_id=whose(user))
    told({"released": session_id}, "Session {} may be deleted again.", session_id, json=json)


@retaining.command("erase-user")
def erase_user_command(
    names: Annotated[list[str], typer.Argument(metavar="[URL] USER_ID", help="Whose sessions are deleted.")],
    json: AsJson = False,
) -> None:
    """Delete all sessions of a user, look whether any is left, and report it.

    With --json the report is complete: keep it for whoever has to be shown that it was done.
    """
    url, (user_id,) = url_and(names, 1, "the id of a user")
    with opened(url) as storage:
        done = erase_user(storage, user_id)
    if json:
        say_text(clean_json(done.to_json(), indent=2))
    else:
        say("Deleted {} sessions of user '{}'; {} are left.", len(done.sessions), user_id, len(done.left))
        for session_id, why in done.held.items():
            say("Session '{}' is held: {}", session_id, why)
        if done.compaction:
            say("{}", done.compaction)
    if not done.complete:
        raise typer.Exit(1)
