"""The head as a fold of the commits, and the tree of branches in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.errors import CorruptDataError
from sessile.records import Entry, Session, Usage
from sessile.storage import fold
from sessile.storage.driver import CommitRow
from sessile.storage.encoding import encode_commit


def created(**data: Any) -> Entry:
    return Entry("session.created", {"session_id": "s", "incarnation": "i", "kind": "agent", **data})


def started(number: int, run_id: str | None = None, parent: str | None = None, until: int = 0) -> Entry:
    return Entry("run.started", {"input": None, "until": until}, run_id or f"r{number}", number, parent)


def ended(number: int, status: str = "completed", **data: Any) -> Entry:
    return Entry("run.ended", {"status": status, **data}, f"r{number}", number)


def folded(*commits: list[Entry]) -> Session:
    head = None
    for seq, entries in enumerate(([created()], *commits), start=1):
        head = fold.fold(head, seq, 1000 + seq, entries)
    assert head is not None
    return head


def test_created() -> None:
    head = fold.fold(None, 1, 77, [created(user_id="ada", name="n", state={"a": 1}, metadata={"b": 2}, ttl=5)])
    assert (head.session_id, head.incarnation, head.user_id, head.name) == ("s", "i", "ada", "n")
    assert (head.state, head.metadata, head.revision) == ({"a": 1}, {"b": 2}, 1)
    assert (head.created_us, head.updated_us, head.expires_us) == (77, 77, 82)


def test_a_run_from_start_to_end() -> None:
    head = folded([started(1, until=99)])
    assert (head.status, head.run_count, head.tip, head.open_runs[1].until_us) == ("running", 1, 1, 99)
    head = fold.fold(head, 3, 9, [ended(1, usage={"requests": 2, "cost": 7})])
    assert (head.status, head.open_runs, head.usage) == ("completed", {}, Usage.from_json({"requests": 2, "cost": 7}))


def test_runs_below_another_one_change_nothing_in_the_head() -> None:
    before = folded([started(1)])
    below = [started(1, "member", parent="r1"), Entry("run.ended", {"status": "failed"}, "member", 1, "r1")]
    after = fold.fold(before, 3, 1002, below)
    assert (after.run_count, after.status, after.open_runs) == (1, "running", before.open_runs)


def test_entries_without_a_run_number_and_of_unknown_kinds_are_passed_over() -> None:
    before = folded([started(1)])
    strange = [
        Entry("run.started", {}, "x"),
        Entry("run.taken", {"epoch": 9, "until": 9}, "x"),
        Entry("run.ended", {"status": "failed"}, "x"),
        Entry("from.the.future", {"what": "ever"}),
        Entry("message", {"text": "hi"}, "r1", 1),
    ]
    after = fold.fold(before, 3, before.updated_us, strange)
    assert after.revision == 3
    after.revision = before.revision
    assert after == before


def test_the_status_is_that_of_the_newest_run() -> None:
    head = folded([started(1)], [started(2)], [ended(2, "failed")])
    assert (head.status, list(head.open_runs)) == ("failed", [1])
    head = fold.fold(head, 5, 5, [ended(1)])
    assert head.status == "failed"
    head = fold.fold(folded([started(1)], [started(2)]), 4, 4, [Entry("run.taken", {"epoch": 2, "until": 5}, "r1", 1)])
    assert (head.status, head.open_runs[1].epoch) == ("running", 2)


def test_paused_and_taken_again() -> None:
    head = folded([started(1)], [ended(1, "paused", epoch=1)])
    assert (head.status, head.open_runs[1].status) == ("paused", "paused")
    head = fold.fold(head, 4, 4, [Entry("run.taken", {"epoch": 2, "until": 50}, "r1", 1)])
    assert (head.status, head.open_runs[1].epoch, head.open_runs[1].until_us) == ("running", 2, 50)
    assert fold.fold(head, 5, 5, [ended(1)]).open_runs == {}


def test_of_many_crashed_runs_the_head_remembers_only_the_newest() -> None:
    commits = [[started(number)] for number in range(1, 41)] + [[ended(n, "interrupted")] for n in range(1, 40)]
    head = folded(*commits)
    assert sorted(head.open_runs) == list(range(24, 41))
    assert head.open_runs[40].status == "running"
    assert head.open_runs[39].epoch == 1


def test_a_copied_run_is_not_paid_twice() -> None:
    assert folded([started(1), ended(1, usage={"requests": 5}, copied=True)]).usage == Usage()


def test_what_else_changes_the_head() -> None:
    head = folded(
        [Entry("session.renamed", {"name": "new"})],
        [Entry("session.metadata", {"patch": [["set", ["m"], 1]]})],
        [Entry("state.patched", {"patch": [["set", ["a"], 1]], "undo": []})],
        [Entry("session.summarized", {"upto": 3, "text": "so far"})],
        [Entry("session.ttl", {"ttl": 10})],
    )
    assert (head.name, head.metadata, head.state) == ("new", {"m": 1}, {"a": 1})
    assert head.summary == {"upto": 3, "text": "so far"}
    assert head.expires_us == head.updated_us + 10
    assert fold.fold(head, 7, 7, [Entry("session.ttl", {"ttl": None})]).expires_at is None
    assert fold.fold(head, 7, 7, [Entry("session.deleted")]).hidden == "deleted"
    building = fold.fold(None, 1, 1, [created(hidden="building")])
    assert (building.hidden, fold.fold(building, 2, 2, [Entry("session.ready")]).hidden) == ("building", None)


def test_folding_leaves_the_head_before_as_it_was() -> None:
    before = folded([started(1)], [started(2)], [Entry("state.patched", {"patch": [["set", ["a"], {"b": 1}]]})])
    kept = copy.deepcopy(before)
    change = [
        Entry("state.patched", {"patch": [["set", ["a", "b"], 2]]}),
        ended(1, "interrupted"),
        started(3),
        ended(2),
    ]
    fold.fold(before, 5, 5, change)
    assert before == kept


# ---------------------------------------------------------------- rolling forward


def row(seq: int, *entries: Entry) -> CommitRow:
    return CommitRow(seq, f"c{seq}", 0, 1000 + seq, encode_commit(entries))


def test_rolling_forward_passes_over_what_the_head_has() -> None:
    rows = [row(1, created()), row(2, started(1)), row(3, ended(1))]
    whole = fold.roll_forward(None, rows)
    assert fold.roll_forward(fold.roll_forward(None, rows[:2]), rows) == whole
    assert fold.roll_forward(whole, []) is whole


def test_a_gap_names_the_commit_that_is_missing() -> None:
    with pytest.raises(CorruptDataError, match="commit 3 where commit 2 should be"):
        fold.roll_forward(None, [row(1, created()), row(3, started(1))])


@pytest.mark.parametrize("entries", [[], [Entry("session.renamed", {"name": "x"})]])
def test_a_log_that_does_not_begin_with_the_session(entries: list[Entry]) -> None:
    with pytest.raises(CorruptDataError, match="does not create the session"):
        fold.roll_forward(None, [row(1, *entries)])


@pytest.mark.parametrize(
    "entry",
    [
        Entry("run.ended", None, "r", 1),
        Entry("run.ended", {}, "r", 1),
        Entry("state.patched", {"patch": [["set", []]]}),
        Entry("session.renamed", []),
        Entry("session.created", 5),
    ],
)
def test_an_entry_of_the_wrong_shape_names_its_commit(entry: Entry) -> None:
    first = [] if entry.kind == "session.created" else [row(1, created())]
    with pytest.raises(CorruptDataError, match=f"Commit {len(first) + 1} is damaged"):
        fold.roll_forward(None, [*first, row(len(first) + 1, entry)])


# ---------------------------------------------------------------- branches


class Tree:
    """What `Session` should know of branches, kept the plain way: the parent of every run."""

    def __init__(self) -> None:
        self.parent: list[int] = [0]
        self.tip = 0

    def run(self) -> int:
        self.parent.append(self.tip)
        self.tip = len(self.parent) - 1
        return self.tip

    def path(self, run: int) -> list[int]:
        numbers: list[int] = []
        while run:
            numbers.append(run)
            run = self.parent[run]
        return numbers[::-1]

    def tips(self) -> set[int]:
        return {run for run in range(1, len(self.parent)) if run not in self.parent[1:]} | {self.tip}


@given(st.lists(st.none() | st.integers(0, 12), max_size=25))
def test_branches_are_those_of_a_tree(steps: list[int | None]) -> None:
    """None starts a run; a number rewinds to that run, or to the last one if there are not so many."""
    tree, head = Tree(), folded()
    for back in steps:
        if back is None:
            entry = started(tree.run())
        else:
            tree.tip = min(back, len(tree.parent) - 1)
            entry = Entry("session.rewound", {"run": tree.tip})
        head = fold.fold(head, head.revision + 1, 5, [entry])
    expected = tree.path(tree.tip)
    assert head.tip == tree.tip
    assert [n for first, last in head.path() for n in range(first, last + 1)] == expected
    for number in range(1, head.run_count + 1):
        assert head.on_path(number) == (number in expected)
        assert [n for first, last in head.path(number) for n in range(first, last + 1)] == tree.path(number)
    for count in range(4):
        assert head.last_on_path(count) == (expected[-count:] if count else [])
        assert head.last_on_path(count, below=5) == ([n for n in expected if n < 5][-count:] if count else [])
    assert [(b.tip, b.runs, b.current) for b in head.branches()] == [
        (tip, len(tree.path(tip)), tip == tree.tip) for tip in sorted(tree.tips())
    ]
