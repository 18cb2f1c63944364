# `make demo` and `make test` each create .venv, install what they need and run; quick when it is there.
PYTHON ?= python3
# A package index for torch alone, e.g. TORCH_INDEX=https://... for the CPU build on a machine without a GPU.
TORCH_INDEX ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-extras check setup clean

demo: .venv/.core
	$(BIN)/baihua demo

setup: .venv/.core

# One thread for each process: tiny models lose more to threads that wait for each other than they gain.
test test-extras: export OMP_NUM_THREADS = 1

test: .venv/.test
	$(BIN)/python -m pytest -m "not extras" --numprocesses 2 --dist loadfile

test-extras: .venv/.extras
	$(BIN)/python -m pytest -m extras

check: .venv/.test
	$(BIN)/ruff format --check src tests tools bench
	$(BIN)/ruff check src tests tools bench
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python tools/shape.py --check
	$(BIN)/python tools/check_starter.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis

.venv/.venv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Baihua needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	touch $@

# torch goes first and alone, so that its index, if one is given, serves nothing else.
.venv/.torch: .venv/.venv constraints.txt
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	touch $@

.venv/.core: .venv/.torch pyproject.toml
	$(PIP) --editable .
	touch $@

.venv/.test: .venv/.core
	$(PIP) --editable '.[test,check,gpu]'
	touch $@

.venv/.extras: .venv/.test
	$(PIP) --editable '.[test,check,gpu,cluster]'
	touch $@
