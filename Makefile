PYTHON ?= python3
SEEDS ?= 100
POSTGRES15 ?= /usr/lib/postgresql/15/bin
# Many tests wait for something: four processes keep two cores busy.
TEST_PROCESSES ?= 4
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Without build isolation pip fetches nothing that the lock does not pin by hash.
INSTALL_CHECKOUT := $(PIP) install --no-deps --no-build-isolation -e .
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-index-url --no-emit-find-links pyproject.toml

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo serve test test-all check format chaos bench bench-large lock clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/runtime ## one redemption from request to executed, on a database of its own (ARGS=--once ends after it)
	$(BIN)/counterfoil demo $(ARGS)

serve: .venv/runtime ## serve on 127.0.0.1:8640 with the embedded database
	$(BIN)/counterfoil serve $(ARGS)

test: .venv/dev ## the fast tests; needs nothing but this checkout
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal -m "not slow" $(ARGS)

test-all: check ## every check and test, on PostgreSQL 18 and on Debian's 15
	tools/postgres15.sh $(POSTGRES15)
	COUNTERFOIL_TEST_POSTGRES15=$(POSTGRES15) $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(ARGS)

check: .venv/dev ## linter, formatter, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/dev ## put the code into the form that check wants
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

chaos: .venv/dev ## kill executors and the database at random, again and again (SEEDS=100)
	COUNTERFOIL_TEST_CHAOS_SEEDS=$(SEEDS) $(BIN)/python -m pytest -s tests/executor/test_chaos.py $(ARGS)

bench: .venv/dev ## measure, in under five minutes
	$(BIN)/python -m bench $(ARGS)

bench-large: .venv/dev ## measure what needs a million rows
	$(BIN)/python -m bench --large $(ARGS)

lock: .venv/dev ## resolve the dependencies anew into the two lock files
	$(PIP) install uv
	$(COMPILE) --group build --upgrade -o requirements.lock
	$(COMPILE) --group dev --constraint requirements.lock --upgrade -o requirements-dev.lock

clean: ## remove all that make has made
	rm -rf .venv build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/runtime: requirements.lock pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r requirements.lock
	$(INSTALL_CHECKOUT)
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r requirements-dev.lock
	$(INSTALL_CHECKOUT)
	@touch $@ .venv/runtime
