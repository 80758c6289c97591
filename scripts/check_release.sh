#!/bin/sh
# Installs the wheel and the sdist as users will, on every supported Python that can be had, and reads what releases have stored.
# Dependencies are the newest ones, not the locked ones. Run after `make wheel`; needs package indexes. A Python that is not
# here is Debian's, of the unstable suite, beside the system, as `make torture` has it.
set -eu

cd "$(dirname "$0")/.."
root=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Prints the path of a Python of this machine, or nothing.
python_here() {
    for python in "$(command -v "python$1" || true)" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
        # A shim of pyenv's stands for a version that may not be there.
        if [ -x "$python" ] && "$python" -c "import sys, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

# Installs a file and says in $run how the command is called.
install() {
    rm -rf "$work/env"
    if [ "$from" = here ]; then
        "$python" -m venv "$work/env"
        "$work/env/bin/python" -m pip install --quiet --disable-pip-version-check "$1[cli]"
        run="$work/env/bin/sessile"
    else
        # Debian's runs by a loader of its own, of which no virtual environment knows.
        .venv/bin/python -m pip --python "$python" install --quiet --disable-pip-version-check --target "$work/env" "$1[cli]"
        run="env PYTHONPATH=$work/env $python -m sessile"
    fi
}

checked=0
missing=
for version in 3.11 3.12 3.13 3.14; do
    python=$(python_here "$version") from=here
    if [ -z "$python" ]; then
        from=debian
        python=$(.venv/bin/python -m tests.torture.pythons --where "python$version" 2>/dev/null) || python=
    fi
    [ -n "$python" ] || { echo "== Python $version: not here"; missing="$missing $version"; continue; }
    for built in "$root"/dist/*.whl "$root"/dist/*.tar.gz; do
        echo "== $("$python" --version) ($from): $(basename "$built")"
        install "$built"
        cd "$work"
        $run --version
        $run demo </dev/null >"$work/demo.txt" || { cat "$work/demo.txt"; exit 1; }
        for release in "$root"/tests/releases/*/sessions.db; do
            cp "$release" "$work/kept.db"
            $run doctor "sqlite:///$work/kept.db"
        done
        cd "$root"
        checked=$((checked + 1))
    done
done
[ "$checked" -gt 0 ] || { echo "There is no supported Python here." >&2; exit 1; }
echo "== $checked installations checked${missing:+, without Python$missing}; licences: docs/licences.md; the bill of materials is beside the wheel"
