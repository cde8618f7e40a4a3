# make demo [LIBRARY=folder]   the whole job, small: songs -> shards -> training -> accompaniment -> report
# make test                    lint, types, import contracts, tests
# make test-all                and the slow suites
# make bench                   every embedded stage against the truth, on the frozen test set (BENCH=folder, 8 GB)
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash

PYTHON ?= python3.11
LIBRARY ?=
OUT ?= runs/demo
BENCH ?= runs/bench
BIN := .venv/bin
SLOW := slow or crash or songs or browser

.venv/.installed: pyproject.toml constraints.txt constraints-no-deps.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1,<26.2'
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[songs,s3,ray]' --group dev
	$(BIN)/python -m pip install --no-deps --requirement constraints-no-deps.txt
	touch $@

.PHONY: demo test test-all bench fmt lint
demo: .venv/.installed
	$(BIN)/backline demo --out '$(OUT)' $(if $(LIBRARY),--library '$(LIBRARY)')

lint: .venv/.installed
	$(BIN)/ruff check flows pipeline model tests
	$(BIN)/ruff format --check flows pipeline model tests
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest

test-all: test
	$(BIN)/pytest -m '$(SLOW)' --timeout=1800

bench: .venv/.installed
	$(BIN)/backline bench fetch --root '$(BENCH)'
	$(BIN)/backline bench render --root '$(BENCH)'
	$(BIN)/backline bench stages --root '$(BENCH)'

fmt: .venv/.installed
	$(BIN)/ruff check --fix flows pipeline model tests
	$(BIN)/ruff format flows pipeline model tests
