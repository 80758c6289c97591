"""Anchors and aliases in YAML, found before a parser expands them: ten lines of them can stand for 10^10 values.

We write none, and nothing that is read needs any. So what begins a node with `&` or `*` is refused. To tell that from
the same characters within texts, the text is read as far as quotes, comments, block scalars and plain scalars go; in
doubt (a plain scalar over several lines, which we never write) it counts as an alias.
"""

from __future__ import annotations

import re

_MAYBE = re.compile(r"(?:^|[\s\[\]{},:?\-!\"'])[&*]\S", re.MULTILINE)
"""Without such a place there is none, whatever else is in the text."""

_BREAK = re.compile(r"\r\n|\n|\r")
_HEADER = re.compile(r"[|>](?:([1-9])[+-]?|[+-]([1-9])?)?[ \t]*(?:#.*)?$")
_DOUBLE = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_SINGLE = re.compile(r"[^']*(?:''[^']*)*")
_WORD = re.compile(r"[^ \t,\[\]{}]+")
_PLAIN_BLOCK = re.compile(r"(?:[^:# \t]|:(?=[^ \t])|#|[ \t]+(?=[^# \t]))+")
_PLAIN_FLOW = re.compile(r"(?:[^:#,\[\]{} \t]|:(?=[^ \t,\[\]{}])|#|[ \t]+(?=[^#,\[\]{} \t]))+")


def line_of_alias(text: str) -> int:
    """The line, from 1, of the first anchor or alias in a YAML text; 0: there is none."""
    return _Reader(text).line_of_alias() if _MAYBE.search(text) else 0


class _FoundError(Exception):
    """There is an anchor or an alias."""


class _Reader:
    """Goes through a text line by line.

    Attributes:
        depth: in how many brackets and braces it is.
        quote: the kind of quote that the end of the last line is in.
        block: the indentation above a block scalar that it is in; lines of the scalar have more.
        begins: whether a node may begin here.
        plain: whether it is behind, and at the end of a line within, a plain scalar, which may go on in the next.
        key: whether it is right behind a quoted text, which may be a key with its colon next to it.
        parent: the column of the key or dash that the next node belongs to.
    """

    def __init__(self, text: str) -> None:
        self.lines = _BREAK.split(text)
        self.depth = 0
        self.quote = ""
        self.block: int | None = None
        self.begins = True
        self.plain = False
        self.key = False
        self.parent = -1

    def line_of_alias(self) -> int:
        for number, line in enumerate(self.lines, 1):
            try:
                self._read(line)
            except _FoundError:
                return number
        return 0

    def _read(self, line: str) -> None:
        at = 0
        if line.startswith(("---", "...")) and line[3:4] in ("", " ", "\t"):
            self.depth, self.quote, self.block, self.begins, self.plain, self.parent = 0, "", None, True, False, -1
            at = 3
        elif self.quote:
            at = self._quoted(line, 0)
        else:
            at = len(line) - len(line.lstrip(" "))
            if self.block is not None:
                if at == len(line) or at > self.block:
                    return
                self.block = None
            goes_on = self.plain and (self.depth > 0 or at > self.parent)
            self.begins = not goes_on
            if goes_on and line[at : at + 1] in ("&", "*"):
                raise _FoundError
            if not goes_on:
                self.plain, self.parent = False, at - 1
        while at < len(line):
            mark, follows = line[at], line[at + 1 : at + 2]
            if mark in " \t":
                at += 1
            elif mark == "#" and (at == 0 or line[at - 1] in " \t"):
                return
            else:
                spaced = follows in ("", " ", "\t")
                at = self._in_flow(line, at, mark, spaced) if self.depth else self._in_block(line, at, mark, spaced)

    def _in_block(self, line: str, at: int, mark: str, spaced: bool) -> int:
        """Read what begins here; where the next thing does."""
        if mark == ":" and spaced:
            self.parent = at if self.begins else self.parent
            self.begins, self.plain = True, False
            return at + 1
        if not self.begins:
            return self._plain(_PLAIN_BLOCK, line, at)
        if mark in "|>":
            if not _HEADER.match(line, at):
                _refuse_if_any(line, at)
            self.block = self.parent
            return len(line)
        if mark in "-?" and spaced:
            self.parent = at
            return at + 1
        return self._node(_PLAIN_BLOCK, line, at, mark)

    def _in_flow(self, line: str, at: int, mark: str, spaced: bool) -> int:
        ends = spaced or line[at + 1] in ",[]{}"
        if mark in "]}," or (mark == ":" and (ends or self.key)) or (mark == "?" and ends):
            self.depth -= mark in "]}"
            self.begins, self.plain, self.key = mark not in "]}", False, False
            return at + 1
        if not self.begins and mark not in "&*[{":
            return self._plain(_PLAIN_FLOW, line, at)
        return self._node(_PLAIN_FLOW, line, at, mark)

    def _node(self, plain: re.Pattern[str], line: str, at: int, mark: str) -> int:
        if mark in "&*":
            raise _FoundError
        if mark == "!":
            end = _WORD.match(line, at)
            return at + 1 if end is None else end.end()
        if mark in "[{":
            self.depth += 1
            self.begins = True
            return at + 1
        if not self.depth:
            self.parent = at
        if mark in "\"'":
            self.quote = mark
            return self._quoted(line, at + 1)
        return self._plain(plain, line, at)

    def _plain(self, plain: re.Pattern[str], line: str, at: int) -> int:
        self.begins, self.plain, self.key = False, True, False
        found = plain.match(line, at)
        return at + 1 if found is None else found.end()

    def _quoted(self, line: str, at: int) -> int:
        """Behind the quote that ends here, or behind the line, if the quoted text goes on in the next."""
        found = (_DOUBLE if self.quote == '"' else _SINGLE).match(line, at)
        end = at if found is None else found.end()
        if line[end : end + 1] == self.quote:
            self.quote, self.begins, self.plain, self.key = "", False, False, True
            return end + 1
        return len(line)


def _refuse_if_any(line: str, at: int) -> None:
    if "&" in line[at:] or "*" in line[at:]:
        raise _FoundError
