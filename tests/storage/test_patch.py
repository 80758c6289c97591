"""State as patches."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessile.storage import patch

KEYS = st.sampled_from(["a", "b", "c", ""])
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, -1.5]) | st.sampled_from(["", "a"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner), max_leaves=8)
OBJECTS = st.dictionaries(KEYS, VALUES)


@given(OBJECTS, OBJECTS)
def test_diff_leads_from_one_to_the_other_and_undo_back(old: Any, new: Any) -> None:
    before = copy.deepcopy(old)
    operations = patch.diff(old, new)
    result = patch.apply(old, operations)
    assert patch.same(result, new)
    assert patch.same(patch.apply(result, patch.undo(old, operations)), old)
    assert patch.same(old, before), "the object that a patch is applied to stays as it is"


@given(OBJECTS)
def test_nothing_changes_nothing(state: Any) -> None:
    assert patch.diff(state, copy.deepcopy(state)) == []


@given(OBJECTS, OBJECTS, OBJECTS)
def test_patches_that_touch_different_keys_commute(base: Any, one: Any, other: Any) -> None:
    a, b = patch.diff(base, one), patch.diff(base, other)
    if not patch.conflicts(a, b):
        left = patch.apply(patch.apply(base, a), b)
        assert patch.same(left, patch.apply(patch.apply(base, b), a))


@pytest.mark.parametrize(
    ("target", "merge", "result"),
    [  # RFC 7396, appendix A, those whose target and result are objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, merge: Any, result: Any) -> None:
    assert patch.merge_patch(target, merge) == result
    assert patch.apply(target, patch.from_merge_patch(merge, target)) == result


def test_one_and_true_and_one_point_zero_are_three_values() -> None:
    for old, new in ((1, True), (1, 1.0), (True, 1.0), ([1], [True]), ({"x": 0}, {"x": False})):
        changed = patch.apply({"k": old}, patch.diff({"k": old}, {"k": new}))
        assert repr(changed["k"]) == repr(new)


def test_null_is_a_value_that_can_be_stored() -> None:
    assert patch.apply({}, patch.diff({}, {"a": None})) == {"a": None}


def test_removing_what_is_not_there_does_nothing() -> None:
    assert patch.apply({"a": 1}, [["del", ["b"]], ["del", ["a", "deeper"]], ["del", ["x", "y", "z"]]]) == {"a": 1}


def test_setting_below_a_value_makes_objects_on_the_way() -> None:
    assert patch.apply({"a": 1}, [["set", ["a", "b", "c"], 2]]) == {"a": {"b": {"c": 2}}}


def test_conflicts_name_the_keys_one_inside_the_other_included() -> None:
    ours = [["set", ["a", "b"], 1], ["set", ["c"], 2], ["del", ["d"]]]
    assert patch.conflicts(ours, [["set", ["a"], {}]]) == ["a.b"]
    assert patch.conflicts(ours, [["set", ["a", "b", "x"], 0], ["del", ["d"]]]) == ["a.b", "d"]
    assert patch.conflicts(ours, [["set", ["a", "other"], 0], ["set", ["e"], 0]]) == []


def test_a_patch_of_many_keys_copies_each_object_once() -> None:
    """What a patch costs grows with it, and not with its square: no object is copied for each key in it."""
    copies = 0

    class Counted(dict[str, Any]):
        def __iter__(self) -> Any:
            nonlocal copies
            copies += 1
            return super().__iter__()

        def keys(self) -> Any:
            nonlocal copies
            copies += 1
            return super().keys()

    inner = Counted({str(number): number for number in range(500)})
    before = {"deep": {"inner": inner}}
    changes = [["set", ["deep", "inner", str(number)], -number] for number in range(500)]
    after = patch.apply(before, changes)
    assert after == {"deep": {"inner": {str(number): -number for number in range(500)}}}
    assert inner == {str(number): number for number in range(500)}
    assert copies <= 4
    assert patch.apply(after, patch.undo(before, changes)) == before


def test_values_that_a_patch_brings_are_not_changed_by_what_follows() -> None:
    value: dict[str, Any] = {"x": {"y": 1}}
    changes = [["set", ["a"], value], ["set", ["a", "x", "y"], 2], ["del", ["a", "x"]], ["set", ["a", "x", "z"], 3]]
    assert patch.apply({}, changes) == {"a": {"x": {"z": 3}}}
    assert value == {"x": {"y": 1}}
