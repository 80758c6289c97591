"""Sessions as plain Python data, slow and obvious: what every storage must agree with.

Nothing here is shared with the code that it checks: branches are chains of parents, states are kept whole.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, replace
from typing import Any

JsonObject = dict[str, Any]


def text_of(value: Any) -> str:
    """JSON text that tells apart what `==` does not (`1`, `1.0`, `True`), whatever the order of keys."""
    return json.dumps(value, sort_keys=True)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result: JsonObject = dict(target) if isinstance(target, dict) else {}  # pyright: ignore[reportUnknownArgumentType]
    for key, value in patch.items():  # pyright: ignore[reportUnknownVariableType]
        if value is None:
            result.pop(str(key), None)  # pyright: ignore[reportUnknownArgumentType]
        else:
            result[str(key)] = merged(result.get(str(key)), value)  # pyright: ignore[reportUnknownArgumentType]
    return result


@dataclass
class ModelRun:
    """A run: what was given, the run before it on its branch, and the state before and after it."""

    number: int
    parent: int
    input: Any
    status: str
    texts: list[str]
    state_before: JsonObject
    state_after: JsonObject


@dataclass
class ModelSession:
    """A session. `revision` counts its commits; `tip` is the last run of the current branch, 0 if it is empty."""

    session_id: str
    user_id: str | None = None
    name: str | None = None
    state: JsonObject = field(default_factory=dict[str, Any])
    metadata: JsonObject = field(default_factory=dict[str, Any])
    revision: int = 0
    tip: int = 0
    tokens: int = 0
    status: str | None = None
    runs: list[ModelRun] = field(default_factory=list[ModelRun])
    forked_from: JsonObject | None = None
    expires: bool = False

    def path(self, tip: int | None = None) -> list[ModelRun]:
        """The runs of the branch that ends at a run, oldest first."""
        found: list[ModelRun] = []
        number = self.tip if tip is None else tip
        while number:
            run = self.runs[number - 1]
            found.append(run)
            number = run.parent
        return found[::-1]

    def branches(self) -> list[tuple[int, int, bool]]:
        """Tip, length and whether it is the current one, of every branch, by tip."""
        parents = {run.parent for run in self.runs}
        tips = {run.number for run in self.runs if run.number not in parents} | {self.tip}
        return [(tip, len(self.path(tip)), tip == self.tip) for tip in sorted(tips)]

    def state_after(self, run: int) -> JsonObject:
        """The state as it was after a run; 0: before the first."""
        if run:
            return self.runs[run - 1].state_after
        return self.runs[0].state_before if self.runs else self.state

    # ------------------------------------------------------------ changes

    def add_run(self, value: Any, status: str, texts: list[str], patch: JsonObject, tokens: int) -> None:
        """A run at the end of the current branch."""
        before, self.state = self.state, merged(self.state, patch)
        number = len(self.runs) + 1
        self.runs.append(ModelRun(number, self.tip, value, status, texts, before, copy.deepcopy(self.state)))
        self.tip, self.status = number, status
        self.tokens += tokens
        self.revision += 1

    def update_state(self, patch: JsonObject) -> None:
        """A change of the state; one that changes nothing is no commit."""
        before = text_of(self.state)
        self.state = merged(self.state, patch)
        self.revision += text_of(self.state) != before

    def set_metadata(self, patch: JsonObject) -> None:
        """A change of the metadata; one that changes nothing is no commit."""
        before = text_of(self.metadata)
        self.metadata = merged(self.metadata, patch)
        self.revision += text_of(self.metadata) != before

    def rewind(self, at: int, *, restore: bool) -> None:
        """Run `at` becomes the last one of the current branch."""
        if restore:
            self.state = copy.deepcopy(self.state_after(at))
        self.tip = at
        self.revision += 1

    def fork(self, at: int, session_id: str) -> ModelSession:
        """A session of its own with the runs up to `at`."""
        made = ModelSession(session_id, self.user_id, self.name, metadata=copy.deepcopy(self.metadata))
        made.forked_from = {"session_id": self.session_id, "run": at}
        made.expires = self.expires
        for number, run in enumerate(self.path(at), 1):
            made.runs.append(replace(run, number=number, parent=number - 1))
            made.status = run.status
        made.tip = len(made.runs)
        made.state = copy.deepcopy(self.state_after(at))
        return made
