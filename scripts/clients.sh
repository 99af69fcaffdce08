#!/usr/bin/env bash
# Installs the stock clients that tests/clients uses into a folder: Python's into a virtual environment, Go's compiled.
set -euo pipefail
folder=$1
sources=$(cd "$(dirname "$0")/../tests/clients" && pwd)
for tool in python3 go; do
    command -v "$tool" >/dev/null || { echo "error: $tool is needed, and not here" >&2; exit 1; }
done
mkdir -p "$folder"
if [ ! -x "$folder/python/bin/python" ]; then
    # The wheel of `tikv-client` on PyPI is for Python 3.11 on x86-64 Linux.
    python3 -m venv "$folder/python"
fi
"$folder/python/bin/pip" install --quiet --disable-pip-version-check -r "$sources/python/requirements.txt"
(cd "$sources/go" && go build -o "$folder/go-client" .)
