# Two commands do everything: `make demo` and `make test`. Each sets up what it needs in .venv first.
#   make demo                 the whole pipeline on generated scenes
#   make demo DATA=DIR        the same on a folder in PASCAL VOC's layout
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
export PYTHONSAFEPATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# DeepSpeed's setup.py imports what lies beside it, which PYTHONSAFEPATH forbids; pip's build backend allows it.
INSTALL := $(BIN)/python -m pip install --quiet --no-warn-script-location --use-pep517 --constraint constraints.txt

.PHONY: demo test lint types check clean

demo: $(VENV)/.demo
ifdef DATA
	$(BIN)/camshaft run recipes/demo_voc.yaml data.root="$$(cd "$(DATA)" && pwd)"
else
	$(BIN)/camshaft run recipes/demo.yaml
endif

# A process for each core, of which each has one thread; a file's tests stay together, for they share what is costly.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy -p camshaft.engine -p camshaft.kernels

check: lint types test

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "camshaft needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: setup.py constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV): PyTorch, DeepSpeed and what else camshaft needs (a minute or more)"
	$(INSTALL) --editable '.[weights]'
	touch $@

$(VENV)/.test: setup.py constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) with what the tests need (a few minutes)"
	$(INSTALL) --editable '.[weights,test,lint]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
