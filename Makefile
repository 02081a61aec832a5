# The commands of README.md and CONTRIBUTING.md, and the environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := runs/demo
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal
SLOW_TESTS := tests/paper tests/benchmarks tests/examples

.PHONY: demo test test-paper paper install lint format clean

demo: $(READY)  ## Train on 5,000 real digits, encode, decode, and draw the report
	$(BIN)/sdlgm fit mnist-5k --config examples/demo.yaml --out $(DEMO) --overwrite
	$(BIN)/sdlgm encode $(DEMO) mnist-5k --split test --out $(DEMO)-codes.parquet
	$(BIN)/sdlgm decode $(DEMO) $(DEMO)-codes.parquet --out $(DEMO)-decoded.npy
	$(BIN)/sdlgm report $(DEMO)

test: $(READY)  ## Run the tests of the library
	$(PYTEST) $(addprefix --ignore ,$(SLOW_TESTS))

test-paper: $(READY)  ## Run the tests of the paper's experiments, the benchmarks and the examples
	$(PYTEST) $(SLOW_TESTS)

paper: $(READY)  ## Run an experiment of the paper: make paper NAME=table1; without NAME, list them
	$(BIN)/python -m paper $(or $(NAME),--help)

install: $(READY)  ## Set up .venv with everything that the tests need

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sdlgm needs Python 3.11 or newer; say which with: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[codec,data,hub,onnx,report,scale,dev]'
	touch $@

lint: $(READY)  ## Run the checks of pre-commit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the environment and all runs
	rm -rf $(VENV) runs
