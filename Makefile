# `make book` and `make test` set themselves up. Needs GNU make 3.81 or later and Python 3.11 or 3.12.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
# The first that runs: a name on the PATH may be a version manager's shim. Another: make book PYTHON=/path/to/it
PYTHON ?= $(shell for name in python3.12 python3.11 python3; do \
  $$name -c '$(SUPPORTED)' >/dev/null 2>&1 && echo $$name && break; done)
WHICH := needs Python 3.11 or 3.12: install one of them, or name one with make PYTHON=/path/to/python3.12

# `test -w` also sees a folder that is mounted for reading only.
WRITABLE := test -w . || { echo 'Cannot write to '"$$(pwd)"': .venv, book/executed and _build are made there. Copy the checkout to a folder of your own.' >&2; exit 1; }

# pip says only what matters.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
# The profile that the pages show, paper or cpu; where it is empty, each page shows its own.
PROFILE ?=

.PHONY: help book pdf test quick lint verify clean

help:
	@echo 'make book    set up, run the stale pages, build the book into _build/html'
	@echo '             with PROFILE=paper: pages of that profile, where there are rows'
	@echo 'make pdf     set up, build the book, print it as _build/html/sgaplus-book.pdf (needs Chromium)'
	@echo 'make test    set up, run the tests, with Python 3.12 print the coverage; PYTEST_ARGS go to pytest'
	@echo 'make quick   set up, run the tests that are not slow'
	@echo 'make lint    set up, check style, types and spelling'
	@echo 'make verify  set up, decode all stored files and compare them with the stored rows'
	@echo 'make clean   remove the built book and the executed pages (.venv stays)'

$(READY): requirements.lock pyproject.toml
	@$(WRITABLE)
	@test -x $(BIN)/python || test -n '$(PYTHON)' || { echo 'sgaplus $(WHICH).' >&2; exit 1; }
	@test -x $(BIN)/python || '$(PYTHON)' -c '$(SUPPORTED)' 2>/dev/null \
	  || { echo 'sgaplus $(WHICH); found '"$$('$(PYTHON)' --version 2>&1 | head -n 1)"'.' >&2; exit 1; }
	@test -x $(BIN)/python || '$(PYTHON)' -m venv $(VENV) \
	  || { rm -rf $(VENV); echo 'sgaplus needs the module venv of Python (Debian: apt-get install python3-venv).' >&2; exit 1; }
	@$(BIN)/python -c '$(SUPPORTED)' \
	  || { echo 'sgaplus $(WHICH); $(VENV) has another one: remove it and run make again.' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	@echo 'Installing the pinned packages into $(VENV), once …'
	@$(BIN)/python -m pip install --quiet -r requirements.lock \
	  || { echo 'The pinned packages could not be installed: is the package registry in reach?' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Sphinx warns only of the sources that it reads: after a failure all of them have to be read again.
book: $(READY)
	@$(WRITABLE)
	@SGAPLUS_PROFILE='$(PROFILE)' $(BIN)/jupyter-book build -W -n --keep-going book/ || { rm -rf _build/.doctrees; exit 1; }
	@test -s _build/html/index.html || { echo 'The build wrote no _build/html/index.html.' >&2; exit 1; }
	@echo 'The book is ready: open _build/html/index.html in a browser.'

pdf: book
	@$(BIN)/python -m companion.pdf

# One process per core; the tests of a file stay together, since they share what they set up; tests/conftest.py
# says which files begin.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# Before Python 3.12 it makes the tests take much longer.
COVERAGE = $(shell $(BIN)/python -c 'import sys; print("--cov --cov-report=term" * (sys.version_info >= (3, 12)))')

test: $(READY)
	@$(PYTEST) $(COVERAGE) $(PYTEST_ARGS)

quick: $(READY)
	@$(PYTEST) -q -m 'not slow' $(PYTEST_ARGS)

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/codespell

verify: $(READY)
	@$(BIN)/sgaplus verify

clean:
	rm -rf _build book/executed
