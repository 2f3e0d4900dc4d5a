# Everything a newcomer needs: make demo, make test, make check, make docs. Needs python3.11 (or newer) and make only.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

.PHONY: help demo test lint check docs bench clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo    install into .venv, train a controller, certify and find sets it never leaves, refute a claim'
	@echo 'make test    install into .venv, then the test suite'
	@echo 'make lint    the checks without the test suite'
	@echo 'make check   format, lint, types, layers, documentation, tests: the same as continuous integration'
	@echo 'make docs    the documentation as a web site in site/'
	@echo 'make bench   the benchmark table (set HOLDFAST_BENCHMARKS)'
	@echo 'make clean   remove .venv and everything built'

# A stamp per set of dependencies: nothing is installed twice, nothing that is not needed.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[examples]'
	@touch $@

$(VENV)/.installed-test: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[examples,test]'
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-dev: $(INPUTS) | $(BIN)/python
	$(PIP) --editable '.[examples,test,docs,dev]'
	@touch $@ $(VENV)/.installed-test $(VENV)/.installed-demo

demo: $(VENV)/.installed-demo
	$(BIN)/python scripts/demo.py

test: $(VENV)/.installed-test
	scripts/test $(ARGS)

lint: $(VENV)/.installed-dev
	scripts/check --no-tests

check: $(VENV)/.installed-dev
	scripts/check

docs: $(VENV)/.installed-dev
	$(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.installed-demo
	scripts/bench

clean:
	rm -rf $(VENV) site build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output
