#!/usr/bin/env bash
# Static types of projects/; the settings are in pyproject.toml.
set -euo pipefail
cd "$(dirname "$0")/.."
"${VENV:-.venv}/bin/python" -m mypy "$@"
