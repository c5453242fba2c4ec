# Everything rests on .venv; its stamp is renewed when the project's needs change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The one torch that the constraints name, so that no other package draws a newer one.
TORCH := $(shell grep '^torch==' constraints.txt)

# In the order of their names, in which what trains comes early: a long file at the end would leave
# the other cores idle.
IN_PARALLEL := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 \
	--dist loadfile --no-loadscope-reorder

# Where an environment forbids compiled files, each process that a test starts would compile all anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: fuzz venv demo fast test test-all test-isa check test-gpu docs clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/lorasmith demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lorasmith docs --check

test: check
	$(IN_PARALLEL) --durations=15 tests

# The quick part: under two minutes on two cores. It has a test of every subject, and trains little.
fast: $(STAMP)
	$(IN_PARALLEL) -m "not slow and not broad" tests

# What is slow and broad too.
test-all: check
	$(IN_PARALLEL) --durations=15 -m '' tests

# The numeric tests with the instructions of other processors.
test-isa: $(STAMP)
	$(BIN)/python tests/isa.py

# So many seconds of processor time for each reader of files and texts; what breaks one is kept in .fuzz/.
FUZZ_SECONDS ?= 60
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.runner --seconds $(FUZZ_SECONDS)

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -q -m gpu tests

docs: $(STAMP)
	$(BIN)/lorasmith docs settings
	$(BIN)/lorasmith docs commands
	$(BIN)/lorasmith docs schedules
	$(BIN)/python -m tools.architecture
	$(BIN)/python -m tools.audit_rules

clean:
	rm -rf $(VENV) demo dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
