# The first two commands:  make demo  and  make test.  `make help` lists the others.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS   += --no-builtin-rules

# The first interpreter that is new enough and can make virtual environments; `make PYTHON=… demo` names another.
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3
PYTHON ?= $(shell for python in $(CANDIDATES); do \
  $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

ENV  := .venv
ENV1 := .venv-duckdb1
BIN  := $(ENV)/bin

# Tests share nothing, so they run beside each other, one process a core.
PYTEST := pytest --numprocesses=auto --dist=worksteal

# What runs again on the older DuckDB: the store and the engine, not the packaging around them.
# (The tests of files that change hands between the versions run once, and need both.)
ENGINE_TESTS := tests $(patsubst %,--ignore=tests/test_%.py,architecture notebooks readme versions) --ignore=tests/browser \
  --ignore=tests/kernels

# The versions of ipykernel that are tested beside the newest.
KERNELS := .kernels/6.31 .kernels/7.3

# Jupyter refuses root unless told; on loopback and with its token it may, as in a container.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# Installing a browser takes an administrator.
AS_ADMIN := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help demo test check format lint types tests tests-duckdb1 tests-browser chromium kernels notebooks outputs lab bench clean
.NOTPARALLEL:

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- commands ---------------------------------------------------------------

demo: $(ENV)/.demo ## run the first notebook on real data and show its tables
	@$(BIN)/python notebooks/run.py 01_first_job
	@echo
	@echo "The executed notebook and its database are in build/notebooks/."
	@echo "Next: 'make lab' opens this notebook in JupyterLab; 02_kill_and_resume, beside it, kills the job half-way."

test: format lint types notebooks tests-duckdb1 tests-browser tests ## every check that CI runs

check: format lint types ## a developer's quick round: format, lint, types, fast tests
	$(BIN)/$(PYTEST) -q -m "not slow"

lab: $(ENV)/.lab ## open the notebooks in JupyterLab, reachable from this machine only
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 $(AS_ROOT) notebooks/01_first_job.ipynb

bench: $(ENV)/.dev ## what a step costs, beside what the disk and a bare commit cost
	$(BIN)/python -m benchmarks.steps

outputs: notebooks ## run the notebooks and keep their outputs, for those who read them here
	cp build/notebooks/*.ipynb notebooks/

clean: ## remove everything that make made
	rm -rf $(ENV) $(ENV1) .kernels build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find durably_nb tests notebooks -name __pycache__ -prune -exec rm -rf {} +

# --- the checks, one by one -------------------------------------------------

format: $(ENV)/.dev ## is everything formatted?
	$(BIN)/ruff format --check .

lint: $(ENV)/.dev ## ruff, all rules
	$(BIN)/ruff check .

types: $(ENV)/.dev ## mypy, strict
	$(BIN)/mypy

tests: $(ENV)/.dev $(ENV1)/.test kernels ## all tests, on the newest DuckDB
	DURABLY_OTHER_PYTHON=$(CURDIR)/$(ENV1)/bin/python $(BIN)/$(PYTEST) --ignore=tests/browser

kernels: $(KERNELS:=/.made) ## older versions of ipykernel, to be tested beside the newest

tests-duckdb1: $(ENV1)/.test ## store and engine tests on DuckDB 1.5 and pandas 2
	$(ENV1)/bin/$(PYTEST) $(ENGINE_TESTS)

# One browser and one JupyterLab serve them all, so these run one after the other.
tests-browser: $(ENV)/.dev chromium ## the widgets in JupyterLab, in a real browser; pictures go to build/screenshots/
	$(BIN)/pytest tests/browser

# On Debian and Ubuntu it is installed; elsewhere DURABLY_CHROMIUM names the program of a Chromium or Chrome.
chromium:
	@test -n "$${DURABLY_CHROMIUM:-}" || command -v chromium >/dev/null || { \
	  command -v apt-get >/dev/null || { echo "Install Chromium or Chrome and name its program:" \
	    "make DURABLY_CHROMIUM=/path/to/it $(or $(MAKECMDGOALS),chromium)" >&2; exit 1; }; \
	  echo "Installing Chromium and a font ..."; \
	  $(AS_ADMIN) apt-get update -qq; \
	  $(AS_ADMIN) apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu >/dev/null; }

notebooks: $(ENV)/.dev ## the notebooks, each in a real kernel
	$(BIN)/python notebooks/run.py 01_first_job 02_kill_and_resume 04_widgets

# --- environments: made once, and again when pyproject.toml changes ---------

PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager

$(ENV)/.demo $(ENV)/.dev $(ENV)/.lab: $(ENV)/.%: pyproject.toml | $(ENV)/bin/python
	@echo "Installing durably_nb[$*] into $(ENV) (a minute or two) ..."
	@$(ENV)/bin/python $(PIP_INSTALL) --editable '.[$*]'
	@touch $@

$(ENV1)/.test: pyproject.toml | $(ENV1)/bin/python
	@echo "Installing durably_nb[test] with DuckDB 1.5 and pandas 2 into $(ENV1) (a minute or two) ..."
	@$(ENV1)/bin/python $(PIP_INSTALL) --editable '.[test]' 'duckdb>=1.5,<2' 'pandas<3'
	@touch $@

# The package alone with what no later version needs: first on a kernel's path, it stands before the one in $(ENV).
$(KERNELS:=/.made): .kernels/%/.made: | $(ENV)/bin/python
	@echo "Putting ipykernel $* into $(@D) ..."
	@rm -rf $(@D)
	@$(ENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(@D) \
	  'ipykernel==$*.*' nest_asyncio psutil
	@touch $@

%/bin/python:
	$(if $(PYTHON),,$(error No Python 3.11 or newer that can make virtual environments was found. Install one \
	  (on Debian or Ubuntu: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python demo))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=/path/to/python demo" >&2; exit 1; }
	@$(PYTHON) -m venv $*
