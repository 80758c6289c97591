#!/usr/bin/env bash
# pytest-cov 7.1.0 with pytest-xdist 3.8.0: one test process that dies takes the coverage of all the others with it.
#
# Three processes run 40 tests of a small module, whose coverage is 100 %. One further test ends its process while the
# others have nothing left to do. Expected: the tests that passed in the other processes are counted. Seen: next to
# nothing is covered. The process that replaces the dead one begins by erasing the coverage of earlier runs, which is that
# of its siblings. With `--cov-append` it does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet coverage==7.17.3 pytest==9.2.0 pytest-cov==7.1.0 pytest-xdist==3.8.0
cat >choices.py <<'PY'
def choose(number):
    if number == 0:
        return "none"
    if number == 1:
        return "one"
    return "many"
PY
cat >test_choices.py <<'PY'
import os
import time

import choices
import pytest


@pytest.mark.parametrize("number", range(40))
def test_choose(number):
    assert choices.choose(number % 3)


def test_that_dies():
    time.sleep(3)
    os._exit(1)
PY
covered() {
    rm -f .coverage .coverage.*
    venv/bin/python -m pytest -q -n 3 --cov=choices "$@" 2>&1 | awk '$1 == "TOTAL" {sub("%", ""); print $NF}' || true
}
whole=$(covered --deselect test_choices.py::test_that_dies)
died=$(covered)
appended=$(covered --cov-append)
echo "covered: $whole % when no process dies, $died % when one does, $appended % then with --cov-append"
[ "$whole" -gt 90 ] && [ "$died" -lt 50 ] && [ "$appended" -gt 90 ]
