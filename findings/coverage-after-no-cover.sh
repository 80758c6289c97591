#!/usr/bin/env bash
# pytest-cov 7.1.0, coverage 7.17.3, pytest 9.2.0: what one test marked `no_cover` takes from the tests after it.
#
# Expected: coverage of the marked test is left out, and that of every other test is measured.
# Seen: the mark stops the measurement and starts it again. With the C tracer (the default up to Python 3.13) it starts
# in the thread that runs the tests and in new threads: a thread that was there before, such as those of a pool that
# lasts as long as the process, is never measured again. The report says "Missing" of lines that ran, in whichever tests
# come later: with pytest-xdist in other ones each time. With sys.monitoring (COVERAGE_CORE=sysmon) nothing is missing.
set -euo pipefail
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$python" -m venv venv
venv/bin/pip install --quiet pytest==9.2.0 pytest-cov==7.1.0 coverage==7.17.3

cat >shop.py <<'PY'
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor(1)


def price(kind):
    if kind == "book":
        return 10
    return 20


def price_in_pool(kind):
    return pool.submit(reduced, kind).result()


def reduced(kind):
    if kind == "book":
        return 5
    return 15
PY
cat >test_shop.py <<'PY'
import pytest
import shop


def test_books():
    assert (shop.price("book"), shop.price_in_pool("book")) == (10, 5)


MARK


def test_pens():
    assert (shop.price("pen"), shop.price_in_pool("pen")) == (20, 15)
PY

missing() { # CORE MARKED: the lines that the report calls missing
    local marked=""
    [ "$2" = marked ] && marked='@pytest.mark.no_cover\ndef test_between():\n    pass'
    sed "s/^MARK$/$marked/" test_shop.py >test_run.py
    COVERAGE_CORE=$1 venv/bin/python -m pytest -q test_run.py --cov=shop --cov-report=term-missing |
        sed -n 's/^shop\.py .*%\s*//p'
}

status=0
check() { # WHAT WANTED SEEN
    echo "$1: missing lines: ${3:-none}"
    [ "$2" = "$3" ] || { echo "  changed: it was ${2:-none}"; status=1; }
}

venv/bin/python --version
check "C tracer, no test marked" "" "$(missing ctrace unmarked)"
check "C tracer, a marked test between" "19" "$(missing ctrace marked)"
if venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 12))'; then
    check "sys.monitoring, no test marked" "" "$(missing sysmon unmarked)"
    check "sys.monitoring, a marked test between" "" "$(missing sysmon marked)"
else
    echo "sys.monitoring: needs Python 3.12 (PYTHON=python3.12)"
fi
exit $status
