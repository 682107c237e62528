# Three commands matter: `make app`, `make test` and, before a commit, `make check`. All install what they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: app dev check test lint lint-python lint-types lint-imports lint-sizes lint-spelling lint-front lint-docs format \
	browser proxy compiler wheel lock architecture clean soak kill fuzz bench paper-tables paper-tables-quick

$(VENV)/.app: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt requirements-cluster.txt $(VENV)/.app
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

app: $(VENV)/.app
	$(BIN)/streamlit run app.py --server.port $(PORT)

# Everything a contributor needs: the tools, the package in editable form, and the checks before every commit.
dev: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	if git rev-parse --git-dir >/dev/null 2>&1; then $(BIN)/pre-commit install; fi

# Each check is a target of its own; `make lint` runs them all.
LINT := lint-python lint-types lint-imports lint-sizes lint-spelling lint-front lint-docs
lint: $(VENV)/.dev
	@$(MAKE) --no-print-directory --jobs=2 --output-sync $(LINT)

lint-python:
	$(BIN)/ruff check --output-format=concise .
	$(BIN)/ruff format --check .
lint-types:
	$(BIN)/mypy
lint-imports:
	$(BIN)/lint-imports --no-logo
lint-sizes:
	$(BIN)/python .ci/sizes.py
lint-spelling:
	git ls-files -- '*.py' '*.js' '*.css' '*.html' '*.md' '*.toml' Makefile | xargs $(BIN)/codespell
lint-front:
	$(BIN)/biome ci --colors=off --max-diagnostics=50 .
lint-docs:
	$(BIN)/python .ci/architecture.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/biome check --write .

# Under a minute, without a browser: what to run before every push.
check: lint
	$(BIN)/python -m pytest -n 2 $(QUICK)

QUICK = tests/test_spectral.py tests/test_policy.py tests/test_triggers.py tests/test_frozen_samples.py tests/test_documents.py

# Browser tests drive the system's chromium, the test of the reverse proxy its caddy, and those of compiled code its g++.
# Without root they are skipped; in CI a missing one is a failure.
install = command -v $(1) >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq $(1); } || \
	{ echo "$(1) is not installed: install it with your package manager, or its tests are skipped"; [ -z "$$CI" ]; }
browser:
	@command -v google-chrome >/dev/null || $(call install,chromium)
proxy:
	@$(call install,caddy)
compiler:
	@$(call install,g++)

test: $(VENV)/.dev browser proxy compiler lint
	$(BIN)/python -m pytest -n 2 --dist loadfile $(COVERAGE)

# CI sets this; coverage of the core and the pages is printed as one number for each package.
COVERAGE ?=

# Draw docs/architecture.md again after a change of imports.
architecture: $(VENV)/.dev
	$(BIN)/python .ci/architecture.py --write

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel --outdir dist .

# Pin every package the app needs, with hashes, and list their licenses in docs/sbom.json.
lock: $(VENV)/.dev
	$(BIN)/python .ci/lock.py

clean:
	rm -rf $(VENV) artifacts build dist *.egg-info

# Half an hour of 20 visitors and a busy server: fair turns, steady memory, quick small requests. MINUTES=3 for a short form.
MINUTES ?= 30
soak: $(VENV)/.dev
	$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(SOAK)

# 200 writers killed while they save, 400 flipped bits in each kind of store: nothing lost, nothing wrong taken for good.
kill: $(VENV)/.dev
	$(BIN)/python -m tests.kill

# Foreign input of every kind: each is accepted or refused in one line. Faults are kept in tests/fuzz/corpus and replayed
# by the tests. The seed changes every day.
fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS)
INPUTS ?= 10000

# Where the time goes, what each idea saves, and how far the lab is from what this machine can do, on an idle machine.
# BENCH=--tiny runs every part once, in a minute or two.
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.speed $(BENCH)

# The published tables on our data, beside the published values: benchmarks/results/paper_tables_*.md
paper-tables: $(VENV)/.app
	$(BIN)/python -m benchmarks.paper_tables

paper-tables-quick: $(VENV)/.app
	$(BIN)/python -m benchmarks.paper_tables --quick
