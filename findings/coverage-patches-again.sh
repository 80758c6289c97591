#!/usr/bin/env bash
# coverage 7.17.3: what `[run] patch` asks for is done again each time that measuring goes on.
#
# A program measures itself with `patch = _exit, fork`, and stops and starts measuring 20 times, as pytest-cov does around
# each test that is marked `no_cover`. Expected: `os._exit` is wrapped once, and a forked child begins to measure once.
# Seen: `os._exit` is wrapped 21 times, and the child begins 21 times. So the cost of a fork grows with the tests before
# it; after some hundreds, ours took from ten seconds to two minutes each. In the end the wrapped `os._exit` was deeper
# than Python allows, and raised instead of ending its process: children of tests went on as second test processes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet coverage==7.17.3
printf '[run]\nparallel = true\npatch = _exit, fork\n' >.coveragerc
cat >again.py <<'PY'
import os
import sys

import coverage
from coverage import control

measuring = coverage.Coverage()
measuring.start()
for _ in range(20):
    measuring.stop()
    measuring.start()

depth, function = 0, os._exit
while getattr(function, "__closure__", None):
    inner = [cell.cell_contents for cell in function.__closure__ if callable(cell.cell_contents)]
    function = next(one for one in inner if not isinstance(one, coverage.Coverage))
    depth += 1

begun = []
begin = control._start_process_coverage
control._start_process_coverage = lambda config: begun.append(begin(config))
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, str(len(begun)).encode())
    os.kill(os.getpid(), 9)
os.wait()
times = int(os.read(reading, 10))
print(f"coverage {coverage.__version__}: os._exit is wrapped {depth} times; a forked child begins to measure {times} times")
measuring.stop()
sys.exit(0 if depth == times == 21 else 1)
PY
venv/bin/python -W ignore again.py
