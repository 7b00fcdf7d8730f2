# Needs Python 3.11 or newer, make and git; no root, no services. `make` alone lists the targets.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# Hundreds of processes would compile our modules anew.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
PEERS := .venv-bench
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt \
	--build-constraint constraints.txt
PYTEST := $(BIN)/pytest
WHEEL_SOURCES := pyproject.toml constraints.txt

# The newest Python that can make a venv; `make PYTHON=/path/to/python …` uses another. 3.14 was not tried, so it is last.
usable := -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python python3.14; do \
	$$python $(usable) && command -v $$python && break; done)

##@ Look at it

.PHONY: demo
demo: $(VENV)/ready-to-run ## send 1,000 example mails to a local inbox and show the results (a minute)
	@$(BIN)/mailbatch demo

.PHONY: dev
dev: $(VENV)/ready-to-run ## the same, but keep it and the console running until Ctrl-C, to try things
	@$(BIN)/mailbatch demo --keep-running --folder var/dev

##@ Check it

.PHONY: test
test: check ## check, then all tests on real servers (ten minutes on 2 cores)
	@# Each process has its own Redis and PostgreSQL. Tests wait more than half of the time: six processes keep two cores busy.
	$(PYTEST) --numprocesses 6 --dist loadgroup \
		tests/faults tests/e2e tests/smoke tests/clients/test_python.py tests/integration tests/contract

.PHONY: check
check: $(VENV)/ready-to-test ## everything that needs no server: linters, formatter, types, layers, unit tests
	@$(MAKE) --no-print-directory --jobs 2 $(if $(filter output-sync,$(.FEATURES)),--output-sync) types lint unit

.PHONY: lint types
lint: $(VENV)/ready-to-test ## linters, formatter, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
types: $(VENV)/ready-to-test ## mypy
	$(BIN)/mypy

.PHONY: unit contract integration e2e smoke
unit: $(VENV)/ready-to-test ## unit tests, with fakes only
contract: $(VENV)/ready-to-test ## one suite for each port, run with its fake and its adapters
integration: $(VENV)/ready-to-test ## adapters with a private Redis, PostgreSQL and SMTP server
e2e: $(VENV)/ready-to-test ## real workers, beats and commands
smoke: $(VENV)/ready-to-test ## pytest-celery's nodes; on Docker with SMOKE_DOCKER=1
unit contract integration e2e smoke:
	$(PYTEST) tests/$@

# `make test` injects each fault once, and leaves out the tests that are marked as long. SEED=… repeats a session, with ROUND=… one round of it.
ROUNDS := 200
REPEAT := 3
MINUTES := 30
.PHONY: faults faults-peers soak
faults: $(VENV)/ready-to-test ## each fault several times, and kills at random moments: docs/reliability.md (half an hour)
	PYTHONPATH=tests $(BIN)/python -m faults --write --rounds $(ROUNDS) --repeat $(REPEAT) \
		$(SEED:%=--seed %) $(ROUND:%=--round %)
	FAULTS=long $(PYTEST) tests/faults/test_strict.py tests/contract/test_composer.py tests/integration/test_mime_*.py
	FAULTS=long $(PYTEST) --numprocesses 2 -m long tests/integration tests/e2e
faults-peers: $(VENV)/ready-to-test $(PEERS)/ready ## the same kills for django-post_office and django-mailer
	PYTHONPATH=tests $(BIN)/python -m faults.peers --write
soak: $(VENV)/ready-to-test ## MINUTES of ticks with faults all the time, under both policies
	PYTHONPATH=tests $(BIN)/python -m faults.soak --write --minutes $(MINUTES) $(SEED:%=--seed %)

# A skipped test names in one line what the machine lacks; the last line counts them.
.PHONY: machine
machine: $(VENV)/ready-to-test ## faults that need root: the OOM killer, full disks, failover, cut networks, Postfix; lists skipped tests
	$(PYTEST) --write tests/machine tests/integration/test_smtp_postfix.py

# -s prints the extensions of each server. Versions are pinned in tests/relays; they are installed into var/relays.
.PHONY: relays
relays: $(VENV)/ready-to-test ## real SMTP servers as relays (needs npm, go, Debian's packages); lists skipped tests
	$(PYTEST) -s tests/relays tests/integration/test_smtp_postfix.py

# Versions are pinned in tests/clients; they are installed into var/clients.
.PHONY: clients
clients: $(VENV)/ready-to-test ## openapi.json by redocly's rules; generated clients in TypeScript (npm) and Python; lists skipped tests
	$(PYTEST) tests/clients

# Versions are pinned in tests/readers; they are installed into var/readers.
.PHONY: readers
readers: $(VENV)/ready-to-test ## composed mails as Node's mailparser reads them (needs node, npm); lists skipped tests
	$(PYTEST) tests/readers

.PHONY: browser
browser: $(VENV)/ready-to-browse ## the console in a real Chromium (Debian: apt install chromium; or CHROMIUM=/path); lists skipped tests
	$(PYTEST) tests/browser

.PHONY: screenshots
screenshots: $(VENV)/ready-to-browse ## write docs/screenshots and the transcripts of docs/on-call.md again (Chromium, as above)
	PYTHONPATH=tests $(BIN)/python -m browser.pictures

