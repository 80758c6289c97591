#!/usr/bin/env bash
# pydantic-ai-slim 2.68.0 and pydantic-evals: asked for together, an installer takes pydantic-evals of a year before.
#
# Each newest release of pydantic-evals pins the pydantic-ai-slim that was released with it, and newer ones of that come
# out without it. Expected, for a project that wants `pydantic-ai-slim>=2.66` and `pydantic-evals`: two releases that are
# near each other, or a conflict that is told. Seen, as of 28 November 2026: 2.68.0 with 0.0.51, silently; alone,
# pydantic-evals is 2.62.0. With `pydantic-evals>=2` nothing fits, and that is told.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet uv==0.13.9

resolved() { # REQUIREMENTS...: what is chosen of the two
    printf '%s\n' "$@" >in.txt
    venv/bin/uv pip compile --quiet --no-annotate --no-header --python-version 3.11 --exclude-newer 2026-11-28 in.txt 2>error.txt |
        grep -E '^pydantic-(ai-slim|evals)==' | tr '\n' ' ' || echo "nothing fits"
}

status=0
check() { # WANTED REQUIREMENTS...
    local wanted=$1 seen
    shift
    seen=$(resolved "$@")
    echo "$*: $seen"
    [ "$seen" = "$wanted" ] || { echo "  changed: it was $wanted"; status=1; }
}

check "pydantic-ai-slim==2.62.0 pydantic-evals==2.62.0 " pydantic-evals
check "pydantic-ai-slim==2.68.0 pydantic-evals==0.0.51 " "pydantic-ai-slim>=2.66" pydantic-evals
check "nothing fits" "pydantic-ai-slim>=2.66" "pydantic-evals>=2"
exit $status
