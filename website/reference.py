"""The pages about the Python interface, from the docstrings and signatures of what is public."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, NamedTuple

import griffe

import sessile
from sessile import errors


class Group(NamedTuple):
    """One page: its title, what stands first, and what is on it, as `module:name`."""

    title: str
    text: str
    names: tuple[str, ...]


def _of(module: str, names: str) -> tuple[str, ...]:
    return tuple(f"{module}:{name}" for name in names.split())


GROUPS: dict[str, Group] = {
    "reference/agents": Group(
        "Agents and teams",
        "What `sessile` and `sessile.agents` export.",
        (
            *_of("sessile", "Agent Team AgentSession RunResult LastRuns TokenBudget RollingSummary SessionCapability"),
            *_of("sessile", "Auto Relevant Budget Shortened PastSessions Memory UserMemory"),
            *_of("sessile.agents", "AllRuns CurrentSession Window Handoff TeamEvent TeamRequest from_openai to_openai"),
            *_of("sessile", "session_state user_state app_state temp_state current_session session_files ask_person"),
        ),
    ),
    "reference/workflows": Group(
        "Workflows",
        "What `sessile` and `sessile.workflows` export.",
        (
            *_of("sessile", "Workflow workflow step Context SyncContext WorkflowResult Retry current_step"),
            *_of("sessile", "Step Parallel Condition Loop Router Wait"),
            *_of("sessile.workflows", "CurrentStep EarlierRun StepRecord WorkflowEvent register_value_type"),
        ),
    ),
    "reference/storage": Group(
        "Storage",
        "All storages have these methods. [Options](options.md) has the arguments of each database.",
        _of("sessile", "Storage open Index"),
    ),
    "reference/records": Group(
        "Records",
        "What a storage returns.",
        (
            *_of("sessile", "Session Run Message Usage Rating Page PartialList Waiting SessionFile Grant"),
            *_of("sessile.records", "ANY_USER Entry Branch"),
        ),
    ),
    "reference/more": Group(
        "Evaluation, transfer, retention, encryption, telemetry",
        "What the packages beside the core export.",
        (
            *_of("sessile.evaluation", "cases replay Exact Contains Matches JsonFields Judge"),
            *_of("sessile.insight", "Examples examples existing_index RunFilters UsageTable"),
            *_of("sessile.transfer", "copy back_up restore export_archive import_archive import_conversations give"),
            *_of("sessile.retention", "Policy retain erase_user"),
            *_of("sessile.encryption", "EncryptedStorage LocalKeys AwsKms GcpKms SqliteKeyStore"),
            *_of("sessile.telemetry", "instrument observe_usage to_otel"),
            *_of("sessile.testing", "DriverConformance check_driver"),
        ),
    ),
}


def found(path: str) -> Any | None:
    """What a `module:name` stands for; None if this version has no such thing."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name, None)


def page(name: str) -> str:
    """The Markdown of one page."""
    group = GROUPS[name]
    parts = [f"# {group.title}", group.text]
    for path in group.names:
        module, _, one = path.partition(":")
        thing = found(path)
        if thing is not None:
            parts.append(f"## {one}")
            parts.append(f"`{module}.{one}`")
            parts.extend(_member(one, thing))
    return "\n\n".join(parts) + "\n"


def error_page() -> str:
    """All errors: when each is raised, and what it is a kind of."""
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.SessileError)]
    rows = [
        "# Errors",
        "Kinds of `sessile.errors.SessileError`. [Troubleshooting](../troubleshooting.md) says what to do.",
        "| error | a kind of | when |\n|---|---|---|",
    ]
    for one in classes:
        first = (inspect.getdoc(one) or "").partition("\n\n")[0]
        rows[-1] += f"\n| `{one.__name__}` | `{one.__bases__[0].__name__}` | {cell(first)} |"
    for one in classes:
        rows += [f"## {one.__name__}", *_docstring(inspect.getdoc(one) or "")]
    return "\n\n".join(rows) + "\n"


# ---------------------------------------------------------------- one class, one function


