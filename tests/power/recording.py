"""The system calls of a process that change files, as `strace` saw them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CALLS = (
    "openat,open,creat,close,write,pwrite64,lseek,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "mkdir,mkdirat,rmdir,fsync,fdatasync,dup,dup2,dup3"
)
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

_UNFINISHED = "<unfinished ...>"
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_FOLDERS = re.compile(r'(AT_FDCWD|\d+), "')

Kind = Literal["create", "write", "truncate", "rename", "exchange", "link", "unlink", "mkdir", "rmdir", "sync", "said"]


@dataclass(frozen=True, slots=True)
class Op:
    """One change. `path` and `target` are relative to the folder that is watched; `file` tells open files apart."""

    kind: Kind
    path: str = ""
    target: str = ""
    offset: int = 0
    data: bytes = b""


def record(command: list[str], root: Path, trace: Path) -> list[Op]:
    """Run a command, and bring what it did below a folder, with what it wrote to its output, in order."""
    strace = shutil.which("strace")
    assert strace is not None, "looked for before"
    options = ["-f", "-xx", "-s", "100000000", "-e", f"trace={CALLS}", "-o", str(trace)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # its files too
    done = subprocess.run([strace, *options, sys.executable, *command], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return list(Reader(root).ops(trace.read_text("ascii").splitlines()))


def whole(lines: list[str]) -> Iterator[str]:
    """The calls of all threads, without the threads' numbers, each where it ended if another one came between."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, rest = line.partition(" ")
        rest = rest.lstrip()
        if rest.endswith(_UNFINISHED):
            begun[thread] = rest.removesuffix(_UNFINISHED)
        elif found := _RESUMED.match(rest):
            yield begun.pop(thread) + rest[found.end() :]
        else:
            yield rest


@dataclass(slots=True)
class _Open:
    path: str
    offset: int
    append: bool


class Reader:
    """Follows the descriptors of one process, and where each of its files is at the moment."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.files: dict[int, _Open] = {}
        self.sizes: dict[str, int] = {}

    def ops(self, lines: list[str]) -> Iterator[Op]:
        for line in whole(lines):
            call = _CALL.match(line)
            if call is None or int(call[3]) < 0:
                continue
            texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(call[2])]
            if call[1].endswith("at") or call[1] == "renameat2":
                texts = [self.named(*pair) for pair in zip(_FOLDERS.findall(call[2]), texts, strict=True)]
            numbers = [int(number) for number in re.findall(r"(?:^|, )(-?\d+)(?=,|$)", _TEXT.sub("", call[2]))]
            yield from self.op(call[1], call[2], texts, numbers, int(call[3]))

    def named(self, folder: str, path: bytes) -> bytes:
        """A name in an open folder as a path."""
        if path.startswith(b"/") or not folder.isdecimal():
            return path
        opened = self.files.get(int(folder))
        return b"?" if opened is None else f"{self.root}/{opened.path}/".encode() + path

    def below(self, path: bytes) -> str | None:
        text = path.decode()
        if text == self.root:
            return "."
        return text[len(self.root) + 1 :] if text.startswith(f"{self.root}/") else None

    def op(self, name: str, arguments: str, texts: list[bytes], numbers: list[int], result: int) -> Iterator[Op]:
        if name in ("openat", "open", "creat"):
            yield from self.opened(self.below(texts[0]), arguments, result)
        elif "RENAME_EXCHANGE" in arguments:
            yield from self.exchanged(self.below(texts[0]), self.below(texts[1]))
        elif name.startswith("rename"):
            yield from self.renamed(self.below(texts[0]), self.below(texts[1]))
        elif name.startswith("link"):
            yield from self.linked(self.below(texts[0]), self.below(texts[1]))
        elif name.startswith(("unlink", "mkdir", "rmdir")):
            path = self.below(texts[0])
            self.sizes.pop(path or "", None)
            kind: Kind = "rmdir" if "AT_REMOVEDIR" in arguments or name == "rmdir" else "unlink"
            if path is not None:
                yield Op("mkdir" if name.startswith("mkdir") else kind, path)
        elif name == "write" and numbers[0] == 1:
            yield Op("said", data=texts[0])
        elif numbers[0] in self.files:
            yield from self.on_file(name, texts, numbers, result)

    def opened(self, path: str | None, arguments: str, file: int) -> Iterator[Op]:
        self.files.pop(file, None)
        if path is None:
            return
        if "O_CREAT" in arguments and path not in self.sizes:
            self.sizes[path] = 0
            yield Op("create", path)
        elif "O_TRUNC" in arguments:
            self.sizes[path] = 0
            yield Op("truncate", path)
        self.files[file] = _Open(path, 0, "O_APPEND" in arguments)

    def renamed(self, old: str | None, new: str | None) -> Iterator[Op]:
        if old is None and new is None:
            return
        assert old is not None, "files stay below the folder"
        assert new is not None, "files stay below the folder"
        for path in [path for path in self.sizes if path == old or path.startswith(f"{old}/")]:
            self.sizes[new + path[len(old) :]] = self.sizes.pop(path)
        for opened in self.files.values():
            if opened.path == old or opened.path.startswith(f"{old}/"):
                opened.path = new + opened.path[len(old) :]
        yield Op("rename", old, new)

    def exchanged(self, one: str | None, other: str | None) -> Iterator[Op]:
        assert one is not None, "files stay below the folder"
        assert other is not None, "files stay below the folder"
        self.sizes[one], self.sizes[other] = self.sizes[other], self.sizes[one]
        for opened in self.files.values():
            opened.path = {one: other, other: one}.get(opened.path, opened.path)
        yield Op("exchange", one, other)

    def linked(self, path: str | None, name: str | None) -> Iterator[Op]:
        assert path is not None, "files stay below the folder"
        assert name is not None, "files stay below the folder"
        self.sizes[name] = self.sizes[path]
        yield Op("link", path, name)

    def on_file(self, name: str, texts: list[bytes], numbers: list[int], result: int) -> Iterator[Op]:
        opened = self.files[numbers[0]]
        if name == "close":
            del self.files[numbers[0]]
        elif name in ("fsync", "fdatasync"):
            yield Op("sync", opened.path)
        elif name == "ftruncate":
            self.sizes[opened.path] = numbers[1]
            yield Op("truncate", opened.path, offset=numbers[1])
        elif name == "lseek":
            opened.offset = result
        elif name in ("write", "pwrite64"):
            offset = numbers[-1] if name == "pwrite64" else opened.offset
            offset = self.sizes[opened.path] if opened.append else offset
            self.sizes[opened.path] = max(self.sizes[opened.path], offset + result)
            opened.offset = opened.offset if name == "pwrite64" else offset + result
            yield Op("write", opened.path, offset=offset, data=texts[0][:result])
        else:
            raise AssertionError(f"{name} is not understood")
