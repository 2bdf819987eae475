# Everything runs in .venv, which the first target that needs it builds from pyproject.toml and constraints.txt.
# A stamp remembers that it was built, so that later calls start at once.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter that .venv is made with: the first one on this machine that the package supports.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
# Test processes at a time. Each of them computes on one thread. One that is done takes over half of what another still has
# to do, in one piece: the fixtures of a module are seldom made twice, and no process waits for a long tail.
WORKERS ?= 2
# Where `make demo` writes.
OUT ?= demo

BIN := .venv/bin
INSTALLED := .venv/.installed
COMPILED := .venv/.compiled

.PHONY: help
help: ## Say what there is (this list)
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: $(INSTALLED) ## Train the small text and image families, measure them, draw the figure (OUT=demo)
	$(BIN)/spectral-reach demo --out $(OUT)

.PHONY: test
test: $(COMPILED) ## Run every test (WORKERS=2 processes)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

.PHONY: test-fast
test-fast: $(COMPILED) ## Run the tests that take seconds
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

.PHONY: lint
lint: $(INSTALLED) ## Check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: bench
bench: $(INSTALLED) ## Compare the estimators' cost side by side on this machine (with Opacus, a baseline)
	$(BIN)/pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/estimators.py

.PHONY: bench-spectrum
bench-spectrum: $(INSTALLED) ## Time spectra and take their peak memory on this machine (about ten minutes)
	$(BIN)/python benchmarks/spectrum.py

.PHONY: docs
docs: $(INSTALLED) ## Build the documentation into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/docs

.PHONY: clean
clean: ## Remove the environment, caches and build products (results stay)
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt --upgrade pip
	$(BIN)/pip install --no-compile -c constraints.txt -e ".[studies,data,ray,report,test,lint]"
	@touch $@

# Bytecode of what was installed: pip would make it on one core, here it comes from all of them, or beside `make lint`.
# Tests must not meet a package that has none: what the compiler warns of would be an error in them. A package may bring
# files for another Python, which do not compile; nothing imports those.
$(COMPILED): $(INSTALLED)
	$(BIN)/python -m compileall -qq -j 0 -x '/(tests|transformers/models|ray/(rllib|serve|tune|train))/' .venv/lib || true
	@touch $@
