"""The command that shows and changes what is remembered about users."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InvalidInputError
from ..jsons import record_json
from ..storage import Storage
from ..storage.memories import UserMemory, by_words
from ..terminal import clean_json, say, say_text
from ..transcripts import moment
from .opening import AsJson, Url, opened
from .output import Table, paged, print_table

remembering = typer.Typer()


@remembering.command()
def memories(
    url: Url = None,
    user: Annotated[str | None, typer.Option(help="Of this user only. To change any, the user must be named.")] = None,
    find: Annotated[str | None, typer.Option(metavar="WORDS", help="Only those with some of these words.")] = None,
    add: Annotated[str | None, typer.Option(metavar="TEXT", help="Remember this.")] = None,
    replaces: Annotated[str | None, typer.Option(metavar="ID", help="With --add: in the place of this one.")] = None,
    forget: Annotated[str | None, typer.Option(metavar="ID", help="Forget this one, for good.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    json: AsJson = False,
) -> None:
    """List what is remembered about users, the one that was written last first; add to it, or forget."""
    with opened(url) as storage:
        if add is not None or forget is not None or replaces is not None:
            _change(storage, user, add, replaces, forget)
        found = storage.all_memories() if user is None else storage.memories(user).all()
    shown = (found if find is None else by_words(found, find))[:limit]
    if json:
        say_text(clean_json([record_json(one) for one in shown], indent=2))
        return
    with paged():
        columns = ("memory", "whose", "what", "topics", "from", "updated (UTC)")
        print_table(Table(columns, [_row(one) for one in shown], spare=("topics", "from", "what")))


def _change(storage: Storage, user: str | None, add: str | None, replaces: str | None, forget: str | None) -> None:
    if user is None:
        raise InvalidInputError("Say whose memories are to be changed: --user.")
    mine = storage.memories(user)
    if replaces is not None and add is None:
        raise InvalidInputError("Say what is to be remembered instead: --add.")
    if add is not None:
        mine.add(add) if replaces is None else mine.update(replaces, add)
    if forget is not None and not mine.delete(forget):
        say("There is no memory {} of this user.", forget, err=True)
        raise typer.Exit(1)


def _row(memory: UserMemory) -> list[str]:
    return [
        memory.memory_id,
        memory.user_id or "",
        memory.memory,
        ", ".join(memory.topics),
        memory.session_id or "",
        moment(memory.updated_at),
    ]
