#!/usr/bin/env bash
# hypothesis 6.170.15: after one property was tested, Ctrl-C is lost while garbage is collected.
#
# A program tests a property. Then it collects garbage in a loop, and 20 times a signal comes whose handler is Python's own
# for Ctrl-C. Expected: `KeyboardInterrupt` each time. Seen: not once. Hypothesis leaves a Python function in
# `gc.callbacks`, to measure the collector. A signal that comes during a collection is handled in the first Python code
# that runs, which is this function; and Python throws away what such a callback raises. Ours did the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet hypothesis==6.170.15
cat >lost.py <<'PY'
import gc
import signal
import sys
import time

import hypothesis
from hypothesis import given, settings, strategies

ballast = [[number] for number in range(300_000)]  # nearly all time goes into collecting
signal.signal(signal.SIGALRM, signal.default_int_handler)
thrown_away = []
sys.unraisablehook = lambda what: thrown_away.append(what.exc_type)


def raised() -> int:
    times = 0
    for number in range(20):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01 + number / 1000)
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                gc.collect()
        except KeyboardInterrupt:
            times += 1
    return times


@settings(database=None)
@given(strategies.integers())
def anything(number: int) -> None:
    pass


before = raised()
anything()
after = raised()
print(f"hypothesis {hypothesis.__version__}: KeyboardInterrupt {before} of 20 times before a property is tested,")
print(f"{after} of 20 times after it; {thrown_away.count(KeyboardInterrupt)} were thrown away")
sys.exit(0 if before > 15 and after < 5 else 1)
PY
venv/bin/python lost.py