def _member(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        return _class(thing)
    if callable(thing):
        return _function(name, thing)
    return _docstring(inspect.getdoc(type(thing)) or "")


def _class(cls: type) -> Iterator[str]:
    if not dataclasses.is_dataclass(cls) or not getattr(cls, "__init__", None):
        yield _signature(cls.__name__, cls)
    yield from _docstring(inspect.getdoc(cls) or "")
    yield from _fields(cls)
    members = {one: value for one, value in inspect.getmembers(cls) if not one.startswith("_")}
    for name in sorted(members, key=lambda one: (one.removeprefix("a") if _twin(one, members) else one, one)):
        value = members[name]
        if isinstance(value, property):
            yield f"### {cls.__name__}.{name}"
            yield from _docstring(inspect.getdoc(value) or "")
        elif _is_method(value) and not _twin(name, members) and not name.startswith("test_"):
            yield f"### {cls.__name__}.{name}"
            yield from _function(name, value)
            if f"a{name}" in members:
                yield f"Asynchronous: `await {_object(cls)}.a{name}(…)`, with the same arguments, result and errors."


def _is_method(value: Any) -> bool:
    """Whether it is a method of this package's, and not one of a class that another library brings."""
    if not callable(value) or inspect.isclass(value):
        return False
    return str(getattr(inspect.unwrap(value), "__module__", "")).startswith("sessile")


def _object(cls: type) -> str:
    return cls.__name__.lower().removeprefix("agent") or "agent"


def _twin(name: str, members: dict[str, Any]) -> bool:
    """Whether it is the asynchronous version of another method, which has all the text."""
    return name.startswith("a") and name[1:] in members


def _fields(cls: type) -> Iterator[str]:
    if not dataclasses.is_dataclass(cls):
        return
    told = _sections(inspect.getdoc(cls) or "", "attributes")
    described = {name for section in told for one in section.value for name in names_of(one)}
    rest = [one for one in dataclasses.fields(cls) if not one.name.startswith("_") and one.name not in described]
    if rest:
        rows = [f"| `{one.name}` | `{cell(type_text(one.type))}` |" for one in rest]
        yield "| field | type |\n|---|---|\n" + "\n".join(rows)


def _function(name: str, function: Any) -> Iterator[str]:
    yield _signature(name, function)
    yield from _docstring(inspect.getdoc(function) or "")


def _signature(name: str, thing: Any) -> str:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return f"```python\n{name}(…)\n```"
    given = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    lines, star = [], False
    for one in given:
        if one.kind is one.KEYWORD_ONLY and not star:
            lines.append("*")
            star = True
        star = star or one.kind is one.VAR_POSITIONAL
        lines.append(_parameter(one))
    silent = signature.return_annotation is signature.empty or inspect.isclass(thing)
    result = "" if silent else f" -> {type_text(signature.return_annotation)}"
    flat = f"{name}({', '.join(lines)}){result}"
    if len(flat) > 88:
        flat = f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f"){result}"
    return f"```python\n{flat}\n```"


def _parameter(one: inspect.Parameter) -> str:
    mark = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
    annotation = "" if one.annotation is one.empty else f": {type_text(one.annotation)}"
    default = "" if one.default is one.empty else f" = {value_text(one.default)}"
    return f"{mark}{one.name}{annotation}{default if annotation else default.replace(' ', '')}"


def value_text(value: Any) -> str:
    text = repr(value)
    return "…" if " at 0x" in text or len(text) > 60 else text


def type_text(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:sessile|typing|collections\.abc|pydantic_ai|datetime)(?:\.\w+)*\.(?=\w)", "", text)


# ---------------------------------------------------------------- docstrings


def _parsed(text: str) -> list[Any]:
    return griffe.Docstring(text).parse("google", warnings=False)


def _sections(text: str, kind: str) -> list[Any]:
    return [section for section in _parsed(text) if section.kind.value == kind]


def names_of(one: Any) -> list[str]:
    """The names that one line of a docstring describes: `first, second: what they are`."""
    name = f"{one.name} {one.annotation}" if one.name.endswith(",") else one.name
    return name.split(", ")


TITLES = {
    "parameters": "argument",
    "attributes": "attribute",
    "raises": "raises",
    "returns": "returns",
    "yields": "yields",
}


def _docstring(text: str) -> Iterator[str]:
    for section in _parsed(text):
        kind = section.kind.value
        if kind == "text":
            yield section.value.strip()
        elif kind in TITLES:
            yield f"| {TITLES[kind]} | |\n|---|---|\n" + "\n".join(_row(kind, one) for one in section.value)
        elif kind == "examples":
            yield from (str(value).strip() for _, value in section.value)
        elif kind == "admonition":
            yield f"**{section.title}** {section.value.description.strip()}"


def _row(kind: str, one: Any) -> str:
    names = names_of(one) if kind in ("parameters", "attributes") else [str(one.annotation or "")]
    shown = ", ".join(f"`{name}`" for name in names if name)
    return f"| {shown} | {cell(one.description)} |"


def cell(text: str) -> str:
    """Text that fits into a cell of a table."""
    return re.sub(r"\s*\n\s*", " ", text.strip()).replace("|", "\\|")


def public() -> Iterator[tuple[str, str]]:
    """Every name that the reference has, with its page."""
    for name, group in GROUPS.items():
        for path in group.names:
            if found(path) is not None:
                yield name, path.partition(":")[2]


def exported() -> set[str]:
    """What `sessile` exports, but for its modules and the classes of databases, which [Options] has."""
    return {name for name in sessile.__all__ if not name.startswith("_") and not name.endswith("Storage")} | {"Storage"}
