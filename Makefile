# `make` prints what there is. Everything runs in .venv, which the first target to need it makes; after that `audit` (which `check` ends with) and `lock`
# are the only targets that use the network.

VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.complete
# Processes for the tests: twice as many as two cores, because some tests mostly wait.
JOBS ?= 4
# device, cloud or all
DB ?= all
# More arguments for the command behind `test`, `run`, `demo`, `bench`, `chaos`, `fleet` and `audit`, for instance ARGS="-k outbox".
ARGS ?=
# Seeds for `sim`, FIRST-LAST.
SEEDS ?= 1-200
# After so many minutes `chaos` begins no further round.
CHAOS_MINUTES ?= 10
STATE := $(or $(CARREL_STATE_DIR),.state)
# The register of erasures of `run`, which no restored backup may undo.
REGISTER := CARREL_CLOUD_ERASURES_FILE="$(STATE)/erasures.jsonl"
# tzdata is what Windows alone needs.
LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --no-annotate --generate-hashes
PACKAGES := domain loglines webpages daemon cloud_api migrations devstack benchmarks

.DEFAULT_GOAL := help
.PHONY: help run dev seed demo test sim sim-teeth chaos fleet check check-offline audit lock format migrate bench build install backup restore reset clean

# An environment whose Python has gone, or that was made in another folder, is made again.
ifneq ($(shell $(PY) -c 'pass' 2>/dev/null && cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

$(READY): setup.cfg constraints.lock devstack/bootstrap.sh
	@sh devstack/bootstrap.sh $(VENV)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## a school server and a device on this machine, with a real course; Ctrl-C stops both
	@$(PY) -m devstack run $(ARGS)

dev: $(READY) ## as `run`, and a server whose code was changed is started again
	@$(PY) -m devstack dev $(ARGS)

seed: $(READY) ## the demonstration's school and course in the database of `run`, or in that of DATABASE_URL
	@$(PY) -m devstack seed $(ARGS)

demo: $(READY) ## as `run`, then study records offline and online, until both databases agree
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

check: check-offline audit ## the gate before a commit: `check-offline`, then `audit`

check-offline: $(READY) ## what of it needs no network: format, lint (the security rules too), types, packages as pinned, zero-downtime migrations, quick tests
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy $(wildcard $(PACKAGES) tests)
	@$(PY) -m devstack.dependencies
	@$(PY) -m migrations.lint
	@$(PY) -m pytest -q tests/unit

audit: $(READY) ## known flaws in the packages that are pinned; needs the network, and a package that cannot be looked up is a failure
	@$(PY) -m devstack.audit $(ARGS)

lock: $(READY) ## the three locks anew: the versions of constraints.txt with the hashes of their files, for every system; needs the network
	@$(LOCK) --no-deps --output-file constraints.lock constraints.txt
	@$(LOCK) --constraint constraints.txt --no-emit-package tzdata --output-file device.lock setup.cfg
	@$(LOCK) --constraint constraints.txt --no-emit-package tzdata --extra cloud --output-file server.lock setup.cfg

format: $(READY) ## rewrite the code in the project's format
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

migrate: $(READY) ## bring the databases of SQLITE_DATABASE_URL and DATABASE_URL to this version's schema (DB=device|cloud|all)
	@$(PY) -m migrations --db $(DB) upgrade head

bench: $(READY) ## measure the budgets
	@$(PY) -m benchmarks $(ARGS)

build: $(READY) ## the wheel, in dist/
	@rm -rf build
	@$(PY) -m build --quiet --wheel --no-isolation

install: build ## this machine as a device, or ARGS="--role server": a service of systemd; asks for root
	@$(if $(filter 0,$(shell id -u)),,sudo) "$(CURDIR)/$(PY)" -m daemon service install --wheel "$$(ls -t dist/carrel-*.whl | head -n 1)" $(ARGS)

backup: $(READY) ## back up the device and the server of `make run`, into .state/backups
	@mkdir -p "$(STATE)/backups/device" "$(STATE)/backups/server"
	@CARREL_DEVICE_STATE_DIR="$(STATE)/device" $(PY) -m daemon backup --keep 3 "$(STATE)/backups/device"
	@$(REGISTER) $(PY) -m cloud_api backup --embedded --data-dir "$(STATE)/postgres" "$(STATE)/backups/server"

# The device first: it refuses while its daemon runs, and then nothing of either side has been replaced.
restore: $(READY) ## put the newest of these backups back; `make run` must not run
	@CARREL_DEVICE_STATE_DIR="$(STATE)/device" $(PY) -m daemon restore "$$(ls "$(STATE)"/backups/device/*.backup | tail -n 1)"
	@$(REGISTER) $(PY) -m cloud_api restore --embedded --data-dir "$(STATE)/postgres" "$$(ls "$(STATE)"/backups/server/*.dump | tail -n 1)"

reset: $(READY) ## forget all data of `make run` on this machine
	@$(PY) -m cloud_api.embedded remove "$(STATE)/postgres"
	@rm -rf "$(STATE)"

clean: ## remove what was built; the data of `make run` and the environment stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
