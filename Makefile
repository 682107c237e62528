# Two commands matter: `make app` and `make test`. Both install all they need into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: app test lint format clean browser

$(VENV)/.app: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.app
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

app: $(VENV)/.app
	$(BIN)/streamlit run app.py --server.port $(PORT)

# Browser tests drive the system's chromium; without root they are skipped, in CI they are not.
browser:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq chromium; } || \
		echo "chromium is not installed: browser tests will be skipped (install it with your package manager)"

test: $(VENV)/.dev browser lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) artifacts

# The published tables on our data, beside the published figures: benchmarks/results/paper_tables_*.md
.PHONY: paper-tables paper-tables-quick
paper-tables: $(VENV)/.app
	$(BIN)/python -m benchmarks.paper_tables

paper-tables-quick: $(VENV)/.app
	$(BIN)/python -m benchmarks.paper_tables --quick
