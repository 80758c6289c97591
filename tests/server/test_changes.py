"""One stream for a whole page: every change arrives, after a lost connection, too; and what the open session tells."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from tests.server.conftest import AUTH, SLOW_TEXT, Pace, agents

from sessile import SqliteStorage, Storage
from sessile.server import Caller, Limits, changing, create_app
from sessile.server.changing import Followed, changes
from sessile.server.running import Telling, asked_by, launched
from sessile.server.serving import View, view_for
from sessile.storage.users import space_of

LONGEST = 30


def event_of(piece: bytes) -> tuple[str, str, Any]:
    fields = dict(line.split(": ", 1) for line in piece.decode().strip().splitlines())
    return fields["id"], fields["event"], json.loads(fields["data"])


class Stream:
    """A page's stream."""

    def __init__(self, view: View, session_id: str | None = None, at: str | None = None) -> None:
        self._pieces = changes(view, None, session_id, Followed.of(at), once=False)
        self.at = at

    async def next(self) -> tuple[str, Any]:
        async with asyncio.timeout(LONGEST):
            self.at, event, data = event_of(await anext(self._pieces))
        return event, data

    async def until(self, session_ids: set[str]) -> set[str]:
        """Read until all of these have been told."""
        seen: set[str] = set()
        while not session_ids <= seen:
            event, data = await self.next()
            if event == "sessions":
                seen |= {one["session_id"] for one in data["items"]} | set(data["gone"])
        return seen

    async def end(self) -> None:
        await self._pieces.aclose()


@pytest.fixture
async def served(storage: Storage, pace: Pace) -> AsyncIterator[Any]:
    app = create_app(agents(storage, pace), auth=AUTH, limits=Limits(stop_seconds=0.1), resume_every=None)
    async with app.router.lifespan_context(app):
        yield app.state.sessile


def ada_of(server: Any) -> View:
    return view_for(server, Caller("ada"))


async def test_no_change_is_lost_however_many_there_are(served: Any, storage: Storage) -> None:
    ada, root = Stream(ada_of(served)), Stream(view_for(served, Caller("root", administrator=True)))
    _, first = await ada.next()
    assert (first["first"], first["items"]) == (True, [])
    await root.next()
    own, bob = storage.for_user("ada"), storage.for_user("bob")
    for number in range(120):  # far more than a list's first page
        await own.aadd_run(f"s{number}", output="x")
    await bob.aadd_run("b1", output="x")
    wanted = {f"s{number}" for number in range(120)}
    assert await ada.until(wanted) == wanted
    stored = {f"{space_of('ada')}{one}" for one in wanted} | {f"{space_of('bob')}b1"}
    assert await root.until(stored) >= stored
    await ada.end()
    await root.end()
    assert not served.changes._readers


async def test_who_comes_again_is_told_what_was_missed(served: Any, storage: Storage) -> None:
    own = storage.for_user("ada")
    await own.aadd_run("old", output="x")
    stream = Stream(ada_of(served))
    await stream.next()
    await own.aadd_run("s1", output="x")
    await stream.until({"s1"})
    await stream.end()
    await own.aadd_run("s2", output="x")
    again = Stream(ada_of(served), at=stream.at)
    event, data = await again.next()
    assert (event, data["first"]) == ("sessions", False)
    assert "s2" in {one["session_id"] for one in data["items"]}
    await own.aadd_run("s3", output="x")
    await again.until({"s3"})
    await again.end()


