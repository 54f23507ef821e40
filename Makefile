# make mini          everything from nothing to a table (TIER=tiny for the small one)
# make test          the whole test suite, set-up included
# make lint          ruff, which must pass
# make types         ty's opinion, which need not: the libraries' loose types give it hundreds of findings
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
TIER ?= mini
PYTHON ?= python3
BIN := .venv/bin
# Python then keeps the bytecode of torch; without it every command compiles that anew, which takes longer than most.
unexport PYTHONDONTWRITEBYTECODE
# One stamp per lock and pyproject: set-up is done again when either changes, and not otherwise.
STAMP := .venv/.ready-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)

.PHONY: mini test lint types setup
mini: $(STAMP)
	$(BIN)/commonspace recipe $(TIER)

test: $(STAMP)
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/ty check src data_prep

setup: $(STAMP)

# uv inside the environment; pip itself where uv cannot be had.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"; then \
	  VIRTUAL_ENV=$$PWD/.venv $(BIN)/uv pip install --quiet --compile-bytecode -r requirements.lock -e .; \
	else \
	  echo "uv could not be installed; pip takes some minutes"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock -e .; \
	fi
	@rm -f .venv/.ready-*; touch $@
