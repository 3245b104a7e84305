#!/usr/bin/env bash
# `make test`: lint, strict types, import contracts, all tests with coverage floors, and the edge alone in its own environment.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
step() { printf '\n== %s (%s s so far)\n' "$1" "$SECONDS"; }

bash deploy/system-packages.sh test
step "lint, format, import contracts"
$bin/ruff check .
$bin/ruff format --check --quiet .
$bin/lint-imports | tail -n 1

step "strict types"
$bin/mypy

rm -f .coverage .coverage.*
step "core and edge, in an environment that holds nothing else"
COVERAGE_FILE=.coverage.edge bash deploy/edge-alone.sh --cov --cov-report=

step "hub, simulator, contracts, integration"
# Two workers on two cores; what starts whole process trees runs by itself afterwards, so that it is not starved.
COVERAGE_FILE=.coverage.rest $bin/python -m pytest -n 2 --dist loadfile -q --cov --cov-report= -m "not e2e" \
  tests --ignore=tests/core --ignore=tests/edge

step "the whole loop, and kills"
$bin/python -m pytest -q -m e2e tests

step "coverage floors: 95 % of lines and branches where a wrong decision costs most"
$bin/coverage combine --quiet
$bin/coverage report --fail-under=95 --skip-covered \
  --include='*/forecasting/*,*/planning/*,*/dispatch/*,*/shedding/*,*/shedding.py,*/pricing/*,*/powerflow/*,*/control/*'
printf '\nall green after %s s\n' "$SECONDS"
