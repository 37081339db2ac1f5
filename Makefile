# make demo and make test each work alone on a fresh clone. TORCH_INDEX: an extra package index for torch, e.g. PyTorch's CPU-only one.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIR ?= demo
PIP_OPTIONS := $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
STAMP := $(VENV)/.installed

.PHONY: install demo test test-slow lint docs clean
install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "downscale needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt -e ".[dev]"
	touch $@

demo: install
	$(BIN)/downscale demo $(DIR)

test: install
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: install
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "(slow or slurm) and not benchmark and not gpu"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check downscale tests
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
