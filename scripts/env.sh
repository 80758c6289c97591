#!/bin/sh
# Makes a virtual environment, and installs into it: with uv if there is one, else with venv and pip.
#
#   scripts/env.sh DIR ARGUMENTS...        the arguments are those of `pip install`
#
# PYTHON=... names the interpreter; else the newest one that works is taken.
set -eu

fail() {
    echo "env.sh: $*" >&2
    exit 1
}

# A command that exists may still fail: pyenv, for one, leaves shims for versions that are not switched on.
works() {
    "$@" >/dev/null 2>&1 </dev/null
}

recent() {
    works "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

has_uv() {
    works uv --version
}

# Prints the path of a Python that can be used, or nothing.
find_python() {
    for candidate in ${PYTHON:-python3.14 python3.13 python3.12 python3.11 python3 python}; do
        if recent "$candidate" && { has_uv || works "$candidate" -c 'import ensurepip, venv'; }; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

make_env() {
    if [ -e "$dir" ] && [ ! -f "$dir/pyvenv.cfg" ]; then
        fail "$dir exists and is not a virtual environment"
    fi
    python=$(find_python)
    if [ -z "$python" ] && ! has_uv; then
        fail "needs Python 3.11 or newer with its venv module (Debian, Ubuntu: apt-get install python3-venv), or uv"
    fi
    rm -rf "$dir"
    if has_uv; then
        # Without a Python of the machine, uv may still get one.
        uv venv --quiet --python "${python:-${PYTHON:->=3.11}}" "$dir"
    else
        "$python" -m venv "$dir"
    fi
}

[ $# -ge 2 ] || fail "usage: scripts/env.sh DIR ARGUMENTS OF PIP INSTALL..."
dir=$1
shift

# Also made anew: an environment whose Python is gone, and one that uv made where there is no uv any more.
if ! recent "$dir/bin/python" || ! { has_uv || works "$dir/bin/python" -m pip --version; }; then
    make_env
fi

if has_uv; then
    # As pip does: else every process compiles again what it imports, where it may not write to the environment.
    exec uv pip install --quiet --compile-bytecode --python "$dir/bin/python" "$@"
fi
exec "$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
