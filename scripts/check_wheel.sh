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

# The locked versions without their hashes: a bound for the versions that the wheel's own metadata asks for.
sed -n 's/^\([A-Za-z0-9][^ ]*==[^\\]*[^\\ ]\) *\\*$/\1/p' requirements/demo.txt >"$work/constraints.txt"

unset PYTHONPATH || true
mkdir "$work/elsewhere"
cd "$work/elsewhere"

echo "== the library, without extras"
"$root/scripts/env.sh" "$work/env" -c "$work/constraints.txt" "$wheel"
"$work/env/bin/python" - "$root" <<'PROGRAM'
import sys

import sessile
from sessile import SqliteStorage

assert not sessile.__file__.startswith(sys.argv[1]), f"imported from the checkout: {sessile.__file__}"

with SqliteStorage("sessions.db") as storage:
    storage.add_run("s1", input="What is the capital of France?", output="Paris.", user_id="ada")
with SqliteStorage("sessions.db") as storage:
    (run,) = storage.runs("s1")
    assert run.output == "Paris.", run
    assert [head.session_id for head in storage.sessions(user_id="ada").items] == ["s1"]
print("sessile", sessile.__version__, "keeps a session")
PROGRAM

echo "== the command, with the extra 'cli'"
"$root/scripts/env.sh" "$work/env" -c "$work/constraints.txt" "$wheel[cli]"
"$work/env/bin/sessile" --version
"$work/env/bin/sessile" demo </dev/null
