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

.PHONY: fuzz venv demo fast test test-all test-isa check test-gpu docs web browser clean

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

# The studio's pages, from web/ into the package. Takes Node; users need none.
web: $(STAMP) web/node_modules
	$(BIN)/python -m tools.studio_schema web/openapi.json
	cd web && npm run --silent types && npm run --silent format && npm run --silent check && npm run --silent build

web/node_modules: web/package.json web/package-lock.json
	cd web && npm ci --silent --no-audit --no-fund
	touch $@

# What the tests of the studio's pages take: a browser, and Node to build the pages anew.
browser: $(STAMP)
	@if command -v chromium >/dev/null; then true; \
	elif command -v apt-get >/dev/null && test "$$(id -u)" = 0; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null \
		|| echo "Chromium could not be had; the tests that take it are skipped."; \
	else echo "Install Chromium so that 'chromium' is found (Debian, as root: apt-get install chromium; Fedora: dnf install chromium)," \
		"or name another with LORASMITH_BROWSER=/path/to/chrome."; exit 1; fi
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory web/node_modules \
		|| echo "The packages that build the pages could not be had; whether the sources give the bundle is not tested."; \
	else echo "Without Node the committed bundle is tested, not whether the sources give it."; fi

clean:
	rm -rf $(VENV) demo dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
