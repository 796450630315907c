# Needs make and a Python from 3.11 to 3.13; everything else is fetched into .venv.
#
#   make verify ARGS="--backend numpy"     hands ARGS to pytest
#   make test PYTHON=python3.12            chooses the interpreter for a new .venv

PYTHON ?= python3 python python3.13 python3.12 python3.11
VENV ?= .venv
EXTRAS ?= [torch,cupy,examples,dev]
ARGS ?=
BASE ?= main

BIN := $(VENV)/bin
# Touched last, so that it exists only beside an environment whose set-up ran to its end.
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install verify verify-cupy test pythons everything sensitivity lint format types asv bench bench-quick \
	pages ratios gate picture clean

help:  ## Show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

install: $(STAMP)  ## Set up .venv, or bring it up to date

verify: $(STAMP)  ## Verify the backends: pytest properties/, on all processors
	$(BIN)/pytest properties/ -n auto $(ARGS)

verify-cupy: $(STAMP)  ## Verify CuPy's rules and kernels without a GPU, run by g++ where there is one
	@command -v $${CXX:-g++} > /dev/null || echo "no $${CXX:-g++} to run the kernels with: only the rules are verified"
	$(BIN)/pytest properties/ -n auto --no-isolate $(STAND_INS) $(ARGS)

test: $(STAMP)  ## Test gradspec itself: pytest tests/ (what takes long by turns; ARGS=--everything for all of it)
	$(BIN)/pytest tests/ -n auto --dist loadgroup $(ARGS)

pythons:  ## Try the spec, and the tests of it, on each supported Python found, the newest with the newest Hypothesis
	.ci/pythons

everything: asv  ## All that .ci/run tries in part, in full: an hour or two
	$(MAKE) test ARGS=--everything
	$(MAKE) lint types verify verify-cupy gate ratios pythons
	$(MAKE) bench-quick ARGS=--everything
	$(MAKE) sensitivity

sensitivity: $(STAMP)  ## Measure which faults the properties find, and whether any finds fault with what is right
	PYTHONPATH=. $(BIN)/python -m tests.faults $(ARGS)

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

bench-quick: asv  ## Run benchmarks once, for errors, by turns; saves nothing. ARGS="--everything -k tanh" for some
	$(BIN)/asv check --python=same
	GRADSPEC_BENCH_QUICK=1 OMP_NUM_THREADS=1 $(BIN)/pytest tests/asv_bench/every_benchmark.py -q -rs -n auto $(ARGS)

pages: $(STAMP)  ## Make the pages of all results: .asv/html/index.html, and plots beside it
	$(BIN)/asv publish --no-pull
	$(BIN)/python -m asv_bench.pages.make

ratios: $(STAMP)  ## Time the tape beside hand-written NumPy, HIPS autograd and torch, and check what is promised
	$(BIN)/python -m asv_bench.tools.ratios --check $(ARGS)

picture: $(STAMP)  ## Draw the README's picture of a run anew
	$(BIN)/python docs/draw_run.py

gate: $(STAMP)  ## Compare calls, arrays and bytes of every op with those of BASE
	$(BIN)/python -m asv_bench.tools.gate $(BASE)

clean:  ## Remove .venv, builds and caches
	rm -rf .venv .venv-* build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

STAND_INS := --backend tests.stand_ins.backends_on_fake_cupy:composed $(if $(shell command -v $${CXX:-g++}),--backend tests.stand_ins.backends_on_fake_cupy:gpu)

# The first interpreter named that gradspec supports and that can make an environment.
SUPPORTED := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
FOUND = $(shell for python in $(PYTHON); do \
	"$$python" -c '$(SUPPORTED)' 2>/dev/null && echo "$$python" && break; done)

# An environment without its stamp is the rest of an interrupted set-up, and is made anew. Hatchling comes
# first and by itself: built without isolation, the project uses the pinned one. Compiled is what gets imported, then:
# all of it at once would take as long as the rest of the set-up.
$(STAMP): pyproject.toml constraints.txt
	@test -e $@ || $(MAKE) --no-print-directory environment
	@rm -f $@
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt hatchling
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt --no-build-isolation -e ".$(EXTRAS)"
	@touch $@

.PHONY: environment
environment:
	@python="$(FOUND)"; \
	if [ -z "$$python" ]; then \
		echo "gradspec needs Python 3.11, 3.12 or 3.13, with venv; none of these is one: $(PYTHON)" >&2; exit 1; \
	fi; \
	echo "$$python -m venv --clear $(VENV)"; \
	"$$python" -m venv --clear $(VENV)
