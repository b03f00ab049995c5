# `make demo` and `make test` set up everything they need in .venv; nothing is installed outside this folder.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/karui-installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint types contract check clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup: $(STAMP)  ## make the environment, .venv

# constraints.txt pins the whole tree of packages, pyproject.toml the ones that karui itself names.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "karui needs Python 3.11 or newer, not $$($(PYTHON) --version); try: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## build digits-bnn: train, prove bit-exact, place and route, report
	$(BIN)/karui build digits-bnn

test: setup  ## the test suite without the slow regressions
	$(BIN)/pytest -n 2 -m 'not slow'

test-slow: setup  ## the slow regressions: large designs, place and route
	$(BIN)/pytest -m slow

lint: setup  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# An editable install hides the mapping of the folders to `karui.*` from mypy: check an ordinary install.
types: setup  ## mypy, strict
	@rm -rf build/types
	$(BIN)/python -m pip install --quiet --no-deps --target build/types .
	MYPYPATH=build/types $(BIN)/mypy -p karui.sw -p karui.hw -p karui.sim -p karui.flows

contract: setup  ## which package may import which
	$(BIN)/lint-imports

check: test lint types contract  ## all that CI checks

clean:  ## remove builds and caches, keep the environment
	rm -rf out build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
