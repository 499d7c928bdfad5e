# `make` prints what there is. Everything runs in .venv, which the first target to need it makes; after that no target touches the network.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.complete
# Processes for the tests.
JOBS ?= 2
# device, cloud or all
DB ?= all
# More arguments for the command behind `test`, `run`, `demo`, `bench`, `chaos` and `fleet`, for instance ARGS="-k outbox".
ARGS ?=
# Seeds for `sim`, FIRST-LAST.
SEEDS ?= 1-200
# After so many minutes `chaos` begins no further round.
CHAOS_MINUTES ?= 10
STATE := $(or $(CARREL_STATE_DIR),.state)
PACKAGES := domain daemon cloud_api migrations devstack benchmarks

.DEFAULT_GOAL := help
.PHONY: help run demo test sim sim-teeth chaos fleet check format migrate bench build reset clean

# An environment whose Python has gone, or that was made in another folder, is made again.
ifneq ($(shell $(PY) -c 'pass' 2>/dev/null && cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

$(READY): setup.cfg constraints.txt devstack/bootstrap.sh
	@sh devstack/bootstrap.sh $(VENV)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## a school server and a device on this machine, with a real course; Ctrl-C stops both
	@$(PY) -m devstack run $(ARGS)

demo: $(READY) ## the same, then study records offline and online, until both databases agree
	@$(PY) -m devstack demo $(ARGS)

test: $(READY) ## the whole test suite, quick tests first
	@$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

sim: $(READY) ## the simulator alone, for seeds of your choice: SEEDS=1000-1999
	@$(PY) -m tests.simulation.campaign $(SEEDS) --jobs $(JOBS)

sim-teeth: $(READY) ## plants bug after bug, and prints what finds each
	@$(PY) -m tests.simulation.teeth

chaos: $(READY) ## kill, cut and confuse the real processes, round after round: CHAOS_MINUTES=10; goes on where the last one ended
	@$(PY) -m tests.chaos --minutes $(CHAOS_MINUTES) $(ARGS)

fleet: $(READY) ## up to a thousand devices at once against one server, and how long they wait
	@$(PY) -m benchmarks.fleet $(ARGS)

check: $(READY) ## the gate before a commit: format, lint, types, zero-downtime migrations, quick tests
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy $(wildcard $(PACKAGES))
	@$(PY) -m migrations.lint
	@$(PY) -m pytest -q tests/unit

format: $(READY) ## rewrite the code in the project's format
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

migrate: $(READY) ## bring the databases of SQLITE_DATABASE_URL and DATABASE_URL to this version's schema (DB=device|cloud|all)
	@$(PY) -m migrations.cli --db $(DB) upgrade head

bench: $(READY) ## measure the budgets
	@$(PY) -m benchmarks $(ARGS)

build: $(READY) ## the wheel, in dist/
	@rm -rf build
	@$(PY) -m build --wheel --no-isolation

reset: $(READY) ## forget all data of `make run` on this machine
	@$(PY) -m cloud_api.embedded remove $(STATE)/postgres
	@rm -rf $(STATE)

clean: ## remove what was built; the data of `make run` and the environment stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
