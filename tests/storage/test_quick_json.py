"""Bodies of commits and heads by a quicker library: the same values, and the same refusals, as the standard one's."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pydantic_core
import pytest

from sessile import MemoryStorage
from sessile.errors import CorruptDataError
from sessile.storage import quick_json
from sessile.storage.encoding import MAX_DEPTH, check_json, decode, encode, encode_body
from sessile.testing import Scale

assert pydantic_core, "imported: so it is used from here on"

LEAVES: list[Any] = [
    *(None, True, False, 0, -1, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**400, 10**4200, 0.0, -0.0, 1e16, 1e-7),
    *(5e-324, 0.1, 1.7976931348623157e308, 123456789.123456789, "", "a", "NaN", "Infinity", "-Infinity", "\ufeff"),
    *("\ud800", "\udc00\ud800", "é", "\U0001f600", '"\\/\b\f\n\r\t', "x" * 5000, "1e5", "\0\x1f\x7f\u2028"),
]
TEXTS = (
    *('{"a":1,"a":2,"b":3,"a":4}', "-0", "-0.0", "1e400", "-1e400", "1E5", "1e-400", "0e5", "[1.0]", "NaN"),
    *("-Infinity", "[Infinity]", "-NaN", "nan", "01", "1.", ".5", "+1", "-", "1_0", "[1,]", '{"a":1,}', "[1] x"),
    *(" [1]\n", "\ufeff[1]", "", "tru", '"\\ud800"', '"\\ud83d\\ude00"', '"\\uD800\\uD800"', '"\\x41"', '"\t"'),
    *('"\x7f"', '"\\u0000"', '"\\/"', "9" * 4300, "9" * 4301, "-" + "9" * 4301, "0.10000000000000000555111512312578"),
    *("\ud800", "[" * 150 + "]" * 150, "[" * 201 + "]" * 201, "[" * 100_000 + "]" * 100_000),
    '{"a":' * 190 + "1" + "}" * 190,
)


def value_of(choices: random.Random, depth: int = 0) -> Any:
    what = choices.random()
    if depth > 5 or what < 0.4:
        return choices.choice(LEAVES)
    if what < 0.5:
        return choices.uniform(-1, 1) * 10.0 ** choices.randint(-320, 300)
    if what < 0.7:
        return [value_of(choices, depth + 1) for _ in range(choices.randrange(5))]
    names = [str(choices.choice(LEAVES))[:20] for _ in range(choices.randrange(5))]
    return {name: value_of(choices, depth + 1) for name in names}


def outcome(read: Any, text: str) -> str:
    try:
        return repr(read(text))
    except (CorruptDataError, ValueError, RecursionError):
        return "refused"


def test_values_come_back_as_from_the_standard_library(scale: Scale) -> None:
    choices = random.Random(scale.seed)
    for _ in range(1500):
        value = value_of(choices)
        check_json(value, "value")
        text = encode_body(value)
        text.encode()  # every database can hold it
        assert repr(json.loads(text)) == repr(decode(text)) == repr(decode(encode(value))) == repr(value)


def test_texts_are_read_as_by_the_standard_library(scale: Scale) -> None:
    """Also those that nobody has written, or that were damaged."""
    choices = random.Random(scale.seed)
    texts = list(TEXTS)
    for _ in range(1500):
        text = encode(value_of(choices))
        if text:
            place = choices.randrange(len(text))
            put = choices.choice(["", '"', "\\", "{", "}", "[", "]", ",", ":", "0", "-", ".", "e", "\0", "\ud800", "u"])
            texts.append(text[:place] + put + text[place + choices.randrange(3) :])
    for text in texts:
        assert outcome(decode, text) == outcome(json.loads, text), text[:200]


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_what_is_no_json_is_never_written(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_body(value)


def test_values_as_deep_as_they_may_be() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = {"a": [value]} if isinstance(value, dict) else {"a": value}
    assert decode(encode_body(value)) == value


def test_a_process_without_it_loads_it_when_that_pays() -> None:
    """And not before: a short one, a command for example, is not made to wait for it."""
    code = f"""
import sys
from sessile.drivers.memory import MemoryStorage
with MemoryStorage() as storage:
    storage.add_run("s", input=[1, 1e-7], output="one")
    assert "pydantic_core" not in sys.modules
    while "pydantic_core" not in sys.modules:
        storage.update_state("s", {{"n": 1}})
        storage.update_state("s", {{"n": 2}})
        assert storage.get_session("s").revision < {quick_json.WORTH_LOADING}
    assert storage.get_run("s", 1).input == [1, 1e-7]
    assert storage.verify("s") > 1
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_log_that_both_have_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with MemoryStorage() as storage:
        for number in range(4):
            monkeypatch.setattr(quick_json, "dumps", lambda value: None) if number % 2 else monkeypatch.undo()
            storage.add_run("s", input={"e": 1e-7, "n": number}, output="NaN", state={"e": 1e22 + number})
        assert [run.input["n"] for run in storage.runs("s")] == [0, 1, 2, 3]
        assert storage.verify("s") == 4


def test_a_fork_waits_for_the_first_use() -> None:
    """Threads use it for the first time while another one forks: what is half made then stays so in the child."""
    code = (
        "import os, sys, threading, types, pydantic_core\n"
        "begun, go, used = threading.Event(), threading.Event(), []\n"
        "def to_json(value):\n"
        "    begun.set()\n"
        "    go.wait()\n"
        "    used.append(value)\n"
        "    return pydantic_core.to_json(value)\n"
        "stand_in = types.SimpleNamespace(to_json=to_json, from_json=pydantic_core.from_json)\n"
        "sys.modules['pydantic_core'] = stand_in\n"
        "from sessile.storage import quick_json\n"
        "threading.Thread(target=quick_json.dumps, args=({},)).start()\n"
        "begun.wait()\n"
        "threading.Timer(0.2, go.set).start()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if used and quick_json.dumps([1]) == '[1]' else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0
