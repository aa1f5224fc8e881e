# Everything a person or CI runs. Each target sets up what it needs in .venv, with pip alone.
PYTHON ?= python3
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
BIN := .venv/bin
STAMP := .venv/.ready

PAGE := src/gapless/explorer/static/explorer.html

.PHONY: help setup demo web test test-slow ledger check bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(STAMP)  ## install everything into .venv
	@$(BIN)/python -c "import torch; print('torch', torch.__version__); exit(torch.__version__.split('+')[0] != '$(TORCH)')" \
		|| { echo "error: torch $(TORCH) was wanted (constraints.txt); fix: rm -r .venv and run make setup again" >&2; exit 1; }
	@test -e $(PAGE) -a -e $(dir $(PAGE))runtime.wasm.lzma || ! command -v node >/dev/null || sh web/make.sh $(BIN)/python build || true

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; exit(sys.version_info < (3, 11))" \
		|| { echo "error: Python 3.11 or newer is needed; fix: make PYTHON=python3.12 ..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: setup  ## AE, KL-only and VAE on the built-in digits; ends with the path of the report
	@$(BIN)/gapless demo

web: $(STAMP)  ## build the explorer's page and test it, with the Node at hand or that of its Python wheel
	@sh web/make.sh $(BIN)/python || test $$? -eq 3

test: setup  ## the tests, under 15 minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: setup  ## the tests that take minutes: planted mistakes, long trainings
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

ledger: setup  ## write docs/ledger.md from the assertions of the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:xdist --write-ledger -m "" --ignore tests/test_planted_mistakes.py --ignore tests/test_cli.py --ignore tests/test_readme.py --ignore tests/data

check: setup  ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: setup  ## speed against peers (installed under .bench): make bench DATA=FOLDER BENCH="--one-core"
	$(BIN)/python benchmarks/speed $(if $(DATA),--data $(DATA)) $(BENCH)

clean:  ## remove what was built
	rm -rf .venv .bench runs dist build web/node_modules src/gapless/explorer/static .pytest_cache .ruff_cache .import_linter_cache .hypothesis
