# The two commands: `make serve` and `make test`. Everything happens in .venv; nothing is installed elsewhere.

PYTHON ?= python3
PORT ?= 8080
DIR ?= samples
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install serve test lint format type imports bench quality settings fuzz clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/installed ## .venv with imgserver in it

# The recipe reads the folder from the environment: its name may contain spaces and quotes.
serve: export DIR := $(DIR)
serve: $(VENV)/installed ## serve DIR=samples on PORT=8080 and print URLs to click
	@case "$$DIR" in "~") DIR=$$HOME ;; "~/"*) DIR=$$HOME/$${DIR#??} ;; esac; exec $(BIN)/imgserver serve --port "$(PORT)" -- "$$DIR"

test: $(VENV)/tested ## all tests, one process per core (ARGS="-x -k purge" for some, ARGS="-n 0 --pdb" to debug)
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

lint: $(VENV)/tested ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/tested ## let ruff repair and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(VENV)/tested ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/tested ## layers and the libvips airlock (import-linter)
	$(BIN)/lint-imports

bench: $(VENV)/tested ## load and CPU cost against bare libvips and a bare handler (ONLY=misses for one group)
	$(BIN)/python -m benchmarks $(ONLY)

quality: $(VENV)/tested ## picture quality (SSIMULACRA2) and CPU of ways to scale
	$(BIN)/python -m benchmarks.quality

settings: $(VENV)/installed ## write config/imgserver.toml and docs/settings.md anew
	$(BIN)/imgserver config init > $(VENV)/sample && mv $(VENV)/sample config/imgserver.toml
	$(BIN)/imgserver config init --markdown > $(VENV)/page && mv $(VENV)/page docs/settings.md

fuzz: $(VENV)/fuzzed ## what takes text from strangers, guided by coverage, SECONDS=60 in all (ONLY=forms for one)
	$(BIN)/python -m tests.fuzz --seconds "$(or $(SECONDS),60)" $(ONLY)

clean: ## remove .venv, caches and build leftovers
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps make a second run instant; a changed requirement or pin makes them stale.
$(VENV)/installed: setup.cfg pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "imgserver needs Python 3.11 or newer, and $(PYTHON) is %d.%d; try: make $(MAKECMDGOALS) PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Installing imgserver into $(VENV) (once; about 125 MB on disk)"
	@"$(PYTHON)" -m venv $(VENV) || { echo "python3 -m venv failed; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(PIP) --editable .
	@touch $@

$(VENV)/tested: $(VENV)/installed
	@echo "Installing what the tests need into $(VENV) (once)"
	@$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/fuzzed: $(VENV)/tested
	@$(PIP) --editable '.[test,fuzz]'
	@touch $@
