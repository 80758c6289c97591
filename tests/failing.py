"""What a run of the tests says of its failures: at once, and again in a few lines at its end.

A log of continuous integration may be cut, and a test process may die: then pytest's own summary is not there.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Generator
from contextlib import nullcontext

import pytest
from _pytest.capture import CaptureManager
from _pytest.terminal import TerminalReporter

PROCESS = os.getpid()
"""The process that runs the tests. Its forked children run what a test says, and nothing else."""

LINE = 110
"""Characters of a failure's message in the lines at the end."""

WHOLE = 200
"""Lines of a failure that are shown at once."""

_failed: dict[str, str] = {}


def _ends_with(report: pytest.TestReport | pytest.CollectReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text: str = getattr(crash, "message", None) or report.longreprtext
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:LINE]


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if not report.failed or "PYTEST_XDIST_WORKER" in os.environ:
        return
    _failed[f"{report.nodeid} ({report.when})"] = _ends_with(report)
    if "CI" in os.environ:
        lines = report.longreprtext.splitlines()
        print(f"\n--- failed: {report.nodeid} ({report.when})", *lines[-WHOLE:], sep="\n", flush=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if not isinstance(reporter, TerminalReporter) or hasattr(config, "workerinput") or "CI" not in os.environ:
        return
    for name, text in list(_failed.items())[:15]:
        reporter.write_line(f"failed: {name}: {text}")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A forked child that comes here would run and report the tests that follow, a second time: it is ended."""
    if os.getpid() != PROCESS:
        capture = item.config.pluginmanager.getplugin("capturemanager")
        shown = capture.global_and_fixture_disabled() if isinstance(capture, CaptureManager) else nullcontext()
        with shown:
            print(f"\n--- a forked child went on with the tests after {item.nodeid}", file=sys.stderr)
            if call.excinfo is not None:
                traceback.print_exception(call.excinfo.value, file=sys.stderr)
            sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return (yield)
