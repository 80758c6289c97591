#!/bin/sh
# Builds the package and uses it as a stranger would: installed into an empty environment, away from the checkout.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "== build"
rm -rf dist
# The wheel is built from the sdist, so this shows too that the sdist is whole. The build backend is the locked one.
.venv/bin/python -m build --no-isolation --outdir dist . >"$work/build.log" 2>&1 || {
    cat "$work/build.log" >&2
    exit 1
}
wheel=$(echo "$root"/dist/*.whl)
echo "$(basename "$wheel")"

echo "== the bill of materials"
bill="${wheel%-py3-none-any.whl}.cdx.json"
.venv/bin/python scripts/bill.py "$wheel" >"$bill"
echo "$(basename "$bill")"

# What the wheel stands on has locked versions and hashes. The wheel itself is then installed without an index, so that
# whatever its own metadata asks for must be among that.
unset PYTHONPATH || true
mkdir "$work/elsewhere"
cd "$work/elsewhere"

echo "== the library, without extras"
"$root/scripts/env.sh" "$work/env" --no-deps --require-hashes -r "$root/requirements/wheel.txt"
"$root/scripts/env.sh" "$work/env" --no-index "$wheel"
"$work/env/bin/python" "$root/scripts/bill.py" --compare "$bill"
"$work/env/bin/python" - "$root" <<'PROGRAM'
import sys

import sessile
from sessile import SqliteStorage

assert not sessile.__file__.startswith(sys.argv[1]), f"imported from the checkout: {sessile.__file__}"

with SqliteStorage("sessions.db") as storage:
    storage.add_run("s1", input="What is the capital of France?", output="Paris.", user_id="ada")
with SqliteStorage("sessions.db") as storage:
    (run,) = storage.runs("s1", user_id="ada")
    assert run.output == "Paris.", run
    assert [session.session_id for session in storage.sessions(user_id="ada").items] == ["s1"]
print("sessile", sessile.__version__, "keeps a session")
PROGRAM

echo "== the command, with the extra 'cli'"
"$root/scripts/env.sh" "$work/env" --no-deps --require-hashes -r "$root/requirements/wheel-cli.txt"
"$root/scripts/env.sh" "$work/env" --no-index "$wheel[cli]"
"$work/env/bin/python" "$root/scripts/bill.py" --compare "$bill"
"$work/env/bin/sessile" --version
"$work/env/bin/sessile" demo </dev/null
