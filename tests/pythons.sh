#!/bin/sh
# Run the tests on every CPython from 3.10 to 3.13 that this machine has, each in a virtual
# environment of its own (.venv-3.X), and say at the end how each went.
set -eu
cd "$(dirname "$0")/.."

find_python() {
    # A pyenv shim of a version that is not active exists but does not run.
    if command -v "python$1" >/dev/null && "python$1" -c pass 2>/dev/null; then
        command -v "python$1"
        return
    fi
    for python in "$HOME/.pyenv/versions/$1".*[0-9]/bin/python; do
        [ -x "$python" ] && found=$python
    done
    echo "${found:-}"
}

ran=
failed=
for version in 3.10 3.11 3.12 3.13; do
    found=
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        echo "CPython $version: not on this machine"
        continue
    fi
    venv=.venv-$version
    if [ ! -x "$venv/bin/python" ]; then
        "$python" -m venv "$venv"
    fi
    if [ ! -e "$venv/.ready" ] || [ pyproject.toml -nt "$venv/.ready" ]; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e '.[fast,test]'
        touch "$venv/.ready"
    fi
    echo "CPython $version: $("$venv/bin/python" -VV)"
    ran="$ran $version"
    "$venv/bin/python" -m pytest -q -n "${JOBS:-2}" --dist loadscope -m 'not alone' &&
        "$venv/bin/python" -m pytest -q -m alone || failed="$failed $version"
done

if [ -z "$ran" ]; then
    echo "no CPython from 3.10 to 3.13 was found" >&2
    exit 1
fi
echo "tested on CPython:$ran"
if [ -n "$failed" ]; then
    echo "failed on CPython:$failed" >&2
    exit 1
fi
