"""Tools that an agent can be given to look into its own past."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic_ai import Tool
from pydantic_ai.toolsets import FunctionToolset

from ...errors import InvalidInputError
from ...live.session import CurrentSession, current_session
from ...records import Run, Session
from ...storage.checks import LARGEST, check_choice
from ...storage.computing import IN_JSON, computed
from ...storage.reads import newest_runs
from ...storage.storage import aoperate
from ..messages.spoken import run_lines

if TYPE_CHECKING:
    from ...insight import Index
    from ...insight.search import Order

SEARCHED_SESSIONS = 50
"""How many of the user's newest sessions a search looks into."""

SEARCHED_RUNS = 50
"""How many of the last runs of each."""

SEARCHED_BYTES = 32 * 1024 * 1024
"""How much of their logs a search reads, all together."""

SEARCHED_SECONDS = 10.0
"""After how long a search looks into no further session."""

HITS_OF_A_PAGE = 20

LONGEST_QUERY = 1_000
"""How many characters of what is searched for are looked at."""

MOST_WORDS = 20
"""How many different words of it: each is looked for in every message."""

AROUND_A_HIT = 200
"""How many characters are shown before and after the first word that was found."""

LONGEST_LINE = 2_000
"""How many characters of a message are read out."""

LONGEST_ANSWER = 16_000
"""How many characters a tool's answer has at most: it is sent to the model with every later request of the run."""


@dataclass(frozen=True, slots=True)
class PastSessions:
    """Which earlier sessions of a user an agent can search, and how.

    ```python
    index = Index(storage, embed=Embedder("openai:text-embedding-3-small"))
    agent = Agent(…, storage=storage, search_sessions=PastSessions(index, order="meaning"))
    ```

    Args:
        index: the index that is searched, of the agent's storage; it stays the caller's, who closes it. Default: the
            one beside the storage's log, where somebody has made it, else the newest sessions are looked through.
        order: `"newest"`; `"best"`; or `"meaning"`: what is nearest to the question, whether it has its words or
            not. That needs an `index` with `embed`. See `Index.search`.
        everywhere: whether the user's sessions with all agents are searched. Default: those with this one.
    """

    index: Index | None = None
    order: Order = "newest"
    everywhere: bool = False

    def __post_init__(self) -> None:
        check_choice(self.order, "order", ("newest", "best", "meaning"))
        if self.order != "newest" and self.index is None:
            raise InvalidInputError(f"order={self.order!r} needs an index.", hint="Pass index=Index(storage).")


SearchSessions = PastSessions | bool | Literal["all"]
"""Which sessions an agent can search: True: its own with the user; `"all"`: the user's with all agents."""


def history_tools(
    read_chat_history: bool, search_sessions: SearchSessions, more: Sequence[Any] = ()
) -> list[FunctionToolset[Any]]:
    """The toolset with the chosen tools, or none."""
    tools: list[Any] = [*more]
    if read_chat_history:
        tools.append(read_history)
    if search_sessions:
        tools.append(_searching(_checked(search_sessions)))
    return [FunctionToolset(tools, id="sessile_history")] if tools else []


def _checked(wanted: Any) -> PastSessions:
    """What an agent's `search_sessions=` means."""
    if isinstance(wanted, PastSessions):
        return wanted
    if wanted is True or wanted == "all":
        return PastSessions(everywhere=wanted == "all")
    raise InvalidInputError(f'search_sessions must be True, False, "all" or a PastSessions, not {wanted!r}.')


FOR_WORDS = """Search the user's earlier conversations{whom} for words; {first} come first.

Args:
    query: words that must all occur in a message; the first 20 are looked for.
    page: 1 for the first hits, 2 for those after them, and so on.
"""
FOR_MEANING = """Search the user's earlier conversations{whom} for what they were about; the nearest ones come first.

Args:
    query: what is looked for, in a few words or as a question; other words of the same meaning are found, too.
    page: 1 for the first hits, 2 for those after them, and so on.
"""


def _searching(wanted: PastSessions) -> Tool[Any]:
    """The tool that searches as it is wanted; its docstring is what a model reads."""

    async def search_past_sessions(query: str, page: int = 1) -> str:
        return await _search(query, page, wanted)

    text = FOR_MEANING if wanted.order == "meaning" else FOR_WORDS
    first = "those that have them most often" if wanted.order == "best" else "the newest conversations"
    whom = ", with whomever," if wanted.everywhere else " with you"
    search_past_sessions.__doc__ = text.format(whom=whom, first=first)
    return Tool(search_past_sessions)


async def read_history(last_runs: int = 10, from_run: int | None = None, to_run: int | None = None) -> str:
    """Read earlier messages of this conversation that you may not see any more. Long ones are cut, and marked so.

    Args:
        last_runs: how many of the last exchanges to read, at most 100.
        from_run: the number of the first exchange to read.
        to_run: the number of the last exchange to read.
    """
    session = current_session()
    runs = await session.storage.aruns(
        session.session_id,
        last=_within(last_runs, 100),
        from_run=None if from_run is None else _within(from_run, LARGEST),
        to_run=None if to_run is None else _within(to_run, LARGEST),
        user_id=session.user_id,
    )
    lines = [f"[{run.number}] {line}" for run in runs if run.run_id != session.top.run_id for line in run_lines(run)]
    return _bounded([_cut(line) for line in lines], "Ask for fewer exchanges.") or "There are no earlier messages."


