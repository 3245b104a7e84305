#!/usr/bin/env bash
# `make test`: lint, strict types, import contracts, all tests with coverage floors, and the edge alone in its own environment.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
step() { printf '\n== %s (%s s so far)\n' "$1" "$SECONDS"; }

step "lint, format, import contracts"
$bin/ruff check .
$bin/ruff format --check --quiet .
$bin/lint-imports | tail -n 1

step "strict types (in the background)"
$bin/mypy >.mypy.out 2>&1 &
types=$!

step "the edge alone: core and edge in an environment of their own"
bash deploy/edge-alone.sh

step "types"
wait "$types" || { cat .mypy.out; exit 1; }
cat .mypy.out && rm -f .mypy.out

step "tests"
rm -f .coverage .coverage.*
# Two workers on two cores; what starts whole process trees runs by itself afterwards, so that it is not starved.
$bin/python -m pytest -n 2 --dist loadfile -q -m "not e2e" --cov --cov-report= tests
$bin/python -m pytest -q -m e2e --cov --cov-append --cov-report= tests

step "coverage floors: 95 % of lines and branches where a wrong decision costs most"
$bin/coverage report --fail-under=95 --skip-covered \
  --include='*/forecasting/*,*/planning/*,*/dispatch/*,*/shedding/*,*/shedding.py,*/pricing/*,*/powerflow/*,*/control/*'
printf '\nall green after %s s\n' "$SECONDS"
