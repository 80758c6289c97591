"""The pages about the command line and about the options of storages, from the code."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import griffe

from sessile.storage.registry import BUILT_IN
from sessile.storage.settings import Settings

from .reference import cell, names_of, type_text, value_text


def command_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    from typer.main import get_command

    from sessile.cli.commands import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    parts = [
        "# Commands and options",
        "As `sessile COMMAND --help` prints them. [Command line](../cli.md) shows what each of them prints.",
    ]
    for name in sorted(commands):
        command = commands[name]
        parts += [f"## sessile {name}", (command.help or "").strip()]
        rows = [_option(one) for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
        if rows:
            parts.append("| argument or option | default | |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _option(one: Any) -> str:
    argument = one.param_type_name == "argument"
    shown = f"`{(one.metavar or one.name).upper()}`" if argument else ", ".join(f"`{word}`" for word in one.opts)
    default = one.default
    said = "" if default in (None, False, (), []) or callable(default) else f"`{default}`"
    return f"| {shown} | {said} | {cell(getattr(one, 'help', None) or '')} |"


def option_page() -> str:
    """What each database's storage takes, in Python and in its URL; and what all storages take."""
    parts = [
        "# Options of storages",
        "Give options as arguments of the class or of `sessile.open`. Those that a URL may hold are named with it.",
        "## All storages",
        _table(_described(Settings), inspect.signature(Settings)),
    ]
    classes: dict[str, list[str]] = {}
    for scheme, target in BUILT_IN.items():
        classes.setdefault(target, []).append(scheme)
    for target, schemes in sorted(classes.items(), key=lambda one: one[0].partition(":")[2].lower()):
        module, _, name = target.partition(":")
        cls = getattr(import_module(module), name)
        shown = ", ".join(f"`{scheme}`" if scheme.endswith("+") else f"`{scheme}://`" for scheme in schemes)
        parts += [f"## {name}", f"URLs: {shown}. {inspect.getdoc(cls.from_url) or ''}"]
        parts.append(_table(_described(cls), inspect.signature(cls.__init__)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _described(cls: type) -> dict[str, str]:
    """What the docstring of a class says of each argument."""
    said: dict[str, str] = {}
    for section in griffe.Docstring(inspect.getdoc(cls) or "").parse("google", warnings=False):
        if section.kind.value in ("parameters", "attributes"):
            for one in section.value:
                said.update({name.strip("*"): one.description for name in names_of(one)})
    return said


def _table(said: dict[str, str], signature: inspect.Signature) -> str:
    rows: list[str] = []
    for one in signature.parameters.values():
        if one.name not in ("self", "options"):
            default = "" if one.default is one.empty else f"`{value_text(one.default)}`"
            parts = (f"`{one.name}`", f"`{cell(type_text(one.annotation))}`", default, cell(said.get(one.name, "")))
            rows.append(f"| {' | '.join(parts)} |")
    return "| option | type | default | |\n|---|---|---|---|\n" + "\n".join(rows) if rows else "It has none of its own."
