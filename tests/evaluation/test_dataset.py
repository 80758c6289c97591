"""Data sets in the files of pydantic_evals: written without it, and read by it, in an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sessile import MemoryStorage
from sessile.errors import InvalidInputError
from sessile.evaluation import Dataset, cases

PINNED = ("pydantic-evals==2.62.0", "pyyaml==6.0.4", "logfire-api==5.6.0")
"""The newest release. It pins an older pydantic-ai-slim than ours, so it is installed without dependencies."""

ODD = [
    'say "no": \\ {x}: - # & * ! | > % @ `',
    "\x00\x1b\x7f\x85\u2028\ufeff\ud800\n\ttwo",
    "日本 🦪",
    "no",
    "",
    " ",
    "1e22",
]
VALUES = [1e22, 1.5e-300, 10**30, -0.0, True, None, {}, [], {"no": 1, "": [[], [1, [2]], {"a": {"b": []}}]}]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path with pydantic_evals on it. It is kept from one time to the next."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not there to install pydantic_evals with")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sessile-tests"
    target = root / "_".join(one.replace("==", "-") for one in PINNED)
    if not target.exists():
        made = tmp_path_factory.mktemp("evals") / "made"
        command = [uv, "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target", str(made)]
        done = subprocess.run([*command, *PINNED], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"pydantic_evals cannot be installed: {done.stderr[-200:]}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, target, dirs_exist_ok=True)
    return str(target)


@pytest.fixture
def dataset() -> Dataset:
    with MemoryStorage() as storage:
        for text in ODD:
            storage.add_run("s\n1", input=text, output=text, user_id="ada", agent="support")
        for value in VALUES:
            storage.add_run("s2", input={"value": value}, output=[value, {"deep": [value]}], agent="support")
        found = [*cases(storage, user_id="ada"), *cases(storage)]
    return Dataset('odd: "name"', found, ["EqualsExpected", {"Contains": {"value": "x", "evaluation_name": "has x"}}])


def test_the_text_is_json_where_it_says_so(dataset: Dataset) -> None:
    read = json.loads(dataset.to_text("json"))
    assert read == dataset.to_json()
    first = read["cases"][0]
    assert first["name"].startswith("s\n1#1:")
    assert first["metadata"]["run_id"] == dataset.cases[0].run_id
    assert (first["inputs"], first["expected_output"]) == (ODD[0], ODD[0])


READS = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pydantic_evals import Dataset
from typing import Any
for path in sys.argv[1:]:
    found = Dataset[Any, Any, Any].from_file(path)
    print(json.dumps([found.name, [[c.name, c.inputs, c.expected_output, c.metadata] for c in found.cases],
                      [type(e).__name__ for e in found.evaluators]]))
"""


def test_pydantic_evals_reads_what_is_written(dataset: Dataset, library: str, tmp_path: Path) -> None:
    paths = [tmp_path / "d.yaml", tmp_path / "d.json"]
    dataset.cases = [one for one in dataset.cases if "\ud800" not in str(one.input)]  # which its own parser refuses
    for path in paths:
        dataset.to_file(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.json", "d.yaml"]
    done = subprocess.run(
        [sys.executable, "-c", READS, *map(str, paths)],
        env={**os.environ, "PYTHONPATH": library},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = dataset.to_json()
    for line in done.stdout.splitlines():
        name, found, evaluators = json.loads(line)
        assert name == wanted["name"]
        assert evaluators == ["EqualsExpected", "Contains"]
        assert found == [
            [one["name"], one["inputs"], one["expected_output"], one["metadata"]] for one in wanted["cases"]
        ]


JUDGES = """
import asyncio, warnings
warnings.simplefilter("ignore")
from dataclasses import dataclass
from pydantic_evals.evaluators import Contains, EqualsExpected, EvaluationReason, Evaluator
from sessile import Agent, MemoryStorage
from sessile.evaluation import cases, replay

@dataclass
class Own(Evaluator):
    def evaluate(self, ctx):
        return {"long": EvaluationReason(value=0.5, reason=f"{ctx.inputs} {ctx.metadata['run']}"), "label": "fine"}

with MemoryStorage() as storage:
    agent = Agent("test", name="a", storage=storage)
    agent.run("hello", session_id="s")
    report = replay(agent, cases(storage), evaluators=[EqualsExpected(), Contains("nothing"), Own()])
    print(report.compared[0].new.verdicts)
"""


def test_its_evaluators_judge(library: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", JUDGES], env={**os.environ, "PYTHONPATH": library}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = eval(done.stdout)
    assert said["EqualsExpected"] == {"score": 1.0}
    assert said["Contains"]["score"] == 0.0
    assert "nothing" in said["Contains"]["reason"]
    assert said["Own.long"] == {"score": 0.5, "reason": "hello 1"}
    assert said["Own.label"] == {"label": "fine"}


def test_a_name_that_says_nothing_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"\.yaml or \.json"):
        dataset.to_file(tmp_path / "d.txt")
    with pytest.raises(InvalidInputError):
        dataset.to_text("toml")  # type: ignore[arg-type] (what is tested)
