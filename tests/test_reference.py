"""What a generator of API references, `help()` and an editor show of the public classes, without running anything."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import pytest

import sessile.errors
from sessile import Agent, MemoryStorage, Team, Workflow

SOURCES = Path(sessile.__file__).parents[1]
CLASSES = ("Storage", "Agent", "Team", "Workflow", "AgentSession")

POINTER = re.compile(r"see `(Agent|Storage)\.(\w+)`")
"""How a method of one session names the method of all sessions, whose text says the rest."""

RAISES_NOTHING = {"Storage.stats", "Storage.close"}
"""Methods that raise nothing which a caller could expect."""


RUNS = """
run arun stream astream resume aresume
"""

AGENT = f"""
{RUNS} stream_resume astream_resume print_response aprint_response session for_user
start astart attach
name description storage session_id durability on_busy queue_timeout pydantic_agent review
"""

READS = """
get_session aget_session sessions asessions count_sessions acount_sessions changed_sessions achanged_sessions
waiting awaiting claim aclaim erase_run aerase_run
get_run aget_run runs aruns messages amessages entries aentries tail atail branches abranches media amedia
follow afollow verify averify waiting awaiting scope scopes ascopes
memories all_memories aall_memories files
"""

WRITES = """
create_session acreate_session add_run aadd_run amend_run aamend_run cancel_run acancel_run update_state aupdate_state
set_metadata aset_metadata rename arename set_ttl aset_ttl fork afork rewind arewind delete adelete
delete_user adelete_user sweep asweep rate arate decide adecide erase_run aerase_run claim aclaim
hold ahold release arelease grant agrant revoke arevoke grants agrants
"""

PUBLIC = {
    "Agent": AGENT,
    "Team": f"{AGENT} max_handoffs members member_history mode shared_answers",
    "Workflow": f"""
        {RUNS} send_event asend_event print_run aprint_run journal ajournal mermaid for_user
        name function steps storage timeout
    """,
    "Storage": f"""
        {READS} {WRITES} from_url for_user index setup asetup migrate amigrate close aclose
        settings capabilities stats warnings awarnings
    """,
    "AgentSession": f"""
        {RUNS} cancel acancel agent storage session_id user_id
        get_session aget_session state astate summary asummary runs aruns messages amessages pending apending
        branches abranches update_state aupdate_state rename arename fork afork rewind arewind delete adelete
    """,
}
"""All that has no underscore: what completion offers, and what programs will hold on to. It changes on purpose only."""


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_public_is_what_was_meant_to_be(name: str) -> None:
    with MemoryStorage() as storage:
        agent = Agent("test", name="one", storage=storage)
        made: dict[str, Any] = {
            "Agent": agent,
            "Team": Team([agent], "test"),
            "Workflow": Workflow(lambda ctx: None, name="flow"),
            "Storage": storage,
            "AgentSession": agent.session("s"),
        }
        assert {one for one in dir(made[name]) if not one.startswith("_")} == set(PUBLIC[name].split())


@pytest.fixture(scope="module")
def package() -> Any:
    """The package as griffe reads it, which is what mkdocstrings shows."""
    loader = griffe.GriffeLoader(search_paths=[SOURCES])
    package = loader.load("sessile", submodules=True)
    loader.resolve_aliases(external=False)
    return package


def class_of(package: Any, name: str) -> Any:
    return package[f"{getattr(sessile, name).__module__.removeprefix('sessile.')}.{name}"]


def methods_of(found: Any) -> Iterator[Any]:
    for name, member in sorted(found.all_members.items()):
        if not name.startswith("_") and member.is_function and "property" not in member.labels:
            yield member


def sections(member: Any, kind: griffe.DocstringSectionKind) -> list[Any]:
    return [section for section in member.docstring.parse("google") if section.kind is kind]


def is_twin(found: Any, method: Any) -> bool:
    """Whether it is the asynchronous version of another method."""
    return method.name.startswith("a") and method.name[1:] in found.all_members


def problems(found: Any, method: Any) -> Iterator[str]:
    """What a reader would miss in the method's text and signature."""
    if method.docstring is None or not method.docstring.value.strip():
        yield "has no text"
        return
    given = [one for one in method.parameters if one.name not in ("self", "cls")]
    yield from (f"does not say what type {one.name} has" for one in given if one.annotation is None)
    if method.returns is None:
        yield "does not say what it returns"
    if is_twin(found, method):
        if f"`{method.name[1:]}`" not in method.docstring.value:
            yield f"does not name {method.name[1:]}, whose text says the rest"
        return
    if POINTER.search(method.docstring.value) and found.name == "AgentSession":
        return
    told = {name.strip("*") for section in sections(method, griffe.DocstringSectionKind.parameters)
            for one in section.value for name in one.name.split(", ")}  # fmt: skip
    yield from (f"does not say what {one.name} is" for one in given if one.name.strip("*") not in told)
    raised = sections(method, griffe.DocstringSectionKind.raises)
    if not raised and f"{found.name}.{method.name}" not in RAISES_NOTHING:
        yield "does not say what it raises"


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_has_text_parameters_and_errors(package: Any, name: str) -> None:
    found = class_of(package, name)
    wrong = [f"{name}.{one.name} {problem}" for one in methods_of(found) for problem in problems(found, one)]
    assert wrong == []
    assert len(list(methods_of(found))) >= 5


@pytest.mark.parametrize("name", CLASSES)
def test_nothing_is_public_that_the_reference_does_not_see_as_a_method(package: Any, name: str) -> None:
    """What is made at run time, by a function that returns methods, is an attribute without a text there."""
    cls, found = getattr(sessile, name), class_of(package, name)
    seen = {one.name for one in methods_of(found)}
    made = {one for one, _ in inspect.getmembers(cls, callable) if not one.startswith("_")}
    assert made - seen == set()
    for one in seen:
        assert inspect.getdoc(getattr(cls, one)), one


def test_errors_that_are_named_are_there(package: Any) -> None:
    names = {name for name in vars(sessile.errors) if name.endswith("Error")} | {"Exception"}
    for name in CLASSES:
        for method in methods_of(class_of(package, name)):
            for section in sections(method, griffe.DocstringSectionKind.raises):
                for one in section.value:
                    assert str(one.annotation) in names, f"{name}.{method.name}"


def test_methods_that_are_pointed_to_are_there(package: Any) -> None:
    found = class_of(package, "AgentSession")
    pointers = [POINTER.search(one.docstring.value) for one in methods_of(found) if not is_twin(found, one)]
    for pointer in pointers:
        assert pointer is not None
        assert pointer[2] in {one.name for one in methods_of(class_of(package, pointer[1]))}
