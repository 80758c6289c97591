"""What a disk may hold after a power cut at any moment of a recording.

The model is stricter than the file systems that people use (after Pillai et al., "All File Systems Are Not Created
Equal", OSDI 2014): until a file is synchronised, each of its writes may be on the disk, or not, or in part; until a
folder is synchronised, each change of its names may be on the disk or not; in any combination. A rename within a file
system is one change, and so is one of two files that change their names. What a write that is missing would have
covered is zeros.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import PurePosixPath

from .recording import Op

EXHAUSTIVE = 10
"""Up to how many changes that are not synchronised all their combinations are made; of more, a sample."""

Image = dict[str, bytes | None]
"""Content by path; None for a folder."""


@dataclass(slots=True)
class Node:
    """A file or folder, whatever its name."""

    folder: bool = False
    data: bytes = b""
    names: dict[str, Node] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Change:
    """A change that may not be on the disk. `nodes` are what must be synchronised for it, all or (a rename) each."""

    kind: str
    nodes: list[Node]
    names: list[str] = field(default_factory=list)
    child: Node | None = None
    other: Node | None = None
    offset: int = 0
    data: bytes = b""


class Disk:
    """The names as a process sees them, and the changes that a power cut may undo."""

    def __init__(self) -> None:
        self.seen = Node(folder=True)
        self.pending: list[Change] = []
        self.base: dict[int, tuple[Node, bytes, dict[str, Node]]] = {}
        self._keep(self.seen)

    def _keep(self, node: Node) -> None:
        self.base[id(node)] = (node, node.data, dict(node.names))

    def _parent(self, path: str) -> tuple[Node, str]:
        *folders, name = PurePosixPath(path).parts
        node = self.seen
        for folder in folders:
            node = node.names[folder]
        return node, name

    def find(self, path: str) -> Node:
        parent, name = self._parent(path) if path != "." else (self.seen, ".")
        return parent.names[name] if path != "." else parent

    def apply(self, op: Op) -> None:
        """Do what the process did."""
        if op.kind == "sync":
            self._sync(self.find(op.path))
            return
        if op.path == ".":
            return  # the folder itself is there before
        change = self._change(op)
        _do(change, {})
        self.pending.append(change)

    def _change(self, op: Op) -> Change:
        if op.kind in ("write", "truncate"):
            return Change(op.kind, [self.find(op.path)], offset=op.offset, data=op.data)
        parent, name = self._parent(op.path)
        if op.kind == "rename":
            target, new = self._parent(op.target)
            return Change("rename", [parent, target], [name, new], parent.names[name])
        if op.kind == "exchange":
            other = PurePosixPath(op.target).name
            return Change("exchange", [parent], [name, other], parent.names[name], parent.names[other])
        if op.kind == "link":
            return Change("link", [parent], [PurePosixPath(op.target).name], parent.names[name])
        if op.kind in ("create", "mkdir"):
            child = Node(folder=op.kind == "mkdir")
            self._keep(child)
            return Change("link", [parent], [name], child)
        return Change("unlink", [parent], [name])

    def _sync(self, node: Node) -> None:
        """What concerns a node is on the disk. A rename between two folders is, if either of them is synchronised."""
        done = [change for change in self.pending if node in change.nodes]
        self.pending = [change for change in self.pending if node not in change.nodes]
        for change in done:
            _do(change, self.base)

    def images(self, chance: random.Random, share: float) -> Iterator[Image]:
        """What the disk may hold if the power goes now: a share of all images, chosen by chance."""
        for choice in _choices(self.pending, chance):
            if chance.random() >= share:
                continue
            state = {key: (node, data, dict(names)) for key, (node, data, names) in self.base.items()}
            for change, part in zip(self.pending, choice, strict=True):
                if part:
                    _do(_torn(change, part), state)
            yield _image(self.seen, state)


def _torn(change: Change, part: int) -> Change:
    """The change as it is (1), or a write of which only the first half is there (2), or whose data is zeros (3)."""
    if part == 1:
        return change
    data = change.data[: len(change.data) // 2] if part == 2 else bytes(len(change.data))
    return Change(change.kind, change.nodes, offset=change.offset, data=data)


def _choices(pending: Sequence[Change], chance: random.Random) -> Iterator[tuple[int, ...]]:
    """Which of the changes are on the disk."""
    count = len(pending)
    writes = [number for number, change in enumerate(pending) if change.kind == "write"]
    if count <= EXHAUSTIVE:
        yield from product((0, 1), repeat=count)
    else:
        for number in range(count + 1):
            yield (1,) * number + (0,) * (count - number)
            yield (0,) * number + (1,) * (count - number)
        for number in range(count):
            yield tuple(int(other != number) for other in range(count))
        for _ in range(count):
            yield tuple(chance.choices((0, 1, 1), k=count))
    for number, part in product(writes[-4:], (2, 3)):
        yield tuple(part if other == number else 1 for other in range(count))
        yield tuple(part if other == number else int(other < number) for other in range(count))


State = dict[int, tuple[Node, bytes, dict[str, Node]]]


def _do(change: Change, state: State) -> None:
    """Make a change in a state, or (where the state is empty) in what the process sees."""
    first, last = change.nodes[0], change.nodes[-1]
    if change.kind in ("write", "truncate"):
        data = state[id(first)][1] if state else first.data
        end = change.offset if change.kind == "truncate" else change.offset + len(change.data)
        data = data.ljust(end, b"\0")
        data = data[:end] if change.kind == "truncate" else data[: change.offset] + change.data + data[end:]
        if state:
            state[id(first)] = (first, data, state[id(first)][2])
        else:
            first.data = data
        return
    names = state[id(first)][2] if state else first.names
    if change.kind == "exchange":
        assert change.child is not None, "what gets the other name"
        assert change.other is not None, "what has it"
        names[change.names[1]], names[change.names[0]] = change.child, change.other
        return
    if change.kind == "link":
        assert change.child is not None, "what is linked"
        names[change.names[0]] = change.child
        return
    if names.get(change.names[0]) is change.child or change.kind == "unlink":
        names.pop(change.names[0], None)
    if change.kind == "rename":
        assert change.child is not None, "what is renamed"
        (state[id(last)][2] if state else last.names)[change.names[1]] = change.child


def _image(root: Node, state: State) -> Image:
    image: Image = {}

    def walk(node: Node, path: str) -> None:
        _, data, names = state[id(node)]
        image[path] = None if node.folder else data
        for name, child in names.items():
            walk(child, f"{path}/{name}")

    walk(root, ".")
    return image


def cuts(ops: Sequence[Op], chance: random.Random, share: float) -> Iterator[tuple[Image, list[bytes]]]:
    """A share of the images that a power cut could leave, each once for what had been said by then."""
    disk, said, known = Disk(), list[bytes](), set[int]()
    for op in ops:
        if op.kind == "said":
            said.append(op.data)
            known.clear()
        else:
            disk.apply(op)
        for image in disk.images(chance, share):
            kept = {
                path: data for path, data in image.items() if not path.endswith("-shm")
            }  # rebuilt when it is opened
            key = hash(frozenset(kept.items()))
            if key not in known:
                known.add(key)
                yield kept, list(said)
