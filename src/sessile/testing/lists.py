"""The contract of `Driver.list` and `Driver.count`: order, pages and filters."""

from __future__ import annotations

from typing import Any

from ..records import ANY_USER
from ..storage.states import without_state
from .checks import Area, Trial, expect, expect_equal
from .contract import expect_listed
from .samples import START, append_of

area = Area("lists")


async def _make(trial: Trial, session_id: str, **fields: Any) -> None:
    won = await trial.driver.append(append_of(session_id, **fields))
    expect(won, f"making session {session_id!r} lost a race without rivals")


async def _make_all(trial: Trial, sessions: dict[str, dict[str, Any]]) -> None:
    for session_id, fields in sessions.items():
        await _make(trial, session_id, **fields)


@area.check()
async def lists_of_nothing(trial: Trial) -> None:
    """Where there is nothing, a list is empty and a count is 0."""
    await expect_listed(trial, [])
    await expect_listed(trial, [], user_id="ada", metadata={"k": 1}, hidden=None)


@area.check()
async def lists_bring_heads(trial: Trial) -> None:
    """A list has the heads as they were given, with all their columns."""
    write = append_of(
        agent="support",
        user_id="ada",
        name="Capitals",
        status="paused",
        metadata={"z": 1, "a": "\0"},
        expires_at=START * 10,
        state={"k": "\ud800"},
    )
    expect(await trial.driver.append(write), "append lost a race without rivals")
    await expect_listed(trial, ["s"])
    expect_equal(await trial.driver.list(), [write.head], "the head that list brings")


@area.check()
async def lists_without_states(trial: Trial) -> None:
    """A list that is asked for no states has the heads whole but for that, in every order and beside filters."""
    states = {"a": {}, "b": {"state": {"state": 1}}, "c": {"k": '",\\"state\\":{\ud800'}, "d": {"ä": "🦪" * 50_000}}
    heads = [append_of(name, state=state, updated_at=START, user_id="ada").head for name, state in states.items()]
    for name, state in states.items():
        await _make(trial, name, state=state, updated_at=START, user_id="ada")
    without = [head._replace(body=without_state(head.body)) for head in reversed(heads)]
    expect(all("state" not in head.body for head in without), "the state is still there")
    await expect_listed(trial, ["d", "c", "b", "a"])
    for query in ({}, {"user_id": "ada"}, {"order": "created"}):
        expect_equal(await trial.driver.list(with_state=False, **query), without, f"heads without states by {query}")
    expect_equal(await trial.driver.list(with_state=False, ascending=True), without[::-1], "the same, ascending")
    expect_equal(await trial.driver.list(), heads[::-1], "heads with states")


@area.check()
async def newest_first(trial: Trial) -> None:
    """By the last change, newest first; what changed at the same moment by id, descending."""
    for session_id, moment in (("b", 2), ("a", 2), ("z", 1), ("c", 2), ("m", 3)):
        await _make(trial, session_id, created_at=START + 10 - moment, updated_at=START + moment)
    await expect_listed(trial, ["m", "c", "b", "a", "z"])
    await expect_listed(trial, ["z", "c", "b", "a", "m"], order="created")


@area.check()
async def ties_by_code_point(trial: Trial) -> None:
    """Ids of the same moment are in the order of their code points, not of a language or of UTF-16's units."""
    ids = ["B", "a", "A", "b", "ä", "z", "Z", "_", "1", "10", "9", "-", "\uffee", "🦪"]
    for session_id in ids:
        await _make(trial, session_id, updated_at=START)
    await expect_listed(trial, sorted(ids, reverse=True))


@area.check()
async def changes_move_up(trial: Trial) -> None:
    """A commit moves its session to the front of `updated`, and leaves `created` as it is."""
    for number, session_id in enumerate(("a", "b", "c")):
        await _make(trial, session_id, created_at=START + number, updated_at=START + number)
    write = append_of("a", 1, created_at=START, updated_at=START + 9, name="new", status="failed", user_id="ada")
    expect(await trial.driver.append(write), "append lost a race without rivals")
    await expect_listed(trial, ["a", "c", "b"])
    await expect_listed(trial, ["c", "b", "a"], order="created")
    await expect_listed(trial, ["a"], name_prefix="new")
    await expect_listed(trial, ["a"], status="failed")
    await expect_listed(trial, ["a"], user_id="ada")


