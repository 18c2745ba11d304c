# make demo   see a whole search in a few minutes        make test    run the tests
# make check  lint, types, tests: what CI runs            make install just the environment

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo install test lint types check

demo: $(VENV)/installed-for-use
	$(BIN)/visionsweep run quickstart --name $(RUN)
	$(BIN)/visionsweep export runs/$(RUN) --out exports/$(RUN)

install: $(VENV)/installed

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not with_ray" --numprocesses auto --dist loadfile
	$(BIN)/python -m pytest -m with_ray --numprocesses 2 --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed
	$(BIN)/mypy

check: lint types test

# What the demo needs, and what a search needs. Both are made anew when the dependencies change. Without make, these are
# the plain pip lines of the README.
$(VENV)/installed-for-use: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "visionsweep needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.12")'
	@echo "Installing into $(VENV), once: torch, Ray and others, 6.6 GB on Linux. It takes minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on --editable '.[lite]' --constraint constraints.txt
	touch $@

# The tools of development too.
$(VENV)/installed: $(VENV)/installed-for-use
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,lite]' --constraint constraints.txt
	touch $@
