# make demo   a picture from the bundled model, in a scratch root ./demo
# make test   the whole test suite
# make check  linters and tests: what .ci/run runs
# make bench  speed and memory, beside plain diffusers and cp; wants a quiet machine
# make bench-models   import of full-size models, thousands of LoRAs, hostile files; wants 25 GB of disk
# Everything is installed once, into .venv: with uv when it is there, else with venv and pip.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test lint format check bench bench-models clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stamp says that what these two files ask for is installed.
STAMP := $(VENV)/.installed
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than 3.11. Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
ifneq ($(UV),)
	test -x $(BIN)/python || uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV)
	uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt -e . --group dev
else
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install -c constraints.txt -e . --group dev
endif
	@# A CPU torch with a CUDA torchvision installs well and fails at import, so it is imported here.
	@$(BIN)/python -c 'import torch, torchvision' \
		|| { echo "torch and torchvision do not fit together: install both from one index, of one release." >&2; exit 1; }
	@touch $(STAMP)

demo: install
	$(BIN)/invokeai-daemon demo

# Files stay together: their tests share models that take seconds to make.
test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: lint test

bench: install
	$(BIN)/python -m benchmarks.bench_daemon
	$(BIN)/python -m benchmarks.bench_jobs
	$(BIN)/python -m benchmarks.bench_render
	$(BIN)/python -m benchmarks.bench_adapters
	$(BIN)/python -m benchmarks.bench_mixed
	$(BIN)/python -m benchmarks.bench_memory
	$(BIN)/python -m benchmarks.soak_kills

bench-models: install
	$(BIN)/python -m benchmarks.bench_models

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache demo
