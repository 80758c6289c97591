#!/bin/sh
# Installs the wheel and the sdist as users will, on every supported Python that is here, and reads what releases have stored.
# Dependencies are the newest ones, not the locked ones. Run after `make wheel`; needs package indexes.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python_of() {
    command -v "python$1" || ls -d "$HOME"/.pyenv/versions/"$1".*/bin/python 2>/dev/null | tail -1 || true
}

checked=0
for version in 3.11 3.12 3.13 3.14; do
    python=$(python_of "$version")
    # A shim of pyenv's stands for a version that may not be there.
    if [ -z "$python" ] || ! "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" 2>/dev/null; then
        python=$(ls -d "$HOME"/.pyenv/versions/"$version".*/bin/python 2>/dev/null | tail -1 || true)
    fi
    [ -n "$python" ] || { echo "== Python $version: not here"; continue; }
    for built in "$root"/dist/*.whl "$root"/dist/*.tar.gz; do
        echo "== Python $version: $(basename "$built")"
        rm -rf "$work/env"
        "$python" -m venv "$work/env"
        "$work/env/bin/python" -m pip install --quiet --disable-pip-version-check "$built[cli]"
        cd "$work"
        "$work/env/bin/sessile" --version
        "$work/env/bin/sessile" demo </dev/null >"$work/demo.txt" || { cat "$work/demo.txt"; exit 1; }
        for release in "$root"/tests/releases/*/sessions.db; do
            cp "$release" "$work/kept.db"
            "$work/env/bin/sessile" doctor "sqlite:///$work/kept.db"
        done
        cd "$root"
        checked=$((checked + 1))
    done
done
[ "$checked" -gt 0 ] || { echo "There is no supported Python here." >&2; exit 1; }
echo "== $checked installations checked; licences: docs/licences.md; the bill of materials is beside the wheel"