def _cut(line: str) -> str:
    """A message of readable length, with a note of what is missing."""
    left_out = len(line) - LONGEST_LINE
    return line if left_out <= 0 else f"{line[:LONGEST_LINE]} … ({left_out} more characters)"


def _bounded(lines: Sequence[str], hint: str) -> str:
    """As many whole lines as an answer may hold, and a note if there are more."""
    size, kept = 0, 0
    for line in lines:
        size += len(line) + 1
        if size > LONGEST_ANSWER:
            break
        kept += 1
    rest = len(lines) - kept
    return "\n".join([*lines[:kept], *([f"({rest} more are left out. {hint})"] if rest else [])])


def _within(number: int, most: int) -> int:
    """A number that a model has made up, as one that can be asked for."""
    return max(0, min(number, most))


async def _search(query: str, page: int, wanted: PastSessions) -> str:
    """Look through the sessions of this agent (of a member: of its team), or of all agents."""
    session, everywhere = current_session(), wanted.everywhere
    own = session.top.agent
    words = list(dict.fromkeys(re.findall(r"\w+", query[:LONGEST_QUERY].casefold())))[:MOST_WORDS]
    if session.user_id is None or not words:
        return "Nothing was found: there is no user, or the query is empty."
    page = _within(page, SEARCHED_SESSIONS * SEARCHED_RUNS) or 1
    indexed = await _indexed(session, query[:LONGEST_QUERY], page, None if everywhere else own, wanted)
    if indexed is not None:
        return indexed
    first = page * HITS_OF_A_PAGE - HITS_OF_A_PAGE
    hits: list[str] = []
    listed = await session.storage.asessions(
        user_id=session.user_id, agent=None if everywhere else own, limit=SEARCHED_SESSIONS
    )
    left, until, note = SEARCHED_BYTES, time.monotonic() + SEARCHED_SECONDS, ""
    for head in listed:
        if head.session_id == session.session_id or (not everywhere and head.agent != own):
            continue
        if len(hits) > first + HITS_OF_A_PAGE:
            break
        if left <= 0 or time.monotonic() > until:
            note = "Older conversations were not searched: there is too much in these."
            break
        before = left
        runs, left = await aoperate(
            session.storage, newest_runs, head.session_id, SEARCHED_RUNS, left, user_id=session.user_id
        )
        size = (before - left) // IN_JSON
        hits += await computed(lambda head=head, runs=runs: list(_hits(head, runs, words)), size=size)
    more = len(hits) > first + HITS_OF_A_PAGE
    return _page_of(hits[first : first + HITS_OF_A_PAGE], page, more=more, note=note)


def _page_of(hits: Sequence[str], page: int, *, more: bool, note: str = "") -> str:
    """A page of hits in words."""
    found = _bounded(hits, "Search for more words.") or "Nothing was found."
    further = f"There are more: page {page + 1}." if more else note
    return "\n".join(part for part in (found, further) if part)


async def _indexed(
    session: CurrentSession, query: str, page: int, agent: str | None, wanted: PastSessions
) -> str | None:
    """The same by an index, which knows all sessions of the user; None if there is none."""
    if wanted.index is not None:
        return await _found_in(wanted.index, session, query, page, agent, wanted.order)
    from ...insight import existing_index  # not loaded where nobody searches

    index = await existing_index(session.storage)
    if index is None:
        return None
    with index:
        return await _found_in(index, session, query, page, agent, wanted.order)


async def _found_in(
    index: Index, session: CurrentSession, query: str, page: int, agent: str | None, order: Order
) -> str:
    hits: list[str] = []
    cursor: str | None = None
    last = page * HITS_OF_A_PAGE
    while True:
        try:
            found = await index.asearch(
                query, user_id=session.user_id, session_agent=agent, limit=100, cursor=cursor, order=order
            )
        except InvalidInputError:
            if order == "meaning":  # the index has no `embed`
                raise
            return "Nothing was found."  # there are no words in it
        hits += [_indexed_hit(hit) for hit in found if hit.run and hit.session_id != session.session_id]
        cursor = found.next_cursor
        if cursor is None or len(hits) > last:
            return _page_of(hits[last - HITS_OF_A_PAGE : last], page, more=len(hits) > last)


def _indexed_hit(hit: Any) -> str:
    said = " … ".join(one.text for one in hit.snippets)
    return f"[{hit.session_name or hit.session_id}, {hit.run.number if hit.run else 0}] {' '.join(said.split())}"


def _hits(head: Session, runs: Sequence[Run], words: Sequence[str]) -> Iterator[str]:
    for run in reversed(runs):
        for line in run_lines(run):
            folded = line.casefold()
            places = [folded.find(word) for word in words]
            if min(places) >= 0:
                yield f"[{head.name or head.session_id}, {run.number}] {_clip(line, min(places))}"


def _clip(line: str, place: int) -> str:
    """What stands around a hit. Folding may lengthen text before it: the place is then a little off."""
    first, last = max(0, place - AROUND_A_HIT), place + AROUND_A_HIT
    return f"{'… ' if first else ''}{line[first:last]}{' …' if last < len(line) else ''}"
