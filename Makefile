PYTHON ?= $(shell command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test matrix check lint types lock clean

setup: $(READY)

$(READY): pyproject.toml locks/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
	  echo "edgeward needs Python 3.10 or later: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 5; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "this Python cannot make virtual environments: apt-get install python3-venv"; exit 5; }
	@echo "setting up $(VENV) (about a minute the first time)"
	@rm -f $@
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c locks/dev.txt -e '.[dev]'
	@touch $@

demo: setup
	@$(BIN)/python examples/demo

test: lint types
	@$(BIN)/python -m pytest --dist loadfile -m "not matrix"

matrix: setup
	@$(BIN)/python -m pytest -m matrix

check: lint types
	@$(BIN)/python -m pytest -m "not slow"

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/vermin --quiet --target=3.10- --no-tips --eval-annotations --violations \
	  runtimes targets fleet src/edgeward/*.py

types: setup
	@$(BIN)/mypy

lock: setup
	@$(BIN)/python locks/update.py

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .ruff_cache .pytest_cache
