#!/usr/bin/env bash
# Style without changing a file: linter rules, then the formatter's check. VENV names the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${VENV:-.venv}/bin/python"
"$python" -m ruff check .
"$python" -m ruff format --check .
