# The commands of this project; each installs what it needs into .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS ?= auto
SCALE ?= 1

.PHONY: help demo test check prove interop soak format lint types generated bench clean

help:
	@echo "make demo    run the suite against the built-in reference server, over a socket; writes report/conformance.html"
	@echo "make test    all tests"
	@echo "make check   format, lint, types, generated files, tests"
	@echo "make prove   what shows that the suite can be believed: our server breaks no rule, each fault is found by what names it"
	@echo "make interop QEMU with our devices, fetched from Debian (180 MB, kept in ~/.cache); skips where that cannot be"
	@echo "make soak    long attacks on our server: 10,000 connects, a million messages; SCALE=0.01 for a part of it"
	@echo "make bench   the benchmarks, each a ratio against its yardstick"
	@echo "make format  put the code into its form;  make generated  compare generated files with the document"

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(READY)
	mkdir -p report
	$(BIN)/vfio-user conformance server --html report/conformance.html

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(WORKERS)

check: lint types generated test

prove: $(READY)
	$(BIN)/vfio-user conformance prove

interop: $(READY)
	-tests/interop/setup
	VFIO_USER_INTEROP=1 $(BIN)/python -m pytest -m interop tests/interop

soak: $(READY)
	VFIO_USER_SOAK_SCALE=$(SCALE) $(BIN)/python -m pytest -m soak tests/soak

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

generated: $(READY)
	$(BIN)/vfio-user spec generate --check
	$(BIN)/vfio-user spec tables --check

bench: $(READY)
	missed=0; for each in bench/[a-z]*.py; do $(BIN)/python $$each || missed=1; done; exit $$missed

clean:
	rm -rf $(VENV) report dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