@area.check()
async def pages_are_complete(trial: Trial) -> None:
    """Pages of any size, each after the last row of the one before, have every session once and in order."""
    for number in range(23):
        moment = START + number // 4  # several sessions share a moment
        await _make(trial, f"s{number:02}", created_at=START - moment % 5, updated_at=moment, user_id="ada")
    for order in ("updated", "created"):
        whole = [row.session_id for row in await _all_pages(trial, order, 100)]
        expect_equal(len(whole), 23, "sessions on one large page")
        for size in (1, 2, 5, 23):
            ids = [row.session_id for row in await _all_pages(trial, order, size)]
            expect_equal(ids, whole, f"pages of {size}, order {order}")


async def _all_pages(trial: Trial, order: str, size: int) -> list[Any]:
    await expect_listed(trial, [f"s{number:02}" for number in range(23)], any_order=True, limit=100)
    rows: list[Any] = []
    after: tuple[int, str] | None = None
    for _ in range(24):
        page = await trial.driver.list(order=order, limit=size, after=after, user_id="ada")
        expect(len(page) <= size, f"a page of {len(page)} where at most {size} were asked for")
        rows.extend(page)
        if len(page) < size:
            break
        after = (page[-1].created_at if order == "created" else page[-1].updated_at, page[-1].session_id)
    return rows


@area.check()
async def pages_over_any_id(trial: Trial) -> None:
    """Paging over ids outside ASCII that share a moment skips none and repeats none."""
    ids = ["🦪", "日本", "ﬁ", "é", "e\u0301", "a/b", "a b", "\u2028", "Ω", "a", "A", "\x01", "\ufffd", "%", "z" * 255]
    for session_id in ids:
        await _make(trial, session_id, updated_at=START)
    await expect_listed(trial, ids, any_order=True, limit=100)
    found: list[str] = []
    after: tuple[int, str] | None = None
    for _ in range(len(ids) + 1):
        page = await trial.driver.list(limit=2, after=after)
        found.extend(row.session_id for row in page)
        if len(page) < 2:
            break
        after = (page[-1].updated_at, page[-1].session_id)
    expect_equal(sorted(found), sorted(ids), "the ids on all pages")


@area.check()
async def filters_by_column(trial: Trial) -> None:
    """`kind`, `agent`, `user_id` and `status` match exactly, and all that are given must match."""
    await _make_all(
        trial,
        {
            "a": {"kind": "agent", "agent": "support", "user_id": "ada", "status": "completed"},
            "b": {"kind": "team", "agent": "support", "user_id": "ADA", "status": "running"},
            "c": {"kind": "agent", "agent": "Support", "user_id": "ada", "status": "running"},
            "d": {"kind": "agent"},
        },
    )
    expected: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["d", "c", "b", "a"]),
        ({"kind": "agent"}, ["d", "c", "a"]),
        ({"agent": "support"}, ["b", "a"]),
        ({"user_id": "ada"}, ["c", "a"]),
        ({"user_id": "ada "}, []),
        ({"status": "running"}, ["c", "b"]),
        ({"kind": "agent", "user_id": "ada", "status": "running"}, ["c"]),
        ({"kind": "workflow"}, []),
        ({"user_id": "None"}, []),
    ]
    for query, wanted in expected:
        await expect_listed(trial, wanted, **query)


@area.check()
async def filters_by_user(trial: Trial) -> None:
    """One user's sessions, those of no user (None), or all (`ANY_USER`)."""
    for session_id, user_id in (("a", "ada"), ("b", None), ("c", "bob"), ("d", None)):
        await _make(trial, session_id, user_id=user_id, updated_at=START + ord(session_id))
    await expect_listed(trial, ["a"], user_id="ada")
    await expect_listed(trial, ["d", "b"], user_id=None)
    await expect_listed(trial, ["d", "c", "b", "a"], user_id=ANY_USER)
    await expect_listed(trial, ["d", "c", "b", "a"])
    await expect_listed(trial, ["b"], user_id=None, until=START + ord("d"))


