# Needs make and a Python from 3.11 to 3.13; everything else is fetched into .venv.
#
#   make verify ARGS="--backend numpy"     hands ARGS to pytest
#   make test PYTHON=python3.12            chooses the interpreter for a new .venv

PYTHON ?= python3 python python3.13 python3.12 python3.11
ARGS ?=
BASE ?= main

BIN := .venv/bin
# Touched last, so that it exists only beside an environment whose set-up ran to its end.
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install verify test sensitivity lint format types asv bench bench-quick pages gate clean

help:  ## Show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: $(STAMP)  ## Set up .venv, or bring it up to date

verify: $(STAMP)  ## Verify the backends: pytest properties/, on all processors
	$(BIN)/pytest properties/ -n auto $(ARGS)

test: $(STAMP)  ## Test gradspec itself: pytest tests/
	$(BIN)/pytest tests/ -n auto $(ARGS)

sensitivity: $(STAMP)  ## Measure which faults the properties find, and whether any finds fault with what is right
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

lint: $(STAMP)  ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(STAMP)  ## Mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(STAMP)  ## Check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

asv: $(STAMP)  ## Set up asv: from then on .venv/bin/asv run, continuous, publish, preview
	@$(BIN)/asv machine --yes > /dev/null  # which asks its questions even so

bench: asv  ## Benchmark the last commit: asv run, with the samples that comparisons need
	$(BIN)/asv run --record-samples HEAD^! $(ARGS)

bench-quick: asv  ## Run every benchmark once, for errors; saves nothing. ARGS="-k tanh" for some of them
	$(BIN)/asv check --python=same
	GRADSPEC_BENCH_QUICK=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/every_benchmark.py -q -rs -n auto $(ARGS)

pages: $(STAMP)  ## Make the pages of all results: .asv/html/index.html, and plots beside it
	$(BIN)/asv publish --no-pull
	$(BIN)/python -m asv_bench.pages.make

gate: $(STAMP)  ## Compare calls, arrays and bytes of every op with those of BASE
	$(BIN)/python -m asv_bench.gate $(BASE)

clean:  ## Remove .venv, builds and caches
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first interpreter named that gradspec supports and that can make an environment.
SUPPORTED := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
FOUND = $(shell for python in $(PYTHON); do \
	"$$python" -c '$(SUPPORTED)' 2>/dev/null && echo "$$python" && break; done)

# An environment without its stamp is the rest of an interrupted set-up, and is made anew. Hatchling comes
# first and by itself: built without isolation, the project uses the pinned one.
$(STAMP): pyproject.toml constraints.txt
	@test -e $@ || $(MAKE) --no-print-directory environment
	@rm -f $@
	$(BIN)/python -m pip install --quiet -c constraints.txt hatchling
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[torch,cupy,dev]"
	@touch $@

.PHONY: environment
environment:
	@python="$(FOUND)"; \
	if [ -z "$$python" ]; then \
		echo "gradspec needs Python 3.11, 3.12 or 3.13, with venv; none of these is one: $(PYTHON)" >&2; exit 1; \
	fi; \
	echo "$$python -m venv --clear .venv"; \
	"$$python" -m venv --clear .venv
