# The commands of this project, each with what it does; `make help` prints them. All but help and clean install what they need
# into .venv first, which takes Python 3.11 or later with venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= auto
SCALE ?= 1
# The tests start hundreds of processes: what Python compiles for the first of them is kept for the others.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test check prove interop soak bench format lint types generated clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' Makefile | expand -t 16

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(READY) ## run the suite against the built-in reference server, over a socket; writes report/conformance.html
	mkdir -p report
	$(BIN)/vfio-user conformance server --html report/conformance.html

test: $(READY) ## all tests, in as many processes as there are processors, or in WORKERS=n
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --timeout 600

check: lint types generated test ## lint, types, generated and test

prove: $(READY) ## what shows that the suite can be believed: our server breaks no rule, each fault is found by what names it
	$(BIN)/vfio-user conformance prove

interop: $(READY) ## QEMU with our devices, fetched from Debian (180 MB, kept in ~/.cache); skips where that cannot be
	-tests/interop/setup
	VFIO_USER_INTEROP=1 $(BIN)/python -m pytest -m interop tests/interop

soak: $(READY) ## long attacks on our server: 10,000 connects, a million messages; SCALE=0.01 for a part of it
	VFIO_USER_SOAK_SCALE=$(SCALE) $(BIN)/python -m pytest -m soak tests/soak

bench: $(READY) ## the benchmarks, each a ratio against its yardstick; fails where one is missed
	missed=0; for each in bench/[a-z]*.py; do $(BIN)/python $$each || missed=1; done; exit $$missed

format: $(READY) ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY) ## the code is in its form, and has none of the mistakes that ruff knows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY) ## every call fits its annotations (mypy --strict)
	$(BIN)/mypy

generated: $(READY) ## the generated modules, and the tables of the document, are what each makes of the other
	$(BIN)/vfio-user spec generate --check
	$(BIN)/vfio-user spec tables --check

clean: ## remove what the other commands made
	rm -rf $(VENV) report dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
