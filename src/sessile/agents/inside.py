"""Going back to a step inside of a run: a fork that ends there, and goes on by `resume`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from ..errors import CorruptDataError, InvalidInputError, SessionNotFoundError
from ..records import Entry, JsonObject, Message, Run, Session, UserId
from ..storage import branches, patch
from ..storage.checks import check_count
from ..storage.encoding import check_json
from ..storage.media import put_back
from ..storage.snapshots import Draft
from ..storage.storage import Storage, aoperate
from ..storage.vocabulary import MessageAdded, RunEnded, RunStarted, StatePatched, ToolEnded
from .messages.counted import count_responses, usage_of
from .messages.stored import FORMAT, load_messages

FAILED = "failed"


async def fork_inside(
    storage: Storage,
    source: str,
    number: int,
    *,
    message: int | None = None,
    results: Mapping[str, Any] | None = None,
    session_id: str | None = None,
    user_id: UserId = None,
    name: str | None = None,
) -> Session:
    """See `AgentSession.fork`: a copy whose last run ends after one of its messages, or with other results of tools."""
    if (message is None) == (results is None):
        raise InvalidInputError("Say either how many messages of the run are kept, or which results are others.")
    head = await storage.aget_session(source, user_id=user_id)
    run = await storage.aget_run(source, number, user_id=user_id)
    _check(run)
    ended: list[ToolEnded] = []
    if results is not None:
        check_json(dict(results), "results")
        await _check_media(storage, source, user_id, results)
        count = _asked_at(run, results)
        ended = list(_ended(run, count, results))
    else:
        check_count(message, "message", least=1)
        count = cast(int, message)
        if count > len(run.messages):
            raise InvalidInputError(f"Run {number} has {len(run.messages)} messages, not {count}.")
    kept = run.messages[:count]
    if head is None:
        raise SessionNotFoundError(f"There was no session {source!r} a moment ago.")
    before = _before(head, number)
    returned = sum(one.outcome == "returned" for one in ended)
    counted = (
        kept[:-1] if kept[-1].data.get("kind") == "response" else kept
    )  # that one is counted when it is given again
    used = usage_of(count_responses(await load_messages(counted, _no_media)))
    used.tool_calls += returned

    def drafts(own: int) -> list[Draft]:
        def entry(said: Any, format: str | None = None) -> Entry:
            return said.entry(run.run_id, own, None, run.agent, format)

        started = RunStarted(
            input=run.input,
            durability="step",
            metadata=run.metadata or None,
            given=run.given or None,
            started_at=run.started_us,
        )
        end = RunEnded(status="interrupted", usage=used.to_json(), copied=True)
        messages = [entry(MessageAdded(one.data), one.format) for one in kept]
        return [
            Draft([entry(started), *messages[:-1]], own),
            Draft([messages[-1]], own),  # what has come of its calls stands behind it
            Draft([*map(entry, ended), entry(end)], own),
        ]

    changes = list(_changed(run, kept[-1].seq))
    last = branches.Part(
        drafts, changes, of=number, upto=_upto(run, count, told=results is not None), incarnation=head.incarnation
    )
    return await aoperate(
        storage, branches.fork, source, at=before, session_id=session_id, user_id=user_id, name=name, last=last
    )


async def _check_media(storage: Storage, source: str, user_id: UserId, results: Mapping[str, Any]) -> None:
    """Refuse results that name media which the session does not have: nobody could read the copy."""

    async def read(digest: str) -> bytes:
        return await storage.amedia(source, digest, user_id=user_id)

    try:
        await put_back(dict(results), read)
    except CorruptDataError as error:
        raise InvalidInputError(f"The results name media that session {source!r} does not have.") from error


def _check(run: Run) -> None:
    if run.children or run.durability == "workflow":
        raise InvalidInputError(
            f"Run {run.number} has runs below it: only a run of one agent can be gone back into.",
            hint="Fork the session at a whole run: at=.",
        )
    if not run.messages or any(one.format != FORMAT for one in run.messages):
        raise InvalidInputError(f"Run {run.number} has no messages that an agent has stored.")


def _before(head: Session, number: int) -> int:
    """The run before this one, on the branch that ends with it; 0: there is none."""
    *earlier, (first, last) = head.path(number) or [(number, number)]
    return last - 1 if last > first else (earlier[-1][1] if earlier else 0)


async def _no_media(digest: str) -> bytes:
    return b""  # only what was used is counted


def _parts(message: Message) -> list[JsonObject]:
    parts = cast("list[Any]", message.data.get("parts") or [])
    return [cast(JsonObject, one) for one in parts if isinstance(one, dict)]


def _calls(message: Message) -> dict[str, JsonObject]:
    return {str(one.get("tool_call_id")): one for one in _parts(message) if one.get("part_kind") == "tool-call"}


def _asked_at(run: Run, results: Mapping[str, Any]) -> int:
    """How many messages there are up to the response, the newest one, that has made all of these calls."""
    for place in range(len(run.messages), 0, -1):
        if results and results.keys() <= _calls(run.messages[place - 1]).keys():
            return place
    raise InvalidInputError(
        f"No response of run {run.number} has made the calls {', '.join(sorted(results))}.",
        hint="The ids of tool calls stand in the run's messages; those of one response are changed together.",
    )


def _ended(run: Run, count: int, results: Mapping[str, Any]) -> Iterator[ToolEnded]:
    """What has come of each call of a response: the results that are given, and of the other calls what was there."""
    answers = run.messages[count] if count < len(run.messages) else None
    first, last = run.messages[count - 1].seq, None if answers is None else answers.seq
    stored = {
        said.tool_call_id: said
        for step in run.steps
        if first <= step.seq and (last is None or step.seq <= last) and (said := ToolEnded.read(step)) is not None
    }
    returned = {} if answers is None else {str(one.get("tool_call_id")): one for one in _parts(answers)}
    for call, part in _calls(run.messages[count - 1]).items():
        name, there = str(part.get("tool_name")), stored.get(call)
        if call in results:
            state = None if there is None else there.state
            yield ToolEnded(tool_call_id=call, tool_name=name, outcome="returned", value=results[call], state=state)
        elif there is not None and there.outcome != "deferred":
            yield there
        elif call in returned:
            yield _as_returned(call, name, returned[call])


def _as_returned(call: str, name: str, part: JsonObject) -> ToolEnded:
    """What has come of a call, as the model was told."""
    content: Any = part.get("content")
    if part.get("part_kind") == "retry-prompt":
        return ToolEnded(tool_call_id=call, tool_name=name, outcome="retry", message=str(content))
    if part.get("outcome") == FAILED:
        return ToolEnded(tool_call_id=call, tool_name=name, outcome=FAILED, message=str(content))
    return ToolEnded(tool_call_id=call, tool_name=name, outcome="returned", value=content)


def _upto(run: Run, count: int, *, told: bool) -> int | None:
    """The revision at which so many messages were there, and (`told`) what has come of the calls of the last one.

    None if that is not known: then all messages were stored when the run ended.
    """
    if run.durability != "step":
        return None
    if not told:
        return run.messages[count - 1].seq
    if count < len(run.messages):
        return run.messages[count].seq
    return max((one.seq for one in run.steps), default=run.messages[count - 1].seq)


def _changed(run: Run, seq: int) -> patch.Patch:
    """What the run had changed in the state before a message, as far as that is stored."""
    saved: patch.Patch = []
    since: patch.Patch = []
    for step in run.steps:
        if step.seq >= seq:
            continue
        if (patched := StatePatched.read(step)) is not None:
            saved, since = [*saved, *patched.patch], []
        elif (ended := ToolEnded.read(step)) is not None and ended.state is not None:
            since = ended.state
    return [*saved, *since]