async def test_a_deleted_session_is_gone(served: Any, storage: Storage) -> None:
    own = storage.for_user("ada")
    await own.aadd_run("s1", output="x")
    stream = Stream(ada_of(served))
    await stream.next()
    await own.adelete("s1")
    told = await stream.next()
    assert told == ("sessions", {"items": [], "gone": ["s1"], "first": False})
    await stream.end()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was removed is looked for at once."""
    monkeypatch.setattr(changing, "GONE_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
async def test_what_other_processes_delete_and_what_expires_is_gone(
    served: Any, storage: Storage, tmp_path: Path
) -> None:
    own = storage.for_user("ada")
    await own.aadd_run("listed", output="x")
    ada, root = Stream(ada_of(served)), Stream(view_for(served, Caller("root", administrator=True)))
    await ada.next()
    await root.next()
    for name in ("told", "brief", "stays"):
        await own.aadd_run(name, output="x")
    await ada.until({"told", "brief", "stays"})
    with SqliteStorage(tmp_path / "sessions.db") as elsewhere:
        await elsewhere.for_user("ada").adelete("listed")
        await elsewhere.for_user("ada").adelete("told")
    await own.aset_ttl("brief", 0.01)
    gone: set[str] = set()
    while gone != {"listed", "told", "brief"}:
        _, data = await ada.next()
        gone |= set(data["gone"])
    space = space_of("ada")
    await root.until({f"{space}{one}" for one in gone})
    await ada.end()
    await root.end()


@pytest.mark.usefixtures("impatient")
async def test_who_comes_again_is_told_what_was_deleted_meanwhile(
    served: Any, storage: Storage, tmp_path: Path
) -> None:
    own = storage.for_user("ada")
    for name in ("here", "elsewhere", "anew"):
        await own.aadd_run(name, output="x")
    stream = Stream(ada_of(served))
    await stream.next()
    await stream.end()
    await own.adelete("here")
    await own.adelete("anew")
    await own.aadd_run("anew", output="y")
    with SqliteStorage(tmp_path / "sessions.db") as other:
        await other.for_user("ada").adelete("elsewhere")
    again = Stream(ada_of(served), at=stream.at)
    event, data = await again.next()
    assert (event, data["first"]) == ("sessions", False)
    gone = set(data["gone"])
    while gone != {"here", "elsewhere"}:
        gone |= set((await again.next())[1]["gone"])
    await again.end()


async def test_who_comes_again_to_a_process_that_does_not_know_looks_anew(served: Any, storage: Storage) -> None:
    own = storage.for_user("ada")
    await own.aadd_run("s1", output="x")
    stream = Stream(ada_of(served))
    await stream.next()
    await stream.end()
    await served.changes.end()  # as another process, which has not looked meanwhile
    await own.adelete("s1")
    await own.aadd_run("s2", output="x")
    again = Stream(ada_of(served), at=stream.at)
    _, data = await again.next()
    assert (data["first"], [one["session_id"] for one in data["items"]]) == (True, ["s2"])
    await again.end()


async def test_the_open_session_is_read_along(served: Any, pace: Pace) -> None:
    """Its runs, one after the other; on from where a connection was lost, no piece twice, none left out."""
    view = ada_of(served)
    stream = Stream(view, "s1")
    await stream.next()
    for number in (1, 2):
        telling = Telling(view, "slow")
        at_work = launched(telling, asked_by(view, "Go", "s1"))
        text, lost = "", False
        while True:
            event, data = await stream.next()
            if event != "run":
                continue
            assert (data["session_id"], data["number"]) == ("s1", number)
            if data["event"] == "text":
                text += data["data"]["text"]
                if not lost and len(text) > 20:
                    lost = True
                    await stream.end()
                    stream = Stream(view, "s1", stream.at)
            if data["event"] == "run.ended":
                break
        assert text == SLOW_TEXT
        assert lost
        await at_work
    await stream.end()


async def test_runs_of_other_processes_are_told_when_they_are_stored(served: Any, tmp_path: Path, pace: Pace) -> None:
    """Also those that were over before anybody looked."""
    with SqliteStorage(tmp_path / "sessions.db") as elsewhere:
        slow = next(one for one in agents(elsewhere, pace) if one.name == "slow").for_user("ada")
        await slow.arun("Go", session_id="s1")
        stream = Stream(ada_of(served), "s1")
        await stream.next()
        pace.seconds = 0
        for number in (2, 3):
            await slow.arun("Go", session_id="s1")
            told: list[str] = []
            while "run.ended" not in told:
                event, data = await stream.next()
                if event == "run":
                    assert data["number"] == number
                    told.append(data["event"])
                    assert data["event"] != "text" or data["data"]["text"] == SLOW_TEXT
            assert told == ["text", "run.ended"]
        await stream.end()


def test_places_are_read_as_they_are_written() -> None:
    for text in ("0.0.0.0.0", "17.3.1.2.4", "17.3.1.2.4.end"):
        assert str(Followed.of(text)) == text
    for text in (None, "", "x", "1", "1.2", "a.b.c", "9" * 40, "-1.2.3.4.5", "1.2.3.4.5.6"):
        Followed.of(text)
