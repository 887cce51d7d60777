# What a newcomer needs: `make demo` shows it working, `make test` checks it. Both install first.
# PYTHON=/path/to/python3.12 chooses the interpreter the environment is made with.

SHELL := /bin/sh
.DEFAULT_GOAL := help
BIN := .venv/bin
# Written last, so that an installation which was interrupted is resumed by the next one.
STAMP := .venv/.installed
PEERS_STAMP := .venv-peers/.installed
TEST_WORKERS ?= 2

.PHONY: help install demo test check bench-peers bench-serving fuzz fmt lint types imports clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s  %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## make the virtual environment .venv with everything in it
	@echo "Installed in .venv. Next: make demo, or make test."

# The first of these that runs and is new enough. 3.11 leads: constraints.txt was made with it.
# Modules are compiled when they are imported: all at once more than doubles the minutes.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	for candidate in $${PYTHON:-python3.11 python3.12 python3.13 python3}; do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	  echo "make: Python 3.11 or newer is needed; found: $$($${PYTHON:-python3} --version 2>&1 || true)" >&2; \
	  echo "Install it (Debian, Ubuntu: apt-get install python3.11 python3.11-venv;" >&2; \
	  echo "macOS: brew install python@3.11) or name it: PYTHON=/path/to/python3.11 make install" >&2; \
	  exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	  if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "make: $$python cannot make virtual environments: its venv or ensurepip module is missing" >&2; \
	    echo "Install it (Debian, Ubuntu: apt-get install python3-venv), then try again." >&2; \
	    exit 1; \
	  fi; \
	  "$$python" -m venv --clear .venv; \
	fi; \
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[night,bench,otel,dev]' || { \
	  echo "make: the installation stopped; pip says why above." >&2; \
	  echo "It needs a package registry and 3 GB of disk (8 GB where torch comes with CUDA)." >&2; \
	  echo "'make install' carries on from here, 'make clean install' starts afresh." >&2; \
	  exit 1; \
	}
	@touch $@

demo: $(STAMP) ## sample storefront, one night, then a server on 127.0.0.1:8000
	$(BIN)/python -m jobs demo

# A file's tests stay together, for its fixtures; each worker needs 1.5 GB. One thread for matrix
# products in each: teams of two on two cores wait for each other.
test: check ## every check, then every test, TEST_WORKERS of them at once
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## format, lint, types and imports, without the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## rewrite the code as ruff formats it
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP) ## ruff only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP) ## mypy only
	$(BIN)/mypy

imports: $(STAMP) ## import-linter only: which room may know which
	$(BIN)/lint-imports

$(PEERS_STAMP): jobs/peers/requirements.txt
	python3.11 -m venv --clear .venv-peers
	.venv-peers/bin/python -m pip install -r jobs/peers/requirements.txt
	@touch $@

# DATA is a folder that import reads, or one with items.* and sequences.*; empty: the store.
bench-peers: $(STAMP) $(PEERS_STAMP) ## this system beside other libraries: DATA=folder, ARGS=options
	$(BIN)/python -m jobs benchmark-peers $(if $(DATA),--data $(DATA)) \
	  --json $(or $(JSON),data/reports/peers.json) $(ARGS)

bench-serving: $(STAMP) ## a live server beside what HTTP alone costs: ARGS="--items 10000,100000,1000000"
	$(BIN)/python -m jobs benchmark-serving --json $(or $(JSON),data/reports/serving.json) $(ARGS)

fuzz: $(STAMP) ## ten minutes of schemathesis over every endpoint of a live server
	RECSYS_FUZZ_S=600 $(BIN)/pytest tests/api/test_schemathesis.py --timeout 1200 -s

clean: ## remove the environment and every cache; data/ stays
	rm -rf .venv .venv-peers build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
