"""The parts of docs/format.md that are made from the classes: `python -m tests.format_page` writes them anew.

A test compares them with the page, and the page with what is stored.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

from sessile.records import Entry, OpenRun, Session, Usage
from sessile.storage import vocabulary as v
from sessile.storage.encoding import encode_commit
from sessile.storage.vocabulary.words import Field, Fields, Word

PAGE = Path(__file__).resolve().parent.parent / "docs" / "format.md"

COLUMNS: dict[str, str] = {
    "session_id": "the caller's id of the session: 1 to 255 bytes of UTF-8",
    "incarnation": "random; a session that is deleted and made again under its id is another one",
    "revision": "`seq` of the last commit that the head contains",
    "kind": "`agent`, `team`, `workflow`, or what the caller says",
    "agent": "the name of the agent, team or workflow that made the session, or null",
    "user_id": "whose session it is, or null",
    "name": "a title for people, or null",
    "status": "`paused` where a run of the branch is, unless the newest run is `running`; else the newest run's, "
    "and null before the first",
    "created_at": "the time of the first commit, microseconds UTC",
    "updated_at": "the time of the last commit",
    "expires_at": "when the session is gone, or null: never",
    "hidden": "whether the session is in no list; the body says why",
    "metadata": "what the application keeps beside the session: JSON text of an object",
    "body": "the rest: JSON text, see below",
}
"""The columns of a head."""

COMMIT_COLUMNS: dict[str, str] = {
    "seq": "its place in the log: 1, 2, 3 … without gaps",
    "commit_id": "its own id, by which a writer finds out whether a commit arrived whose answer was lost",
    "run": "the number of the top-level run that it belongs to; 0: to none",
    "time": "when it was made, microseconds UTC; never before the one that it follows, unless a wrong clock made that",
    "body": "its entries: JSON text, see below",
    "key": "a name by which it is found again: of a run whose id the caller gave, `run:` and the id; mostly null",
}
"""The columns of a commit."""

ENVELOPE: dict[str, str] = {
    "kind": "what it is: see the kinds below",
    "data": "its content",
    "run_id": "the id of the run that it belongs to, if it belongs to one",
    "run": "the number of the top-level run that it belongs to",
    "parent_run_id": "of an entry of a run below another one: the id of that run",
    "agent": "the name of the agent, team or workflow that wrote it; before the first release: `owner`",
    "format": "the format of `data` where it is not Sessile's own: for example `pydantic-ai/2` or `openai`",
    "redacted": "how many texts in `data` were changed by a redaction before it was written; where none was: absent. "
    "A message's call of a tool has it beside its `args`, and its text beside its `content`, if they were",
    "version": "the lowest format version of a reader that may pass over it, where that is above 1",
}
"""The fields of an entry."""

COUNTS: dict[str, str] = {
    "requests": "requests to models",
    "input_tokens": "tokens that models were sent, those read from or written to a cache included",
    "output_tokens": "tokens that models answered with",
    "cache_read_tokens": "of the input: tokens that the provider took from its cache",
    "cache_write_tokens": "of the input: tokens that the provider put into its cache",
    "tool_calls": "tool calls that have a result",
    "cost": "what that cost, as far as it is known: nano-dollars (1,000,000,000 are one US dollar)",
    "unpriced": "how many requests have no known price; written also where it is 0; absent: nobody has said",
}
"""The counts of a usage."""

TYPES = {
    "Any": "any JSON",
    "JsonObject": "object",
    "Operations": "array of operations",
    "Status": "string",
    "bool": "boolean",
    "float": "number",
    "int": "integer",
    "list[Any]": "array",
    "list[list[Any]]": "array of operations",
    "list[list[int]]": "array of pairs",
    "list[int]": "array of integers",
    "list[list[str]]": "array of pairs",
    "list[str]": "array of strings",
    "str": "string",
}
"""How types of fields are called on the page."""

_STEP: Any = {
    "path": "2",
    "name": "write",
    "attempt": 1,
    "started_at": 1767225600000000,
    "ended_at": 1767225601500000,
}
_CALL: Any = {"tool_call_id": "call_1", "tool_name": "refund"}
_MESSAGE = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "Pay it back"}]}

EXAMPLES: list[Word] = [
    v.SessionCreated(
        session_id="s1", kind="agent", agent="support", user_id="ada", state={"step": 1}, incarnation="Yx3kd0b2"
    ),
    v.SessionRenamed(name="Refunds"),
    v.SessionClaimed(user_id="ada"),
    v.MetadataPatched(patch=[["set", ["tier"], "gold"]]),
    v.TtlSet(ttl=86400000000),
    v.SessionRewound(run=1),
    v.SessionSummarized(upto=7, text="Ada wants her money back."),
    v.SessionReady(),
    v.SessionRepaired(updated_at=2082758400000000),
    v.SessionErased(run=1),
    v.SessionRewritten(runs=[[3, 3]]),
    v.SessionResealed(),
    v.SessionTrimmed(upto=2),
    v.SessionHeld(reason="case 4711"),
    v.SessionDeleted(),
    v.StatePatched(patch=[["set", ["step"], 2]], undo=[["set", ["step"], 1]]),
    v.StateKept({"step": 1}),
    v.ScopesPatched(id="user:0199c8d2-77a1-7b3e-a3f2-6c1e0a5d4b21", user=[["set", ["plan"], "pro"]]),
    v.ScopesSettled(ids=["user:0199c8d2-77a1-7b3e-a3f2-6c1e0a5d4b21"]),
    v.ScopeWritten(id="user:0199c8d2-77a1-7b3e-a3f2-6c1e0a5d4b21", session_id="s1"),
    v.MemoryWritten(
        id="4f1c09aa",
        memory="Is a vegetarian.",
        topics=["food"],
        created_at=1767225600000000,
        updated_at=1767225600000000,
        session_id="s1",
        run_id="0199c8d2-77a1-7b3e-a3f2-6c1e0a5d4b21",
        agent="support",
    ),
    v.MemoryForgotten(ids=["4f1c09aa"]),
    v.LeadPassed(was="front", to="billing"),
    v.FileWritten(
        id="9b1f0c2a7d3e4f58",
        name="plan.md",
        version=1,
        content={
            "kind": "binary",
            "media_type": "text/markdown",
            "data": {"$blob": "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4", "size": 2},
        },
        run_id="0199c8d2-77a1-7b3e-a3f2-6c1e0a5d4b21",
        agent="support",
    ),
    v.FilesDeleted(ids=["9b1f0c2a7d3e4f58"]),
    v.RunStarted(input="Pay it back", durability="step", until=1767225630000000, metadata={"channel": "web"}),
    v.RunTaken(epoch=2, until=1767225690000000, was="interrupted"),
    v.RunEnded(status="completed", output="Done.", usage=Usage(1, 42, 7, cost=0.000093).to_json(), epoch=1),
    v.RunAmended(dropped=1, output="Done, at last."),
    v.RunNoted(score=1, label="good", comment="That was quick.", by="ada"),
    v.MessageAdded(_MESSAGE),
    v.ToolStarted(**_CALL, args={"order": 7}),
    v.ToolEnded(**_CALL, outcome="returned", value="paid", state=[["set", ["refunded"], 7]]),
    v.RunDecided(approvals={"call_1": True}, calls={}, metadata={}, paused=True, answers=True, delegated=[]),
    v.DecisionSent(approvals={"call_1": True}, calls={}, epoch=1, by="bob"),
    v.ApprovalGranted(id="6f1c09aa52d07be3", tool="send_mail", agent="support", by="bob"),
    v.ApprovalRevoked(id="6f1c09aa52d07be3", by="bob"),
    v.CallApproved(tool_call_id="call_2", tool_name="send_mail", grant="6f1c09aa52d07be3", scope="session", by="bob"),
    v.StepFinished(**_STEP, output="A chapter.", state=[["set", ["chapters"], 1]]),
    v.StepFailed(**_STEP, error={"type": "ConnectionError", "message": "refused"}, retry_in=1.25),
    v.StepsAgain(paths=["2", "3.1"]),
    v.PatchPassed(name="new outline"),
    v.EventSent(name="approval", value="yes"),
    v.ResultKept(name="write", output="A chapter."),
]
"""One of each kind, in the order of the page."""

HEAD = Session(
    "s1",
    "Yx3kd0b2",
    run_count=3,
    usage=Usage(4, 410, 77, cost=0.00093),
    state={"step": 2},
    tip=3,
    segments=[(0, 1), (1, 3)],
    open_runs={3: OpenRun("0199…", "paused", 1, 0)},
)
"""The head whose body is shown."""


def entry_of(said: Word) -> Entry:
    """An example in its entry."""
    if said.KIND.startswith(("session.", "file.")) or isinstance(said, v.ResultKept):
        return said.entry()
    return said.entry("0199…", 3, agent="support", format="pydantic-ai/2" if said.KIND == "message" else None)


def parts() -> dict[str, str]:
    """The parts of the page that are made, by their names."""
    shown = json.loads(encode_commit([entry_of(said) for said in EXAMPLES if said.KIND in ("run.started", "message")]))
    body = {**v.body_of(HEAD), "state": HEAD.state}
    return {
        "head columns": _table(COLUMNS),
        "commit columns": _table(COMMIT_COLUMNS),
        "envelope": _table(ENVELOPE),
        "commit": _json({**shown, "writer": "…"}),
        "versions": _versions(),
        "head body": f"{_fields(v.HeadBody)}\n\n{_json({**body, 'writer': '…'})}",
        "counts": _table(COUNTS),
        "kinds": "\n\n".join(_kind(said) for said in EXAMPLES),
        "pending": _fields(v.Pending),
        "records": "\n\n".join(
            f"{_text(one)}\n\n{_fields(one)}" for one in (v.Lease, v.CancelRequest, v.Waits, v.MediaIndex)
        ),
    }


def _kind(said: Word) -> str:
    lines = [f"### `{said.KIND}`", _text(type(said))]
    if said.VERSION > 1:
        lines.append(f"Needs a reader of version {said.VERSION}.")
    if said.FIELDS:
        lines.append(_fields(type(said)))
    lines.append(_json(json.loads(encode_commit([entry_of(said)]))["entries"][0]))
    return "\n\n".join(lines)


def _text(cls: type[Fields]) -> str:
    paragraphs = re.split(r"\n\s*\n", cls.__doc__ or "")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _fields(cls: type[Fields]) -> str:
    """The fields as a table; those that are always there first come as they are written."""
    types: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        types |= getattr(base, "__annotations__", {})
    rows = [
        f"| `{one.name}` | {_type(types[attribute])}{'' if one.required else ', optional'} | {_meaning(one)} |"
        for attribute, one in cls.FIELDS.items()
    ]
    return "\n".join(["| field | type | meaning |", "|---|---|---|", *rows])


def _meaning(one: Field) -> str:
    notes = one.meaning.replace("|", "\\|")
    if not one.required and one.default not in (None, False, "") and one.default is not v.ABSENT:
        notes += f" (not written: `{json.dumps(one.default)}`)"
    if one.once is not None:
        notes += f"; before the first release: `{one.once}`"
    if one.since > 1:
        notes += f"; since version {one.since}"
    return notes + (". *May be erased.*" if one.erased is not None else ".")


def _type(annotation: str) -> str:
    name = annotation.removesuffix(" | None")
    return TYPES[name] + ("" if name == annotation or name == "Any" else " or null")


def _table(rows: dict[str, str]) -> str:
    return "\n".join(
        ["| name | meaning |", "|---|---|", *(f"| `{name}` | {text.rstrip('.')}. |" for name, text in rows.items())]
    )


def _json(value: Any) -> str:
    return f"```json\n{_lines(value, 0)}\n```"


def _lines(value: Any, depth: int) -> str:
    """JSON on one line where it is short, and else an item a line."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) + depth <= 100 or not isinstance(value, (dict, list)):
        return text
    named = isinstance(value, dict)
    items: Any = cast(Any, value).items() if named else ((None, item) for item in cast(list[Any], value))
    pad = " " * (depth + 2)
    lines = [f"{pad}{f'{json.dumps(key)}: ' if named else ''}{_lines(item, depth + 2)}" for key, item in items]
    begin, end = "{}" if named else "[]"
    return "\n".join([begin, ",\n".join(lines), f"{' ' * depth}{end}"])


def _versions() -> str:
    needs: dict[int, list[str]] = {}
    for kind, cls in sorted(v.WORDS.items()):
        if cls.VERSION > 1:
            needs.setdefault(cls.VERSION, []).append(f"`{kind}`")
        for one in cls.LATER:
            needs.setdefault(one.since, []).append(f"`{one.name}` of `{kind}`")
    for one in v.HeadBody.FIELDS.values():
        if one.since > 1:
            needs.setdefault(one.since, []).append(f"`{one.name}` of the head")
    rows = [f"| {version} | {', '.join(what)} |" for version, what in sorted(needs.items())]
    return "\n".join(["| version | what needs it |", "|---|---|", "| 1 | all else |", *rows])


def with_parts(page: str) -> str:
    """The page with its made parts as they should be."""
    for name, text in parts().items():
        begin, end = f"<!-- made: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = page.partition(begin)
        assert rest, f"the page has no {begin}"
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_parts(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
