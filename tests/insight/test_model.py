"""After any sequence of operations an index answers what a full reading of the log answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.campaigns import TORTURE

from sessile import ANY_USER, Storage, Usage
from sessile.errors import SessileError, UnsupportedError
from sessile.insight import Index, sums
from sessile.insight.place import Place
from sessile.records import Run
from sessile.storage.driver import RunStatement, Span
from sessile.storage.extending import amend, build_runs, operate
from sessile.storage.rewriting import erase as erase_span

from .conftest import PLACES, storage_at

WORDS = ("refund", "parcel", "invoice", "ORD-7781", "customer_id", "naïve", "日本語")
USERS = ("ada", "bob", None)
SESSIONS = ("s1", "s2", "s3")


OPERATIONS = (
    *("add", "add", "add", "rate", "rename", "metadata", "rewind", "fork", "delete", "erase", "expire", "user"),
    *("update", "crash", "sweep", "amend"),
)


class CrashError(Exception):
    """The process has died."""


@dataclass
class Machine:
    """A storage, an index of it that dies now and then, and what is done to them, by chance."""

    storage: Storage
    index: Index
    choose: random.Random

    def step(self, name: str) -> None:
        """Do one thing."""
        try:
            getattr(self, f"do_{name}")()
        except UnsupportedError:
            pass
        except SessileError as error:
            if error.written != "no":
                raise

    def _session(self) -> str:
        return self.choose.choice(SESSIONS)

    def do_add(self) -> None:
        choose = self.choose
        failed = choose.random() < 0.3
        model = choose.choice(["m1", "m2"])
        message = {
            "kind": "response",
            "model_name": model,
            "parts": [
                {"part_kind": "text", "content": choose.choice(WORDS)},
                {
                    "part_kind": "tool-call",
                    "tool_name": choose.choice(["find", "pay"]),
                    "args": {"q": choose.choice(WORDS)},
                },
            ],
            "usage": {"input_tokens": 3, "output_tokens": 2, "cost": "0.001"},
        }
        session = self._session()
        head = self.storage.get_session(session, user_id=ANY_USER)
        self.storage.add_run(
            session,
            input=f"About {choose.choice(WORDS)}",
            output=choose.choice(WORDS),
            messages=[message] * choose.randrange(2),
            format="pydantic-ai/2",
            user_id=choose.choice(USERS) if head is None else head.user_id,
            agent=choose.choice(["a", "b"]),
            status="failed" if failed else "completed",
            error={"type": choose.choice(["E1", "E2"]), "message": choose.choice(WORDS)} if failed else None,
            usage=Usage(1, 3, 2, cost=Decimal("0.001")) if choose.random() < 0.6 else None,
        )

    def do_rate(self) -> None:
        score, source = self.choose.choice([None, True, 0.25]), self.choose.choice(["user", "judge"])
        run = self.choose.randrange(1, 4)
        self.storage.rate(
            self._session(), run, score=score, label="good", comment="parcel", source=source, user_id=ANY_USER
        )

    def do_rename(self) -> None:
        self.storage.rename(self._session(), self.choose.choice(WORDS), user_id=ANY_USER)

    def do_metadata(self) -> None:
        self.storage.set_metadata(self._session(), {"about": self.choose.choice(WORDS)}, user_id=ANY_USER)

    def do_rewind(self) -> None:
        self.storage.rewind(self._session(), at=self.choose.randrange(3), user_id=ANY_USER)

    def do_fork(self) -> None:
        one, other = self._session(), self._session()
        self.storage.fork(one, session_id=other, user_id=ANY_USER)

    def do_delete(self) -> None:
        self.storage.delete(self._session(), user_id=ANY_USER)

    def do_user(self) -> None:
        if self.choose.random() < 0.3:
            self.storage.delete_user("bob")

    def do_erase(self) -> None:
        run = self.choose.randrange(1, 4)
        operate(self.storage, erase_span, self._session(), Span(runs=(run, run)), user_id=ANY_USER)

    def do_expire(self) -> None:
        self.storage.set_ttl(self._session(), 0.0, user_id=ANY_USER)

    def do_sweep(self) -> None:
        self.storage.sweep()

    def do_amend(self) -> None:
        operate(self.storage, amend, self._session(), output=self.choose.choice(WORDS), user_id=ANY_USER)

    def do_update(self) -> None:
        self.index.update()

    def do_crash(self) -> None:
        """Let the index die after some statement, before or after the end of its transaction."""
        left = self.choose.randrange(1, 30)
        place = self.index._place
        whole = Place.change

        def change(work: Callable[[RunStatement], Any]) -> Any:
            async def dying(run: RunStatement) -> Any:
                async def counted(sql: str, values: Any) -> Any:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        raise CrashError
                    return await run(sql, values)

                return await work(counted)

            return whole(place, dying)

        place.change = change  # a fault that is put in
        try:
            self.index.update()
        except CrashError:
            pass
        finally:
            del place.change

    # ------------------------------------------------------------ what holds

    def check(self) -> None:
        """Compare all answers with a full reading."""
        expected = list(full_reading(self.storage))
        found = {(run.session_id, run.run_id, run.number): run for run in self._all_runs()}
        assert found.keys() == {(session, run.run_id, run.number) for session, run, _, _ in expected}
        for session_id, run, user_id, on_branch in expected:
            have = found[session_id, run.run_id, run.number]
            rated = {one.source: (one.score, one.label) for one in run.ratings}
            assert (have.user_id, have.status, have.on_branch) == (user_id, run.status, on_branch)
            assert have.usage.to_json() | {"unpriced": 0} == run.own_usage.to_json() | {"unpriced": 0}
            assert {source: (one.score, one.label) for source, one in have.ratings.items()} == rated
            assert have.error == (run.error or {}).get("type")
        self._check_lists()
        self._check_search()
        self._check_usage([run for _, run, _, _ in expected])

    def _all_runs(self) -> Iterator[Any]:
        cursor = None
        while True:
            ascending = True
            page = self.index.runs(user_id=ANY_USER, members=True, limit=7, cursor=cursor, ascending=ascending)
            yield from page
            cursor = page.next_cursor
            if cursor is None:
                return

    def _check_lists(self) -> None:
        """Lists of sessions by some filters, each with what another adds to it, are those of the log."""
        choose = self.choose
        all_filters: dict[str, Any] = {
            "user_id": choose.choice(USERS),
            "agent": choose.choice(["a", "b"]),
            "status": choose.choice(["completed", "failed"]),
            "metadata": {"about": choose.choice(WORDS)},
            "name_prefix": choose.choice(WORDS)[: choose.randrange(1, 9)],
        }
        chosen = choose.sample(sorted(all_filters), choose.randrange(4))
        filters = {"user_id": ANY_USER, **{name: all_filters[name] for name in chosen}}
        expected = [head.session_id for head in self.storage.sessions(limit=100, **filters)]
        assert [head.session_id for head in self.index.sessions(limit=100, **filters)] == expected, filters
        assert self.index.count_sessions(**filters) == len(expected), filters
        sql = "SELECT COUNT(*) FROM {facets} WHERE session NOT IN (SELECT id FROM {sessions})"
        assert self.index._place.read(sql) == [(0,)]

    def _check_search(self) -> None:
        for word in WORDS:
            hits = self.index.search(word, user_id=ANY_USER, limit=100)
            assert hits.next_cursor is None
            found = {(hit.session_id, hit.run.run_id if hit.run else None) for hit in hits}
            expected = {(session, run.run_id) for session, run, _, _ in full_reading(self.storage) if says(run, word)}
            heads = self.storage.sessions(user_id=ANY_USER, limit=100)
            expected |= {(head.session_id, None) for head in heads if word in (head.name, *head.metadata.values())}
            assert found == expected, word

    def _check_usage(self, runs: list[Run]) -> None:
        total = self.index.usage(user_id=ANY_USER).total
        assert total.runs == len(runs)
        assert total.errors == sum(run.status == "failed" for run in runs)
        assert total.usage.nano_dollars == sum(run.own_usage.nano_dollars for run in runs)
        by_agent = self.index.usage(user_id=ANY_USER, by=("hour", "agent")).rows
        assert sum(row.runs for row in by_agent) == len(runs)
        by_model = self.index.usage(user_id=ANY_USER, by="model").rows
        assert sum(row.usage.nano_dollars for row in by_model) == total.usage.nano_dollars


def full_reading(storage: Storage) -> Iterator[tuple[str, Run, str | None, bool]]:
    """All runs of all sessions and branches, as the log tells them."""
    for head in storage.sessions(user_id=ANY_USER, limit=100):
        entries = storage.entries(head.session_id, user_id=ANY_USER)
        for run in build_runs(entries).values():
            yield head.session_id, run, head.user_id, head.on_path(run.number)


def says(run: Run, word: str) -> bool:
    """Whether a word of ours stands in a run; all of them are told apart by their letters."""
    texts = [run.input, run.output, run.error, run.metadata, [message.data for message in run.messages]]
    texts.append([(one.label, one.comment) for one in run.ratings])
    return word in str(texts)


@pytest.mark.parametrize("place", (*PLACES, "mysql") if TORTURE else PLACES)
@settings(
    max_examples=60 if TORTURE else 8,
    phases=tuple(Phase) if TORTURE else (Phase.generate,),  # to shrink takes minutes
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    steps=st.lists(st.lists(st.sampled_from(OPERATIONS), min_size=4, max_size=15), min_size=1, max_size=5),
    choose=st.randoms(),
)
def test_index_answers_as_full_reading(
    request: pytest.FixtureRequest, place: str, steps: list[list[str]], choose: random.Random
) -> None:
    over = choose.choice([sums.OVER, -24 * sums.HOUR])  # all is summed up at once, or what is past
    with TemporaryDirectory() as folder, patch.object(sums, "OVER", over):
        storage, into = storage_at(request, place, Path(folder))
        with storage, Index(storage, into) as index:
            machine = Machine(storage, index, choose)
            machine.do_add()
            for some in steps:
                for step in some:
                    machine.step(step)
                machine.check()
            index.rebuild()
            machine.check()
