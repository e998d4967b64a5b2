# Everything from a bare clone: `make run` shows it working, `make test` proves it.
# PYTHON=/path/to/python3.12 make ... chooses the interpreter (3.11 or newer).

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV_VERSION := 0.13.9
SOURCES := scripts tests hatch_build.py

.PHONY: setup run test fuzz drill test-slurm lint lock bench clean

setup: $(READY)

# Done again only when the lock file changes; afterwards nothing here needs the network.
$(READY): requirements.lock
	@sh .ci/make-venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup
	@$(BIN)/python scripts/run_demo.py

# Three at once, also on two cores: most tests wait, as politeness does.
test: setup
	@$(BIN)/python -m pytest -n 3 --dist worksteal

# Runs that are killed again and again, against servers of every bad kind; no round begins after
# SECONDS, and fewer ROUNDS than asked for are told and exit 1. `make drill ROUNDS=1000 SECONDS=9000`
ROUNDS := 100
SECONDS := 900
drill: setup
	@$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --seconds $(SECONDS)

# Every property, with more examples: URLs, headers, configs, lists, archives, images; some minutes.
# EXAMPLES=20000 make fuzz, or make fuzz EXAMPLES=20000: each property with so many, instead of 600.
fuzz: setup
	@$(BIN)/python -m pytest -n 2 --dist worksteal -m hypothesis --hypothesis-profile fuzz --timeout 0 tests/unit

# On a real Slurm of four nodes on this machine: as root; what is missing is installed, see the script.
test-slurm: setup
	@sh tests/slurm/install
	@PATH="$$PATH:/usr/sbin:/sbin" $(BIN)/python -m pytest tests/slurm -n 4 --dist worksteal

lint: setup
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/snakefmt --check workflow rules
	$(BIN)/snakemake --lint --configfile config/demo.yaml

# Exact versions with hashes for every platform and Python that has wheels; names no package host.
lock:
	@sh .ci/make-venv build/lock
	@build/lock/bin/python -m pip install -qq --disable-pip-version-check uv==$(UV_VERSION)
	@build/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements.lock

# Figures of every benchmark; SIZE=--tiny only shows that each still works, in a minute.
bench: setup
	@$(BIN)/python -m tests.benchmarks $(SIZE)

clean:
	rm -rf $(VENV) build dist demo out .pytest_cache .mypy_cache .ruff_cache .hypothesis
