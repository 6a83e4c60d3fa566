#!/usr/bin/env bash
# Rewrites imports and layout in place; `dev/lint.sh` passes afterwards unless a rule needs a person.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${VENV:-.venv}/bin/python"
"$python" -m ruff check --fix .
"$python" -m ruff format .
