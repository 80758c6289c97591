"""State as patches: what one run changed, so that two runs that change different keys both win.

A stored patch is a list of operations on paths of object keys, applied in order:

* `["set", path, value]`: put a value there; objects on the way are made.
* `["del", path]`: remove the key; nothing happens where it is not there.

Unlike an RFC 7396 merge patch this can store `null`, and unlike RFC 6902 it never depends on what is there,
so patches of concurrent runs can be applied one after the other. Lists are values: they are replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

Operation = list[Any]
Patch = list[Operation]
Object = dict[str, Any]

_ABSENT: Any = object()


def diff(old: Mapping[str, Any], new: Mapping[str, Any]) -> Patch:
    """The patch that makes `new` out of `old`, touching only what differs.

    An object that is new is set key by key, so that it merges with one that somebody else has made there meanwhile.
    """
    patch: Patch = []
    _diff(old, new, [], patch)
    return patch


def _diff(old: Mapping[str, Any], new: Mapping[str, Any], path: list[str], patch: Patch) -> None:
    for key in old:
        if key not in new:
            patch.append(["del", [*path, key]])
    for key, value in new.items():
        before = old.get(key, {} if value and isinstance(value, dict) else _ABSENT)
        if isinstance(before, dict) and isinstance(value, dict):
            _diff(cast(Object, before), cast(Object, value), [*path, key], patch)
        elif not same(before, value):
            patch.append(["set", [*path, key], value])


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same; unlike `==`, `1`, `1.0` and `True` are three values."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in cast(Object, a))
    if isinstance(a, list):
        return len(cast(list[Any], a)) == len(b) and all(same(x, y) for x, y in zip(cast(list[Any], a), b, strict=True))
    return a == b


def from_merge_patch(merge: Mapping[str, Any], target: Mapping[str, Any]) -> Patch:
    """An RFC 7396 merge patch as our operations, for a target: `None` removes a key, objects merge."""
    return diff(target, merge_patch(target, merge))


def merge_patch(target: Any, merge: Any) -> Any:
    """The result of applying an RFC 7396 merge patch (its section 2, "MergePatch"); the target is not changed."""
    if not isinstance(merge, Mapping):
        return merge
    result: Object = dict(cast(Object, target)) if isinstance(target, Mapping) else {}
    for key, value in cast(Mapping[str, Any], merge).items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def apply(target: Mapping[str, Any], patch: Sequence[Operation]) -> Object:
    """`target` with the patch applied; `target` itself and the objects in it are not changed."""
    result = dict(target)
    copies: dict[int, Object] = {}
    for operation in patch:
        _apply(result, operation, copies)
    return result


def _apply(root: Object, operation: Operation, copies: dict[int, Object]) -> None:
    """Apply an operation in place. `copies` has the objects that were made here, by their ids, and keeps them alive.

    All others are copied before they are changed, because the old state may still be in use; each once, however many
    operations change it.
    """
    path: list[str] = operation[1]
    node = root
    for key in path[:-1]:
        below = node.get(key)
        if not isinstance(below, dict):
            if operation[0] == "del":
                return
            below = {}
        if id(cast(Any, below)) not in copies:
            below = dict(cast(Object, below))
            copies[id(below)] = below
            node[key] = below
        node = cast(Object, below)
    if operation[0] == "set":
        node[path[-1]] = operation[2]
    else:
        node.pop(path[-1], None)


def undo(before: Mapping[str, Any], patch: Sequence[Operation]) -> Patch:
    """The patch that leads back from `apply(before, patch)` to `before`."""
    return diff(apply(before, patch), before)


def conflicts(a: Sequence[Operation], b: Sequence[Operation]) -> list[str]:
    """The keys (dotted paths) that both patches touch, one inside the other included."""
    theirs = {tuple(path) for _, path, *_ in b}
    above_theirs = {start for path in theirs for start in _starts(path)}
    ours = [tuple(path) for _, path, *_ in a]
    return [".".join(path) for path in ours if path in above_theirs or any(start in theirs for start in _starts(path))]


def _starts(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A path, and all that it lies in."""
    return [path[:length] for length in range(len(path) + 1)]