@area.check()
async def oldest_first(trial: Trial) -> None:
    """`ascending` turns the order round, and pages go on in it: what has changed since a moment."""
    for number in range(7):
        await _make(trial, f"s{number}", created_at=START - number, updated_at=START + number // 2)
    wanted = [f"s{number}" for number in range(7)]
    await expect_listed(trial, wanted, ascending=True)
    await expect_listed(trial, wanted[::-1], ascending=True, order="created")
    await expect_listed(trial, wanted[4:], ascending=True, since=START + 2)
    for size in (1, 2, 3, 7):
        found: list[str] = []
        page = await trial.driver.listing(ascending=True, limit=size)
        for _ in wanted:
            found.extend(row.session_id for row in page.rows)
            if page.after is None:
                break
            page = await trial.driver.listing(ascending=True, limit=size, after=page.after)
        expect_equal(found, wanted, f"pages of {size}, oldest first")


@area.check()
async def filters_by_name(trial: Trial) -> None:
    """`name_prefix` is plain text: case matters, and no character stands for others."""
    names = {"a": "Capitals", "b": "capitals", "c": "Cap%x", "d": "Cap_x", "e": "Ca*?[x]", "f": "Ca\\d", "g": "Éa"}
    for session_id, name in names.items():
        await _make(trial, session_id, name=name)
    await _make(trial, "h")
    for prefix in ("C", "Cap", "cap", "Cap%", "Cap_", "Ca*", "Ca*?[", "Ca\\", "%", "_", "É", "Capitals", "Capitals!"):
        wanted = [key for key, name in names.items() if name.startswith(prefix)]
        await expect_listed(trial, wanted[::-1], name_prefix=prefix)


@area.check()
async def filters_by_time(trial: Trial) -> None:
    """`since` is inclusive and `until` exclusive, of the time that the order names."""
    for number in range(5):
        await _make(trial, f"s{number}", created_at=START - number, updated_at=START + number)
    expected: list[tuple[dict[str, Any], list[int]]] = [
        ({"since": START + 3}, [4, 3]),
        ({"until": START + 2}, [1, 0]),
        ({"since": START + 1, "until": START + 3}, [2, 1]),
        ({"since": START - 1, "order": "created"}, [0, 1]),
        ({"until": START - 2, "order": "created"}, [3, 4]),
        ({"since": START + 9}, []),
    ]
    for query, numbers in expected:
        await expect_listed(trial, [f"s{number}" for number in numbers], **query)


METADATA: dict[str, Any] = {
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "one.0": 1.0,
    "1.5": 1.5,
    "text-1": "1",
    "text-true": "true",
    "null": None,
    "text-null": "null",
    "empty": "",
    "upper": "Pro",
    "lower": "pro",
    "list": [1],
    "object": {"k": 1},
    "quote": 'it\'s "x"',
    "emoji": "🦪",
    "big": 2**53 - 1,
}


@area.check()
async def filters_by_metadata(trial: Trial) -> None:
    """A key matches exactly that JSON scalar: `true` is not 1, `"1"` is not 1, null is not absent."""
    await _make(trial, "absent")
    await _make(trial, "nested", metadata={"other": {"k": 1}})
    for session_id, value in METADATA.items():
        await _make(trial, session_id, metadata={"k": value, "n": 7})
    for session_id, value in METADATA.items():
        if isinstance(value, (list, dict)):
            continue
        wanted = ["one", "one.0"] if session_id in ("one", "one.0") else [session_id]
        await expect_listed(trial, wanted, any_order=True, metadata={"k": value})
    await expect_listed(trial, [], metadata={"k": "no"})
    await expect_listed(trial, ["one", "one.0"], any_order=True, metadata={"k": 1, "n": 7})
    await expect_listed(trial, [], metadata={"k": 1, "n": 8})
    await expect_listed(trial, [], metadata={"K": 1})


@area.check()
async def filters_by_metadata_keys(trial: Trial) -> None:
    """A key must be there at the top level, whatever its value; keys are plain text."""
    keys = ["a.b", "a", "$x", "it's", 'q"', "é", "0", " ", "a\\b", "%"]
    for number, key in enumerate(keys):
        await _make(trial, f"s{number}", metadata={key: None, "all": {"in": 1}})
    for number, key in enumerate(keys):
        await expect_listed(trial, [f"s{number}"], metadata_keys=(key,))
        await expect_listed(trial, [f"s{number}"], metadata={key: None}, metadata_keys=("all",))
    await expect_listed(trial, [], metadata_keys=("in",))
    await expect_listed(trial, [], metadata_keys=("a", "a.b"))


@area.check()
async def heads_change_hands(trial: Trial) -> None:
    """A head that gets another kind, agent and user is in the lists of these, and of those before no more."""
    expect(await trial.driver.append(append_of("s")), "an append without rivals")
    await trial.driver.append(append_of("other"))
    of: dict[str, Any] = {"kind": "team", "agent": "helpers", "user_id": "ada"}
    expect(await trial.driver.append(append_of("s", 1, **of)), "an append without rivals")
    for query, wanted in _OF_HANDS:
        for order in ("updated", "created"):
            await expect_listed(trial, wanted, **query, order=order)


_OF_HANDS: tuple[tuple[dict[str, Any], list[str]], ...] = (
    ({"user_id": "ada"}, ["s"]),
    ({"user_id": None}, ["other"]),
    ({"agent": "helpers"}, ["s"]),
    ({"kind": "team"}, ["s"]),
    ({"kind": "agent"}, ["other"]),
    ({"user_id": "ada", "agent": "helpers", "kind": "team"}, ["s"]),
)


@area.check()
async def hidden_heads(trial: Trial) -> None:
    """Hidden heads are left out unless they are asked for."""
    await _make(trial, "shown")
    await _make(trial, "building", hidden="building")
    await _make(trial, "deleted", hidden="deleted")
    await expect_listed(trial, ["shown"])
    await expect_listed(trial, ["building", "deleted"], any_order=True, hidden=True)
    await expect_listed(trial, ["building", "deleted", "shown"], any_order=True, hidden=None)
    write = append_of("shown", 1, hidden="deleted")
    expect(await trial.driver.append(write), "append lost a race without rivals")
    await expect_listed(trial, [])


@area.check()
async def expired_heads(trial: Trial) -> None:
    """`now` leaves out what has expired by then; `expired_before` shows only that."""
    await _make(trial, "never")
    for number in (1, 2, 3):
        await _make(trial, f"s{number}", expires_at=START + number)
    await expect_listed(trial, ["never", "s1", "s2", "s3"], any_order=True)
    await expect_listed(trial, ["never", "s2", "s3"], any_order=True, now=START + 1)
    await expect_listed(trial, ["never"], now=START + 3)
    await expect_listed(trial, ["s1", "s2"], any_order=True, expired_before=START + 2)
    await expect_listed(trial, [], expired_before=START)


@area.check()
async def filters_with_pages(trial: Trial) -> None:
    """A page has `limit` sessions that match, however many others lie between them."""
    for number in range(20):
        await _make(trial, f"s{number:02}", updated_at=START + number, metadata={"odd": bool(number % 2)})
    await expect_listed(trial, ["s19", "s17", "s15"], metadata={"odd": True}, limit=3)
    await expect_listed(trial, ["s13", "s11"], metadata={"odd": True}, limit=2, after=(START + 15, "s15"))
    await expect_listed(trial, ["s01"], metadata={"odd": True}, limit=5, after=(START + 3, "s03"))
    expect_equal(await trial.driver.count(metadata={"odd": True}, limit=1), 10, "count does not stop at the limit")
