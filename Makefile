# Two commands are enough: `make demo` and `make test`. Everything else is for people who work on Tieline.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
SIMDIR := firmware-sim
PACKAGES := shared edge cloud $(SIMDIR)
# One thread per numeric library in every process: two cores are shared by many processes.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export OMP_WAIT_POLICY := PASSIVE
KEEP ?=
SEED ?= 1
ROUNDS ?= 200
SEEDS ?= 100
HOURS ?= 0.5

.DEFAULT_GOAL := help
.PHONY: help demo test lint format soak simulate lock clean

help:  ## show this list
	@grep -hE '^[a-z.%-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z.%-]+):.*## /  make \1\t/' | expand -t 22

$(VENV)/.installed: requirements.lock $(addsuffix /pyproject.toml,$(PACKAGES)) cloud/console/package-lock.json deploy/system-packages.sh
	@echo "building the environment in $(VENV), about a minute"
	@date +%s > .build-began
	@bash deploy/system-packages.sh
	@$(PYTHON) -c 'import sys; sys.exit("Tieline needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps $(addprefix -e ,$(PACKAGES))
	@echo $$(($$(date +%s) - $$(cat .build-began))) > $(VENV)/.build-seconds; rm -f .build-began
	@touch $@

.venv: $(VENV)/.installed  ## build the environment from the pinned list (done by itself by the other targets)

demo: $(VENV)/.installed  ## one evening in the field: forecast, plan, cut link, shed, restore, and proof that nothing was lost
	@$(BIN)/python -m deploy.demo $(if $(KEEP),--keep)

test: $(VENV)/.installed  ## everything CI runs: lint, types, contracts, all tests, coverage floors
	@bash deploy/run-tests.sh

lint: $(VENV)/.installed  ## ruff, strict types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed  ## let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(VENV)/.installed  ## kills, cuts and clock steps at random until both sides are compared: make soak SEED=1 ROUNDS=1000
	$(BIN)/python -m tests.soak --seed $(SEED) --rounds $(ROUNDS)

simulate: $(VENV)/.installed  ## the whole agent on a virtual clock, network, disk and field: make simulate SEED=1 SEEDS=100 HOURS=0.5
	$(BIN)/python -m tests.simulation --seed $(SEED) --seeds $(SEEDS) --hours $(HOURS)

bench-%: $(VENV)/.installed  ## run one benchmark of tests/bench, e.g. make bench-frame
	$(BIN)/python -m tests.bench.$*

lock: $(VENV)/.installed  ## resolve the pins anew (names no registry)
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-header \
	  --no-annotate --group dev $(addsuffix /pyproject.toml,. $(PACKAGES)) -o requirements.lock
	@sed -i '/^-e /d' requirements.lock

clean:  ## remove everything that can be made again
	rm -rf $(VENV) .venv-* var build .mypy_cache .ruff_cache .pytest_cache .coverage* .hypothesis .import_linter_cache
