"""Forked children of tests."""

from __future__ import annotations

import os
import posix
import traceback
from collections.abc import Callable

from coverage import control

EXIT = posix._exit  # pyright: ignore[reportPrivateUsage] (what `os._exit` is)
"""Coverage has an `os._exit` of its own. It writes all that the run has measured, for each child: a minute."""

# And when a child begins, coverage begins there, too, and looks for the source of each function on the stack among all
# modules that are loaded: another minute. These children are not measured.
control._start_process_coverage = lambda config_file: None  # pyright: ignore[reportPrivateUsage]


def forked(work: Callable[[], object]) -> int:
    """Do this in a child; returns its process id.

    The child ends here, whatever comes of it (0: nothing was raised): it must never go on as a second process of the
    tests, which would run those that follow, and report them a second time.
    """
    child = os.fork()
    if child != 0:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 (whatever it is)
        traceback.print_exc()
    finally:
        EXIT(code)


def in_child(work: Callable[[], object]) -> int:
    """As `forked`, and wait for the child; returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])
