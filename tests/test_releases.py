"""What released versions have stored is read by this one, as it was, and continued."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic_ai import Tool
from pydantic_ai.models.function import FunctionModel
from tests.releases.__main__ import answer, refund, reserve
from tests.releases.reading import reading_of

import sessile
from sessile import ANY_USER, Agent, Context, JsonStorage, SqliteStorage, Storage, workflow

FOLDERS = sorted(path for path in (Path(__file__).parent / "releases").iterdir() if (path / "reads-as.json").exists())


KEPT = {f"{folder.name}-{kind}": (folder, kind) for folder in FOLDERS for kind in ("sqlite", "json")}


@pytest.fixture(params=KEPT)
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    folder, kind = KEPT[request.param]
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy", kind


def opened(stored: tuple[Path, str]) -> Storage:
    folder, kind = stored
    return SqliteStorage(folder / "sessions.db") if kind == "sqlite" else JsonStorage(folder / "sessions")


def test_this_version_has_a_folder() -> None:
    assert sessile.__version__ in {folder.name for folder in FOLDERS}, "python -m tests.releases"


def test_it_is_read_as_it_was(stored: tuple[Path, str]) -> None:
    wanted = json.loads((stored[0] / "reads-as.json").read_text("utf-8"))
    with opened(stored) as storage:
        assert json.loads(json.dumps(reading_of(storage))) == wanted
        for session in storage.sessions(user_id=ANY_USER):
            storage.verify(session.session_id, user_id=ANY_USER)


def test_it_is_continued(stored: tuple[Path, str]) -> None:
    with opened(stored) as storage:
        agent = Agent(FunctionModel(answer), name="asks", storage=storage, tools=[Tool(refund, requires_approval=True)])
        assert agent.resume("paused", approvals={"call-1": True}).status == "completed"
        cashier = Agent(FunctionModel(answer), name="cashier", storage=storage, tools=[refund])
        assert cashier.run("And another?", session_id="agent", user_id="ada").number == 4

        @workflow(storage=storage)
        async def ship(ctx: Context, order: int) -> str:
            await ctx.step(reserve, order)
            return await ctx.wait_for_event("address")

        assert ship.send_event("waits", "address", "Paris").output == "Paris"
        assert storage.scope(user_id="ada").state()["refunds"] >= 1
