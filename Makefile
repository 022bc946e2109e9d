# make demo | test | check: each sets up what it needs in .venv, from nothing but Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint check vectors weights bench
setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/primis demo --force

test: setup
	$(BIN)/pytest

lint: setup
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# The vectors of docs/format.md, written anew. Their bytes change: only when the format does.
vectors: setup
	$(BIN)/python -m tests.make_vectors

# The shipped weights, trained anew. DATA is a folder of images; see docs/model-card.md.
weights: setup
	$(BIN)/primis train $(DATA) -o default.safetensors

# Fidelity, sizes and speed on the images under DATA; see benchmarks/README.md.
bench: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt scikit-image
	$(BIN)/python benchmarks/fidelity.py $(DATA)
	$(BIN)/python benchmarks/speed.py $(DATA)
