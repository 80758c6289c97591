"""Every message that a user can meet, as the code says it: errors, warnings, answers, a command's words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple, cast

from sessile import errors

SOURCE = Path(__file__).resolve().parent.parent / "src" / "sessile"
FILLED = "…"
"""What stands for what is filled in."""

LOG, SAID, ANSWER = "log", "said", "answer"

SAYERS = {
    "Problem": (ANSWER, 2),
    "refused": (ANSWER, 0),
    "too_many": (ANSWER, 0),
    "BadParameter": (SAID, 0),
    "overdue": ("EventTimeoutError", 2),
    "_Odd": ("InvalidStateError", 0),
}
"""What else than the classes of our errors brings a text to a user: what kind it is, and which argument is the text."""

OTHERS = ("TimeoutError", "TypeError", "ValueError", "LookupError", "NotImplementedError", "RuntimeError")
"""Errors of Python's that reach users where their text is a sentence. Others (`an id is a text`) are caught nearby."""

BEFORE = {"_Odd": f"{FILLED} "}
"""What is put before a text, where it is only the end of a message."""

WARNS = ("warning", "error", "exception", "critical")
NO_TEXT = ("MissingRunsError",)
"""Errors that make their text themselves, of other arguments."""

Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.Module


class Message(NamedTuple):
    """A text, and one place where it is said."""

    text: str
    kind: str
    """The class of the error; or `log`: a warning, `answer`: of the server, `said`: by a command."""
    hint: str | None
    """What the place itself says to do; None if it leaves that to the class."""
    path: str
    """The module, as `storage/core.py`."""
    line: int


@cache
def messages() -> tuple[Message, ...]:
    """All of them, by module and line."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    kinds = kinds_of(trees.values())
    found = [one for path, tree in trees.items() for one in Module(path, tree, kinds).found()]
    return tuple(sorted(found, key=lambda one: (one.path, one.line, one.text)))


def kinds_of(trees: Iterable[ast.Module]) -> dict[str, str]:
    """The names of all classes of errors, and the public class that each is shown as."""
    known = {
        name: name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.SessileError)
    }
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while True:
        more = {
            one.name: known[base]
            for one in classes
            for base in (name_of(of) for of in one.bases)
            if one.name not in known and base in known
        }
        if not more:
            return known
        known |= more


def name_of(node: ast.expr) -> str:
    """`StorageError` of `ours.StorageError`."""
    return ast.unparse(node).rpartition(".")[2]


class Module:
    """What one module says."""

    def __init__(self, path: Path, tree: ast.Module, kinds: dict[str, str]) -> None:
        self._path, self._tree, self._kinds = path.relative_to(SOURCE).as_posix(), tree, kinds
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def found(self) -> Iterator[Message]:
        for call in ast.walk(self._tree):
            if isinstance(call, ast.Call) and (said := self._said(call)) is not None:
                kind, before, given = said
                texts = self._texts(given)
                hints = [one for word in call.keywords if word.arg == "hint" for one in self._texts(word.value)]
                pairs = zip(texts, hints, strict=True) if len(texts) == len(hints) else product(texts, hints or [None])
                for text, hint in pairs:
                    if text is not None and (kind not in OTHERS or text[:1].isupper()):
                        yield Message(f"{before}{text}", kind, hint, self._path, call.lineno)

    def _said(self, call: ast.Call) -> tuple[str, str, ast.expr] | None:
        """The kind of a message, what is put before it, and the expression that is its text; None for another call."""
        name = name_of(call.func)
        kind, place = SAYERS.get(name, (self._kinds.get(name, name if name in OTHERS else ""), 0))
        if name in WARNS and ast.unparse(call.func).endswith(f"logger.{name}"):
            kind = LOG
        elif name == "say" and any(word.arg == "err" for word in call.keywords):
            kind = SAID
        elif ast.unparse(call.func) == "super().__init__" and self._path != "errors.py":
            kind = self._kinds.get(self._class_of(call), "")
        if kind == ANSWER and not self._path.startswith("server/"):
            return None
        if not kind or name in NO_TEXT or len(call.args) <= place:
            return None
        return kind, BEFORE.get(name, ""), call.args[place]

    def _class_of(self, node: ast.AST) -> str:
        while node in self._parents and not isinstance(node, ast.ClassDef):
            node = self._parents[node]
        return node.name if isinstance(node, ast.ClassDef) else ""

    def _texts(self, node: ast.expr) -> list[str | None]:
        """What an expression may say, `…` for what is filled in; None where it may be nothing."""
        if isinstance(node, ast.Name) and (given := self._assigned(node)):
            return [text for one in given for text in self._texts(one)]
        if isinstance(node, ast.IfExp):
            return [*self._texts(node.body), *self._texts(node.orelse)]
        if isinstance(node, ast.Call) and name_of(node.func) == "rstrip":
            return self._texts(cast(ast.Attribute, node.func).value)
        if isinstance(node, ast.Constant):
            return [None if node.value is None else marked(str(node.value))]
        if isinstance(node, ast.JoinedStr):
            parts = [self._part(one) for one in node.values]
            return [marked("".join(one)) for one in product(*parts)]
        return [FILLED]

    def _part(self, node: ast.expr) -> list[str]:
        """What a part of a formatted text may be: words that are chosen a little above are part of the message."""
        if isinstance(node, ast.Constant):
            return [str(node.value)]
        if isinstance(node, ast.FormattedValue) and node.conversion == -1 and node.format_spec is None:
            texts = self._texts(node.value)
            if all(text is not None and re.search(r"\w+ \w+", text) for text in texts):
                return [text for text in texts if text is not None]
        return [FILLED]

    def _assigned(self, name: ast.Name) -> list[ast.expr]:
        """What a name is given in the function around it, in the module, or if the caller gives nothing."""
        around: ast.AST = name
        while around in self._parents:
            around = self._parents[around]
            if isinstance(around, Scope) and (given := list(given_to(name.id, around))):
                return given
            if isinstance(around, ast.FunctionDef) and (default := default_of(name.id, around.args)):
                return [default]
        return []


def given_to(name: str, scope: Scope) -> Iterator[ast.expr]:
    """The values that a scope assigns to a name, without those that are made of its own."""
    for node in ast.walk(scope):  # of a module its functions, too: they pass texts to each other
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            inside = {one.id for one in ast.walk(node.value) if isinstance(one, ast.Name)}
            if any(isinstance(one, ast.Name) and one.id == name for one in targets) and name not in inside:
                yield node.value


def default_of(name: str, arguments: ast.arguments) -> ast.expr | None:
    """The text that a parameter has if the caller gives none."""
    places = zip(reversed(arguments.args), reversed(arguments.defaults), strict=False)
    defaults = {
        one.arg: value for one, value in (*places, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    }
    found = defaults.get(name)
    return found if isinstance(found, ast.Constant) and isinstance(found.value, str) and found.value else None


def marked(text: str) -> str:
    """A text on one line, with `…` for each place that is filled in later."""
    text = re.sub(r"%(?:\.\d)?[sdrfg]|\{\}", FILLED, text)
    return re.sub(r"…+", FILLED, " ".join(text.split()))
