# Makes .venv with everything that the checks need, and sets $python to its interpreter. Sourced from the root of the repository
# by scripts/test and scripts/demo. A bare Debian machine is enough: what is missing comes from apt where this is root.
# shellcheck shell=bash

# Prints the first interpreter that is new enough and really runs (a version manager's shim may exist and refuse).
find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3 python; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$name" -c 'import sys; print(sys.executable)'
            return 0
        fi
    done
    return 1
}

# Debian splits venv and ensurepip from python3.
can_make_environments() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

install_python() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "queuekit needs Python 3.11 or newer with venv; install both (on Debian: apt-get install python3 python3-venv)" >&2
        exit 1
    fi
    echo "installing python3 and python3-venv with apt"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null
    apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates </dev/null >/dev/null
}

make_environment() {
    local base
    base=$(find_python) && can_make_environments "$base" || {
        install_python
        base=$(find_python) || { echo "no Python 3.11 or newer was found" >&2; exit 1; }
    }
    rm -rf .venv
    "$base" -m venv .venv
}

python=$PWD/.venv/bin/python
{ [ -x "$python" ] && "$python" -m pip --version >/dev/null 2>&1; } || make_environment

# Installing is quick to skip: only what these files say can change what is installed.
stamp=$(cat pyproject.toml integration/pyproject.toml drivers/*/pyproject.toml constraints.txt queuekit/__init__.py scripts/environment.sh | cksum)
if [ "$(cat .venv/queuekit.stamp 2>/dev/null)" != "$stamp" ]; then
    echo "installing into .venv"
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    # Dependency groups need a pip that is newer than the one of Debian 12.
    "$python" -m pip install --quiet --constraint constraints.txt --upgrade pip </dev/null
    distributions=(--editable . --editable integration)
    for file in drivers/*/pyproject.toml; do
        distributions+=(--editable "${file%/*}")
    done
    "$python" -m pip install --quiet --constraint constraints.txt --group dev "${distributions[@]}" </dev/null
    echo "$stamp" >.venv/queuekit.stamp
fi