# Of the last commit, in a copy. ONLY="3 17" runs only these of them; MODULES="domain/retry.py infrastructure/mime" draws from these.
COUNT := 20
.PHONY: mutants
mutants: $(VENV)/ready-to-mutate ## COUNT small changes of the code, drawn by SEED: which of them does no test see (5 seconds each)
	PYTHONPATH=tests $(BIN)/python -m mutants --seed $(or $(SEED),1) --count $(COUNT) \
		$(if $(ONLY),--only $(ONLY)) $(if $(MODULES),--modules $(MODULES))

##@ Measure it

.PHONY: bench bench-quick bench-cpu bench-shares bench-pages bench-large bench-fat
bench: $(VENV)/ready-to-test $(PEERS)/ready ## mailbatch against its peers: docs/benchmarks.md (half an hour; do nothing else on the machine)
	$(BIN)/python -m bench
bench-quick: $(VENV)/ready-to-test $(PEERS)/ready ## the same with fewer mails; only prints (less than three minutes)
	$(BIN)/python -m bench --mode quick
# BASE=… is the commit to compare with.
BASE = HEAD~1
bench-cpu: $(VENV)/ready-to-test ## CPU a mail against the commit BASE, alternating; fails above +3 % (ten minutes)
	$(BIN)/python -m bench.paired $(BASE)
bench-shares: $(VENV)/ready-to-test ## CPU of a mail by parts: docs/performance.md (two minutes)
	PYTHONPATH=tests $(BIN)/python -m bench.shares
bench-pages: $(VENV)/ready-to-test ## times of console and API with a million mails: docs/on-call.md (ten minutes)
	PYTHONPATH=tests $(BIN)/python -m bench.pages
	PYTHONPATH=tests $(BIN)/python -m bench.pages --worker
bench-large: $(VENV)/ready-to-test ## times of people and runs on a table of two years: docs/on-call.md (15 GB, half an hour)
	PYTHONPATH=tests $(BIN)/python -m bench.large
bench-fat: $(VENV)/ready-to-test ## memory of the sender while mails have attachments of megabytes: docs/performance.md (12 GB pass through it, twenty minutes)
	PYTHONPATH=tests $(BIN)/python -m bench.fat

##@ Make it

.PHONY: build
build: $(VENV)/ready-to-run ## the wheel, in dist/
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-deps --build-constraint constraints.txt \
		--wheel-dir dist .
	@ls dist/mailbatch-*.whl

.PHONY: constraints
constraints: ## find the newest versions that fit, with each Python on the path: constraints.txt
	@$(need-python)
	@found=''; for minor in 11 12 13; do \
		command -v python3.$$minor >/dev/null && python3.$$minor -c '' 2>/dev/null && found="$$found python3.$$minor"; \
	done; "$(PYTHON)" .ci/constraints.py $${found:-"$(PYTHON)"} >constraints.new && mv constraints.new constraints.txt

# uv is needed only here, so it has its own venv. Versions are those of constraints.txt, for every Python and machine.
LOCK = var/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--constraint constraints.txt
LOCKED = deploy/image
.PHONY: lock
lock: $(VENV)/made ## write the image's packages with the hashes of their files: deploy/image (after `make constraints`)
	@test -x var/lock/bin/uv || { $(BIN)/python -m venv var/lock && var/lock/bin/python -m pip install --quiet uv; }
	echo '# Made by `make lock`: do not edit.' | tee $(LOCKED)/build.txt >$(LOCKED)/requirements.txt
	echo hatchling | $(LOCK) - >>$(LOCKED)/build.txt
	$(LOCK) --extra postgres --extra http --extra webhook --extra monitor --extra otel pyproject.toml \
		>>$(LOCKED)/requirements.txt

.PHONY: clean
clean: ## remove everything that make created: .venv, var, dist, caches
	rm -rf $(VENV) $(PEERS) var dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# --- set-up: once, and again when versions change ---

# PYTHON may be empty, too old, without venv, or a name that does not start (an inactive shim of pyenv's).
need-python = "$(PYTHON)" $(usable) || { echo 'mailbatch needs Python 3.11 or newer with venv \
(Debian: apt install python3-venv); name one: make PYTHON=/path/to/python' >&2; exit 1; }

# A venv is made again if its Python was removed, or if making it was interrupted.
$(VENV)/made: constraints.txt
	@$(need-python)
	@echo 'setting up $(VENV) with $(PYTHON) …'
	@$(BIN)/python -c 'import pip' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	@# The pip of a Python may be too old for groups.
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --upgrade pip
	@touch $@

$(VENV)/ready-to-run: $(VENV)/made $(WHEEL_SOURCES)
	@echo 'installing mailbatch …'
	@$(PIP) --editable '.[embedded,http]'
	@touch $@

# The bench's peers have their own venv, because they need other versions.
$(PEERS)/ready: $(VENV)/made bench/peers/requirements.txt bench/peers/constraints.txt
	@echo 'setting up $(PEERS), the senders to compare with …'
	@test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint bench/peers/constraints.txt --requirement bench/peers/requirements.txt
	@touch $@

$(VENV)/ready-to-browse: $(VENV)/ready-to-test
	@echo 'installing the browser driver …'
	@$(PIP) --group browser
	@touch $@

$(VENV)/ready-to-mutate: $(VENV)/ready-to-test
	@echo 'installing coverage …'
	@$(PIP) --group mutants
	@touch $@

$(VENV)/ready-to-test: $(VENV)/made $(WHEEL_SOURCES)
	@echo 'installing mailbatch and the packages of its tests …'
	@$(PIP) --editable '.[all]' --group check --group test
	@touch $@ $(VENV)/ready-to-run
