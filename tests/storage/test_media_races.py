"""Contents that a run names, while somebody else erases, deletes or makes the session again at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("pydantic_ai")

from pydantic_ai import BinaryContent
from pydantic_ai.models.test import TestModel

from sessile import ANY_USER, Agent, Storage
from sessile.agents import inside
from sessile.drivers.memory import MemoryDriver
from sessile.errors import CorruptDataError, SessionBusyError, SessionNotFoundError
from sessile.storage import branches, turns
from sessile.storage.media import digest_of
from sessile.storage.storage import operate
from sessile.storage.turns import TurnSpec
from sessile.storage.vocabulary import MessageAdded, RunEnded
from sessile.storage.wrapping import WrappedDriver

CONTENT = b"\x89PNG" + b"x" * 200
IMAGE = BinaryContent(CONTENT, media_type="image/png")
PART = {"kind": "binary", "media_type": "image/png", "data": IMAGE.base64}


class Before(WrappedDriver):
    """Somebody else does something right before the first operation of a kind."""

    def __init__(self, inner: Any, operation: Callable[..., bool], action: Callable[[], Any]) -> None:
        super().__init__(inner)
        self._is, self._action = operation, action
        self.done = False

    async def append(self, *args: Any, **kwargs: Any) -> Any:
        self._act("append", *args)
        return await super().append(*args, **kwargs)

    async def put_record(self, session_id: str, incarnation: str, key: str, value: Any, deadline: Any) -> bool:
        self._act("put_record", key, value)
        return await super().put_record(session_id, incarnation, key, value, deadline)

    def _act(self, name: str, *args: Any) -> None:
        if not self.done and self._is(name, *args):
            self.done = True
            self._action()


def appends(name: str, *args: Any) -> bool:
    return name == "append"


def removes(name: str, *args: Any) -> bool:
    return name == "put_record" and args[1] is None


@pytest.fixture
def driver() -> MemoryDriver:
    return MemoryDriver()


def storage_of(driver: Any) -> Storage:
    return Storage(driver, inline_media_bytes=10)


def agent_of(storage: Storage, durability: Any = "run") -> Agent[str]:
    return Agent(TestModel(custom_output_text="seen"), storage=storage, name="viewer", durability=durability)


def erase(storage: Storage) -> None:
    storage.erase_run("s", 1)


def make_again(storage: Storage) -> None:
    storage.delete("s")
    storage.create_session("s")


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
@pytest.mark.parametrize("meanwhile", [erase, make_again])
def test_a_run_that_begins_while_its_image_is_removed_keeps_it(
    driver: MemoryDriver, durability: Any, meanwhile: Callable[[Storage], None]
) -> None:
    other = storage_of(driver)
    agent_of(other).run(["Look.", IMAGE], session_id="s")
    racing = Before(driver, appends, lambda: meanwhile(other))
    result = agent_of(storage_of(racing), durability).run(["Again.", IMAGE], session_id="s")
    assert racing.done
    run = other.get_run("s", result.number)
    assert run.input[1]["data"]["$blob"] == digest_of(CONTENT)
    assert other.media("s", digest_of(CONTENT)) == CONTENT
    assert agent_of(other).run("And now?", session_id="s").output == "seen"  # its history can be sent


def test_what_a_run_in_progress_has_seen_is_not_removed_under_it(driver: MemoryDriver) -> None:
    other = storage_of(driver)
    agent_of(other).run(["Look.", IMAGE], session_id="s")
    begun: list[Any] = []

    def begin() -> None:
        """A run begins, and its tool returns the same image, which it finds to be there."""
        turn = operate(other, turns.begin_turn, TurnSpec("s", "r2", "Draw."), 0)
        begun.append((turn, operate(other, turns.keep_media, turn, {"parts": [PART]})))

    racing = Before(driver, removes, begin)
    with pytest.raises(SessionBusyError):
        storage_of(racing).erase_run("s", 1)
    ((turn, message),) = begun
    operate(other, turns.end_turn, turn, [turn.entry(MessageAdded(message))], RunEnded(status="completed"), [])
    assert other.media("s", digest_of(CONTENT)) == CONTENT
    other.erase_run("s", 2)
    other.erase_run("s", 1)
    with pytest.raises(CorruptDataError):
        other.media("s", digest_of(CONTENT))


def test_a_fork_inside_never_has_what_another_session_of_that_id_held(
    driver: MemoryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = storage_of(driver)
    agent_of(storage).run("A secret of ada's.", session_id="s", user_id="ada")

    async def fork(core: Any, *args: Any, **kwargs: Any) -> Any:
        other = storage_of(driver)
        other.delete("s", user_id="ada")
        other.add_run("s", input="x", output="y", user_id="bob")
        return await branches_fork(core, *args, **kwargs)

    branches_fork = branches.fork
    monkeypatch.setattr(inside.branches, "fork", fork)
    session = agent_of(storage).session("s", user_id=ANY_USER)
    with pytest.raises(SessionNotFoundError):
        session.fork(at=1, message=1)
    assert [one.session_id for one in storage.sessions(user_id=ANY_USER)] == ["s"]
