# Two commands do all the set-up: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INPUTS := tests/requirements.txt pyproject.toml $(wildcard plugins/*/pyproject.toml) certs_tool/pyproject.toml

.PHONY: help demo test brokers lint types docs bench chaos check clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# One virtual environment, made when it is missing and brought up to date when a requirement changed.
$(STAMP): $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit("Switchgear needs Python 3.11 or newer; set PYTHON=") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing what the tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@

demo: $(STAMP) ## the main job on embedded brokers, in two acts, about 35 s
	@$(BIN)/switchgear demo

brokers: ## install the real brokers that the tests use, where this machine allows it
	@sh tests/install_brokers.sh $(if $(SWITCHGEAR_REQUIRE_BROKERS),--require)

test: $(STAMP) brokers ## everything that this machine can run
	@$(BIN)/python -Im pytest $(PYTEST_ARGS)

lint: $(STAMP) ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	@$(BIN)/mypy

docs: $(STAMP) ## build the documentation into site/, warnings are errors
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(STAMP) brokers ## measure beside the peers, one table
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/bench/requirements.txt
	@cd tests/bench && { command -v npm >/dev/null && npm install --no-save --no-audit --no-fund --silent mqtt; } \
	  || echo "MQTT.js is left out: npm is not here, or has no mqtt"
	@$(BIN)/python tests/bench/run.py $(BENCH_ARGS)

chaos: $(STAMP) brokers ## publishers, a consumer and real brokers under hundreds of faults, about 10 min
	@$(BIN)/python tests/chaos/run.py $(CHAOS_ARGS)

check: test lint types docs ## test, lint, types, docs

clean: ## remove what was built
	@rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis
