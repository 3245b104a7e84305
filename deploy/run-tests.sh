#!/usr/bin/env bash
# `make test`: lint, strict types, import contracts, all tests with coverage floors, and the edge alone in its own environment.
#
# Two lanes run side by side. One starts whole process trees and mostly waits for them, so it has the machine's attention;
# the other computes, and takes what is left. Coverage costs as much time as the tests themselves, so it is taken where it is
# judged: in the rooms with a floor, by their own tests.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
step() { printf '\n== %s (%s s so far)\n' "$1" "$SECONDS"; }

EDGE_ROOMS="tests/edge/control tests/edge/shedding tests/edge/forecasting tests/core/test_forecast_gate.py tests/core/test_forecast_inputs.py"
HUB_ROOMS="tests/cloud/api tests/cloud/dispatch tests/cloud/forecasting tests/cloud/planning tests/cloud/powerflow"
without() { for path in "$@"; do printf -- '--ignore=%s ' "$path"; done; }

waiting() {
  $bin/python -m pytest -q -m e2e tests
}

computing() {
  renice -n 5 -p "$BASHPID" >/dev/null
  step "import contracts, strict types"
  $bin/lint-imports | tail -n 1
  $bin/mypy
  step "core and edge, in an environment that holds nothing else: rooms with a floor"
  # shellcheck disable=SC2086 # lists of paths
  COVERAGE_FILE=.coverage.edge bash deploy/edge-alone.sh --cov --cov-report= $EDGE_ROOMS
  step "core and edge: the rest"
  # shellcheck disable=SC2046,SC2086
  bash deploy/edge-alone.sh $(without $EDGE_ROOMS) tests/core tests/edge
  step "hub: rooms with a floor"
  # shellcheck disable=SC2086
  COVERAGE_FILE=.coverage.hub $bin/python -m pytest -n 2 --dist loadfile -q --cov --cov-report= -m "not e2e" $HUB_ROOMS
  step "hub, simulator, simulation, contracts, integration"
  # shellcheck disable=SC2046,SC2086
  # A third worker: many of these wait for servers and browsers.
  $bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -q -m "not e2e" $(without $HUB_ROOMS) \
    --ignore=tests/core --ignore=tests/edge tests
  step "coverage floors: 95 % of lines and branches where a wrong decision costs most"
  $bin/coverage combine --quiet
  $bin/coverage report --fail-under=95 --skip-covered \
    --include='*/forecasting/*,*/planning/*,*/dispatch/*,*/shedding/*,*/shedding.py,*/pricing/*,*/powerflow/*,*/control/*'
}

bash deploy/system-packages.sh test
step "lint, format"
$bin/ruff check .
$bin/ruff format --check --quiet .
rm -f .coverage .coverage.*

log=$(mktemp)
# Each lane is a process group of its own, so that Ctrl-C reaches what it started and lets it clean up.
set -m
(waiting) >"$log" 2>&1 &
waits=$!
(computing) &
computes=$!
set +m
trap 'kill -INT -- -$waits -$computes 2>/dev/null; wait; rm -f "$log"; exit 130' INT TERM

failed=0
wait "$computes" || failed=1
[ $failed = 0 ] || printf '\nFAILED above; the other lane comes to its end first\n'
wait "$waits" || failed=1
step "the whole loop, and kills"
cat "$log"
rm -f "$log"
[ $failed = 0 ] || { printf '\nFAILED after %s s\n' "$SECONDS"; exit 1; }
printf '\nall green after %s s\n' "$SECONDS"
