"""What holds for all integrations: ids that do not meet, and one line about what is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest
from tests.frameworks.helpers import ROOT, program

import sessile
from sessile.integrations import ids
from sessile.transcripts.transcript import transcript

EXTRAS = {"openai_agents": "openai-agents", "langgraph": "langgraph", "google_adk": "google-adk", "agno": "agno"}


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_framework_is_one_clear_line(module: str) -> None:
    blocked = {"openai_agents": "agents", "langgraph": "langgraph", "google_adk": "google.adk", "agno": "agno"}[module]
    code = f"""
import sys
sys.modules[{blocked!r}] = None
try:
    import sessile.integrations.{module}
except ImportError as error:
    print(str(error).replace(chr(10), " "))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f'pip install "sessile[{EXTRAS[module]}]"' in done.stdout
    assert f"\n{EXTRAS[module]} = [" in (ROOT / "pyproject.toml").read_text("utf-8")


def test_a_version_that_lacks_something_is_named() -> None:
    """As an older or newer release of Pydantic AI might, which is installed here."""
    code = """
import pydantic_ai.conversation_store as theirs
del theirs.ConversationConflict
try:
    import sessile.integrations.pydantic_ai
except ImportError as error:
    print(str(error).replace(chr(10), " "))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"cannot use version {version('pydantic-ai-slim')} of the package" in done.stdout
    assert "ConversationConflict" in done.stdout


def test_adapters_are_short_and_leaves() -> None:
    """What they import of each other, the import linter checks."""
    for module in (*EXTRAS, "pydantic_ai"):
        text = (ROOT / "src/sessile/integrations" / f"{module}.py").read_text("utf-8")
        assert len(text.splitlines()) <= 400, module
        imported = [line for line in text.splitlines() if line.startswith("from ..")]
        allowed = ("from ..storage.extending import", "from ..errors import")
        assert all(line.startswith(allowed) for line in imported), module


def test_ids_do_not_meet() -> None:
    given = [
        ("adk", "a", "b", "c"),
        ("adk", "a:b", "c", ""),
        ("adk", "a", "b:c", ""),
        ("adk", "a%3Ab", "c", ""),
        ("adk", "a", "b", ":c"),
        ("adk", "a", ":b", "c"),
        ("openai", "a:b:c"),
        ("openai", "x" * 300),
        ("openai", "x" * 301),
        ("openai", "a\0b"),
        ("openai", "a\udc00"),
        ("openai", ""),
        ("openai", f"~{ids.digest('x' * 300)}"),
        ("agno", "a:b:c"),
        ("langgraph", "1:n"),
        ("langgraph-sub", "1", "n"),
        ("langgraph-sub", "1:n", ""),
    ]
    made = [ids.stored_id(*one) for one in given]
    assert len(set(made)) == len(given)
    assert made[0] == "adk:a:b:c"
    with sessile.MemoryStorage() as storage:
        for one in made:
            storage.create_session(one)
            storage.for_user("ada").create_session(one)
    assert ids.short("") == f"~{ids.digest('')}"
    assert ids.short(ids.short("")) != ids.short(""), "nobody is another one by saying what stands in that one's place"


def test_the_page_lists_the_ids() -> None:
    page = (ROOT / "docs/integrations.md").read_text("utf-8")
    adk = ("adk:", "adk-user:", "adk-app:", "adk-artifact:", "adk-user-artifact:", "adk-memory:")
    for word in ("openai:", "langgraph:", "langgraph-sub:", *adk, "agno:", "pydantic-ai:"):
        assert f"`{word}" in page
        assert word in (ids.__doc__ or "")


def test_frameworks_share_a_storage(sqlite_url: str) -> None:
    """The same id in each, in one file."""
    assert program("openai_agents", "openai_agents_work.py", sqlite_url, "talk", "s1", "Paris?") == ["3 items"]
    assert program("agno", "agno_work.py", sqlite_url, "talk", "s1", "Paris?") == ["1 messages"]
    assert program("google_adk", "google_adk_work.py", sqlite_url, "talk", "s1", "Paris?") == ["1 events"]
    with sessile.open(sqlite_url) as storage:
        found = sorted(one.session_id for one in storage.sessions(user_id=sessile.ANY_USER))
        assert [one for one in found if one.endswith("s1")] == ["adk:app:ada:s1", "agno:s1", "openai:s1"]


ITEMS = [
    {"role": "user", "content": "Paris?"},
    {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"city": "Paris"}'},
    {"type": "function_call_output", "call_id": "c1", "output": "Sun."},
]
EVENTS = [
    {"author": "user", "id": "e1", "content": {"role": "user", "parts": [{"text": "Paris?"}]}},
    {
        "author": "guide",
        "content": {"parts": [{"function_call": {"id": "c1", "name": "weather", "args": {"city": "Paris"}}}]},
    },
    {
        "author": "guide",
        "content": {"role": "user", "parts": [{"function_response": {"id": "c1", "name": "weather", "response": {}}}]},
    },
    {"author": "guide", "content": {"parts": [{"text": "Hm.", "thought": True}, {"text": "Sun."}]}, "actions": {}},
    {"author": "guide", "actions": {"state_delta": {"a": 1}}},
]


def test_what_frameworks_have_said_is_shown_in_words() -> None:
    with sessile.MemoryStorage() as storage:
        for format_, messages in (("openai", ITEMS), ("google-adk", EVENTS)):
            storage.add_run("s1", input="Paris?", messages=messages, format=format_)
        first, second = (list(transcript(run)) for run in storage.runs("s1", last=2))
        assert [(line.who, line.text) for line in first if line.who] == [
            ("user", "Paris?"),
            ("tool weather", '{"city": "Paris"} → Sun.'),
        ]
        assert [(line.who, line.text) for line in second if line.who] == [
            ("user", "Paris?"),
            ("tool weather", '{"city": "Paris"} → {}'),
            ("agent thinks", "Hm."),
            ("agent", "Sun."),
            ("message", '{"author": "guide", "actions": {"state_delta": {"a": 1}}}'),
        ]
