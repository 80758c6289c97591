#!/usr/bin/env bash
# pytest-cov 7.1.0, pytest-xdist 3.8.0, coverage 7.17.3: a test that is marked `no_cover` is measured all the same.
#
# With `[run] patch = subprocess` each process that pytest-xdist starts is a child of a measured one, and begins to
# measure by itself; pytest-cov begins beside it. For `no_cover` pytest-cov stops its own measuring only. Expected: the
# test runs without a trace function, as it does in one process. Seen: with `-n 1` it has one. So the marker saves no
# time there, and does not keep coverage out of tests that cannot bear it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet coverage==7.17.3 pytest==9.2.0 pytest-cov==7.1.0 pytest-xdist==3.8.0
printf '[run]\nparallel = true\npatch = subprocess\nsource_pkgs = used\n' >.coveragerc
echo 'VALUE = 1' >used.py
cat >test_marked.py <<'PY'
import sys
from pathlib import Path

import pytest
import used


@pytest.mark.no_cover
def test_marked():
    assert used.VALUE == 1
    Path("seen").write_text(type(sys.gettrace()).__name__)
PY
seen() {
    PYTHONPATH=. COVERAGE_CORE=ctrace venv/bin/python -m pytest -q -p no:cacheprovider --cov "$@" test_marked.py >/dev/null 2>&1
    cat seen
}
alone=$(seen)
distributed=$(seen -n 1)
echo "trace function of a test marked no_cover: in one process $alone, with -n 1 $distributed"
[ "$alone" = NoneType ] && [ "$distributed" = CTracer ]
