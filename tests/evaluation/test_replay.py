"""Stored runs, run again: in their history and state, judged, compared, and gone on with after a crash."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import ModelMessage, ModelResponse, TextPart, Tool, ToolCallPart
from pydantic_ai.messages import ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from sessile import (
    ANY_USER,
    Agent,
    Context,
    MemoryStorage,
    SqliteStorage,
    Storage,
    Team,
    Usage,
    Workflow,
    session_state,
)
from sessile.errors import InvalidInputError
from sessile.evaluation import (
    Case,
    Contains,
    Exact,
    JsonFields,
    Judge,
    Matches,
    Outcome,
    Replayed,
    Report,
    Verdict,
    areplay,
    cases,
    replay,
)
from sessile.evaluation.report import Compared

looked_up: list[str] = []
seen: list[list[ModelMessage]] = []


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    looked_up.clear()
    seen.clear()
    with SqliteStorage(tmp_path / "s.db", synchronous="NORMAL") as storage:
        yield storage


def look_up(order: str) -> str:
    looked_up.append(order)
    return f"{order} is here"


def count() -> int:
    state = session_state()
    state["n"] = state.get("n", 0) + 1
    return state["n"]


def prompt_of(messages: list[ModelMessage]) -> str:
    parts = [part for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    return str(parts[-1].content)


def answering(said: str = "Answer: ", order: str = "ORD-7") -> FunctionModel:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.append(messages)
        asked = prompt_of(messages)
        results = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if asked.startswith("look") and not results:
            return ModelResponse(parts=[ToolCallPart("look_up", {"order": order})])
        if asked.startswith("count") and not results:
            return ModelResponse(parts=[ToolCallPart("count", {})])
        if asked.startswith("fail") and said != "Answer: ":
            raise RuntimeError("no answer")
        return ModelResponse(parts=[TextPart(said + (str(results[0].content) if results else asked))])

    return FunctionModel(answer)


def agent_over(storage: Storage | None, model: Any = None, name: str = "support") -> Agent[Any]:
    return Agent(model or answering(), name=name, storage=storage, tools=[look_up, count], history=10)


def asked(storage: Storage, *questions: str, session_id: str = "s") -> list[Case]:
    for question in questions:
        agent_over(storage).run(question, session_id=session_id, user_id="ada")
    looked_up.clear()
    seen.clear()
    return cases(storage, user_id=ANY_USER)


def test_history_and_state_are_as_they_were_at_that_run(storage: Storage) -> None:
    found = asked(storage, "hello", "count", "count", "bye")
    storage.rewind("s", at=1, user_id="ada")
    asked(storage, "count")
    report = replay(agent_over(storage), found, tools="log", jobs=1, experiment="e")
    assert [one.new.output for one in report.compared] == ["Answer: hello", "Answer: 1", "Answer: 2", "Answer: bye"]
    assert [prompt_of(messages[:1]) for messages in seen] == ["hello"] * 6
    by_number = {one.case.number: one.new.session_id for one in report.compared}
    third = storage.get_session(by_number[3], last_runs=9, user_id="ada")
    assert third is not None
    assert [run.input for run in third.runs] == ["hello", "count", "count"]
    assert third.forked_from == {"session_id": "s", "run": 2}
    assert third.metadata["replay"] == {"experiment": "e", "session_id": "s", "run": 3}
    assert third.state == {"n": 1}  # of the run before; what the tool has changed then is not repeated
    assert storage.get_session("s", user_id="ada").run_count == 5  # type: ignore[union-attr] (it is there)
    live = replay(agent_over(storage), found[2:3], jobs=1)
    assert storage.get_session(live.compared[0].new.session_id, user_id="ada").state == {"n": 2}  # type: ignore[union-attr]


def test_a_replay_is_no_case_of_the_next_one(storage: Storage) -> None:
    found = asked(storage, "hello", "look")
    replay(agent_over(storage), found)
    again = cases(storage, user_id=ANY_USER)
    assert [case.id for case in again] == [case.id for case in found]
    assert [case.number for case in cases(storage, user_id="ada", limit=1)] == [2]
    assert cases(storage, user_id="bob") == []


def test_tools_live_or_out_of_the_log(storage: Storage) -> None:
    found = asked(storage, "look")
    assert replay(agent_over(storage), found, tools="log").compared[0].new.output == "Answer: ORD-7 is here"
    assert looked_up == []
    other = replay(agent_over(storage, answering(order="ORD-8")), found, tools="log").compared[0].new
    assert (other.status, looked_up) == ("failed", [])
    assert "no call of look_up" in str(other.error)
    assert "ORD-8" in str(other.error)
    assert replay(agent_over(storage), found).compared[0].new.output == "Answer: ORD-7 is here"
    assert looked_up == ["ORD-7"]


def test_failures_are_counted_as_failures(storage: Storage) -> None:
    found = asked(storage, "hello", "fail")

    def raises(outcome: Outcome) -> bool:
        raise ValueError("broken")

    report = replay(agent_over(storage, answering("Answered: ")), found, evaluators=[Contains("answer")])
    first, second = report.compared
    assert (first.new.score, second.new.score, second.change) == (1.0, 0.0, "worse")
    assert (report.score, report.failures, report.passed) == (0.5, 1, 0.5)
    assert second.new.error == "RuntimeError: no answer"
    assert storage.get_run(second.new.session_id, 2, user_id="ada").rating("Contains('answer')").score == 0  # type: ignore[union-attr]
    broken = replay(agent_over(storage), found[:1], evaluators=[raises, Exact()])
    assert broken.compared[0].new.verdicts["raises"] == {
        "score": 0.0, "reason": "The evaluator failed: ValueError: broken",
    }  # fmt: skip
    assert broken.score == 0.5
    storage.delete("s", user_id="ada")
    gone = replay(agent_over(storage), found[:1], evaluators=[Exact()])
    assert (gone.score, gone.failures) == (0.0, 1)
    assert "no session 's'" in str(gone.compared[0].new.error)


def test_what_waits_for_a_decision_has_not_answered(storage: Storage) -> None:
    found = asked(storage, "look")
    careful = Agent(answering(), name="x", storage=storage, tools=[Tool(look_up, requires_approval=True), count])
    (one,) = replay(careful, found, evaluators=[Exact()]).compared
    assert (one.new.status, one.new.score, looked_up) == ("paused", 0.0, [])


def test_scores_are_feedback_on_the_new_runs(storage: Storage) -> None:
    def half(outcome: Outcome) -> Verdict:
        return Verdict(0.5, "so so", f"of {outcome.case.number}")

    async def kind(outcome: Outcome) -> str:
        return "a label"

    def several(outcome: Outcome) -> dict[str, Any]:
        return {"long": len(outcome.output) > 3, "words": 0.25}

    found = asked(storage, "hello")
    storage.rate("s", 1, correction="Answer: HELLO", source="editor", user_id="ada")
    found = cases(storage, user_id=ANY_USER)
    assert (found[0].expected, found[0].corrected) == ("Answer: HELLO", True)
    report = replay(agent_over(storage), found, evaluators=[half, kind, several, Contains()], experiment="e")
    (one,) = report.compared
    run = storage.get_run(one.new.session_id, 1, user_id="ada")
    said = {rating.source: (rating.score, rating.label, rating.comment, rating.by) for rating in run.ratings}
    assert said == {
        "half": (0.5, "so so", "of 1", "e"),
        "kind": (None, "a label", None, "e"),
        "several.long": (1.0, None, None, "e"),
        "several.words": (0.25, None, None, "e"),
        "Contains": (1.0, None, None, "e"),
    }
    assert one.new.score == pytest.approx((0.5 + 1 + 0.25 + 1) / 4)
    assert len(storage.get_run("s", 1, user_id="ada").ratings) == 1


def test_goes_on_where_a_crash_has_left_it(storage: Storage) -> None:
    found = asked(storage, "hello", "look", "bye")
    told: list[tuple[int, int]] = []
    judged: list[str] = []

    def judge(outcome: Outcome) -> bool:
        if outcome.result.session_id != "s":
            judged.append(outcome.input)
        return True

    def stops(done: int, of: int) -> None:
        told.append((done, of))
        if done == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        replay(agent_over(storage), found, evaluators=[judge], experiment="e", jobs=1, progress=stops)
    asked_before = len(seen)
    report = replay(agent_over(storage), found, evaluators=[judge], experiment="e", jobs=1)
    assert told[:2] == [(1, 3), (2, 3)]
    assert len(seen) - asked_before <= 1  # only "bye" may be left to ask
    assert sorted(judged) == ["bye", "hello", "look"]
    assert [one.new.output for one in report.compared] == ["Answer: hello", "Answer: ORD-7 is here", "Answer: bye"]
    assert storage.count_sessions(user_id=ANY_USER) == 4
    assert replay(agent_over(storage), found, evaluators=[judge], experiment="e").score == 1


def test_sessions_of_an_experiment_may_expire(storage: Storage) -> None:
    report = replay(agent_over(storage), asked(storage, "hello"), ttl=3600)
    made = storage.get_session(report.compared[0].new.session_id, user_id="ada")
    assert made is not None
    assert made.ttl == timedelta(hours=1)


async def test_teams_and_workflows_run_again_too() -> None:
    async def double(ctx: Context, number: int, by: int = 2) -> int:
        return number * by

    with MemoryStorage() as storage:
        flow = Workflow(double, name="double", storage=storage)
        await flow.arun(4, by=3, session_id="w")
        team = Team([Agent(TestModel(), name="one")], TestModel(call_tools=[]), name="crew", storage=storage)
        await team.arun("hello", session_id="t")
        (workflow_case,) = cases(storage, agent="double")
        (team_case,) = cases(storage, agent="crew")
        assert (await areplay(flow, [workflow_case], evaluators=[Exact()])).score == 1
        report = await areplay(team, [team_case], evaluators=[Exact()])
        assert (report.score, report.failures) == (1, 0)
        with pytest.raises(InvalidInputError, match="Only the tools of an agent"):
            await areplay(team, [team_case], tools="log")


def test_an_agent_of_another_storage_or_none(storage: Storage) -> None:
    found = asked(storage, "hello")
    with pytest.raises(InvalidInputError, match="no storage"):
        replay(agent_over(None), found)
    report = replay(agent_over(None), found, storage=storage)
    assert report.failures == 0
    for wrong in ({"tools": "none"}, {"jobs": 0}, {"evaluators": [3]}, {"evaluators": [Exact(), Exact()]}):
        with pytest.raises(InvalidInputError):
            replay(agent_over(storage), found, **wrong)  # type: ignore[arg-type] (what is tested)


# ---------------------------------------------------------------- evaluators


def outcome(output: Any, expected: Any = None, question: Any = "?") -> Outcome:
    case = Case("s", 1, "r", None, question, expected, False, run=None)  # type: ignore[arg-type] (not looked at)
    return Outcome(case, question, output, expected, Replayed("s", 1, "completed", output))


@pytest.mark.parametrize(
    ("evaluator", "output", "expected", "score"),
    [
        (Exact(), {"a": 1}, {"a": 1}, True),
        (Exact(), "a", "A", False),
        (Contains(), "The answer is PARIS.", "paris", True),
        (Contains("rome"), "Paris", None, False),
        (Contains("P", case_sensitive=True), "p", None, False),
        (Contains(), "anything", None, False),
        (Matches(r"ORD-\d+"), "see ORD-77", None, True),
        (Matches("^x"), {"x": 1}, None, False),
        (JsonFields("a.b", "c"), {"a": {"b": 1}, "c": 2}, {"a": {"b": 1}, "c": 3}, 0.5),
        (JsonFields("items.0"), '{"items": [1]}', {"items": [1, 2]}, 1),
        (JsonFields(), {"a": 1}, {"a": 1, "b": None}, 0.5),
        (JsonFields("a"), "no json", {"a": 1}, 0),
        (JsonFields("a"), {"x": 1}, {"y": 1}, 0),
    ],
)
def test_evaluators(evaluator: Any, output: Any, expected: Any, score: float) -> None:
    assert evaluator(outcome(output, expected)).score == score


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no regular expression"):
        Matches("(")


async def test_a_model_judges(storage: Storage) -> None:
    shown: list[str] = []

    def judging(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        shown.append(prompt_of(messages))
        (tool,) = info.output_tools
        return ModelResponse(parts=[ToolCallPart(tool.name, {"reason": "Polite.", "score": 0.75})])

    judge = Judge(FunctionModel(judging), "It is polite.", name="tone")
    verdict = await judge(outcome("Please.", "Thanks."))
    assert (verdict.score, verdict.reason) == (0.75, "Polite.")
    assert "<answer>\nPlease.\n</answer>" in shown[0]
    assert "<expected>\nThanks.\n</expected>" in shown[0]
    report = await areplay(agent_over(storage), asked_in(storage), evaluators=[judge])
    assert report.compared[0].new.verdicts == {"tone": {"score": 0.75, "reason": "Polite."}}


def asked_in(storage: Storage) -> list[Case]:
    storage.add_run("s", input="hello", output="Hello.", user_id="ada", agent="support")
    return cases(storage, user_id=ANY_USER)


# ---------------------------------------------------------------- reports

EVIL = '<script>alert(1)</script>|x|\n# head\x1b[2J`_*![](http://x)"'


def report_of() -> Report:
    def case(number: int, question: str) -> Case:
        return Case("s", number, f"r{number}", None, question, "x", False, run=None)  # type: ignore[arg-type] (not looked at)

    def came(output: str, score: float, **more: Any) -> Replayed:
        return Replayed("s", 1, "completed", output, verdicts={"judge": {"score": score, "reason": EVIL}}, **more)

    figures = {"seconds": 2.0, "cost": Decimal("0.25"), "tokens": 10}
    return Report("e", [
        Compared(case(1, "one"), came("old", 0.25, **figures), came("new", 1.0, **figures)),
        Compared(case(2, EVIL), came(EVIL, 0.5, **figures), came(EVIL, 0.25, seconds=4.0, cost=Decimal(1), tokens=30)),
        Compared(case(3, "three"), came("x", 1.0, **figures), Replayed("s", 3, "failed", error="E: broken")),
        Compared(case(4, "four"), came("x", 1.0, **figures), came("y", 1.0, **figures)),
    ])  # fmt: skip


def test_a_report_says_what_got_better_and_worse() -> None:
    report = report_of()
    assert report.changes() == {"better": 1, "worse": 2, "same": 1}
    assert report.score == pytest.approx((1 + 0.25 + 0 + 1) / 4)
    assert report.falls_under(0.6)
    assert not report.falls_under(0.5625)
    data = report.to_json()
    assert data["totals"]["score"] == pytest.approx([2.75 / 4, 2.25 / 4])
    assert data["totals"]["failed"] == [0, 1]
    assert data["totals"]["cost ($)"] == ["1.00", None]  # of the one that failed nobody knows
    assert data["totals"]["tokens"] == [40, 50]
    assert [case["change"] for case in data["cases"]] == ["better", "worse", "worse", "same"]
    json.dumps(data)
    assert Report("e", []).falls_under(1) is False
    assert Report("e", []).to_json()["totals"]["score"] == [None, None]


def test_what_was_stored_does_nothing_in_a_report() -> None:
    report = report_of()
    text, markdown, page = report.text(), report.markdown(), report.html()
    assert "4 cases: 1 better, 2 worse, 1 same; 1 failed" in text
    assert "\x1b" not in text + markdown
    assert "worse: s run 3: three\n  then (1): x\n  now (0): (failed) E: broken" in text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    rows = [line for line in markdown.splitlines() if line.startswith("| s\\#")]
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 16 for row in rows)
    assert "![](" not in markdown


def test_usage_of_a_run_is_in_the_report(storage: Storage) -> None:
    used = Usage(1, 10, 5, cost=Decimal("0.002"))
    storage.add_run("s", input="hello", output="Hello.", user_id="ada", agent="support", usage=used)
    (one,) = replay(agent_over(storage), cases(storage, user_id="ada")).compared
    assert (one.old.tokens, one.old.cost) == (15, Decimal("0.002"))
    assert one.new.cost is None  # this model has no price
    assert one.new.tokens > 0
    assert one.new.score is None
