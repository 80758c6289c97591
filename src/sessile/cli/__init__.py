"""The command `sessile`.

A base install has `sessile --version` and `sessile demo`; the other commands need the extra `cli`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper

from .._version import __version__
from ..errors import SessileError, missing_dependency
from ..terminal import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: those of the process); returns the exit code.

    Errors of the library are printed, message and hint, and give exit code 1. Wrong usage ends in `SystemExit` with
    code 2.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # data may hold what the terminal cannot show
    try:
        with _warnings_shown():
            return _run(list(sys.argv[1:] if arguments is None else arguments))
    except SessileError as error:
        _print_error(error)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    try:
        import_module("typer")
    except ImportError:
        return _run_without_typer(arguments)
    from .commands import app

    app(arguments, prog_name="sessile")
    return 0


def _run_without_typer(arguments: list[str]) -> int:
    if arguments[:1] not in (["demo"], ["--version"]):
        raise missing_dependency("typer", "cli", "The command sessile")
    parser = argparse.ArgumentParser(prog="sessile")
    parser.add_argument("--version", action="version", version=f"sessile {__version__}")
    demo = parser.add_subparsers().add_parser(
        "demo", description="See an agent remember what an earlier process heard."
    )
    demo.add_argument("--db", metavar="PATH", help="keep the database in this file")
    demo.add_argument("--model", metavar="NAME", help="the model to use, for example openai:gpt-5-mini, or offline")
    demo.add_argument("--dashboard", action="store_true", help="see sample sessions in a browser instead")
    demo.add_argument("--port", type=int, default=8000, help="where the dashboard listens; 0: a free port")
    options = parser.parse_args(arguments)
    from .demo import run_demo, show_dashboard

    if getattr(options, "dashboard", False):
        return show_dashboard(port=options.port, db=options.db)
    return run_demo(db=options.db, model=options.model)


def _print_error(error: SessileError) -> None:
    hint = error.hint if error.written == "no" else f"{error.hint} The write happened: {error.written}."
    for text in (f"Error: {error.message}", hint.strip()):
        if text:
            say("{}", " ".join(text.splitlines()), err=True)


class _Warnings(logging.Handler):
    """What the library logs while a command runs, on the standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        say("Warning: {}", record.getMessage(), err=True)


@contextmanager
def _warnings_shown() -> Generator[None]:
    logger, handler = logging.getLogger("sessile"), _Warnings(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


__all__ = ["main"]
