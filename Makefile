# make demo | test | test-core | check: each sets up what it needs in .venv, from nothing but
# Python 3.11 or later and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-core lint check api vectors kernel viewer weights bench
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.venv/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/test: .venv/base
	$(PIP) -e ".[test]"
	touch $@

.venv/dev: .venv/base
	$(PIP) -e ".[dev]"
	touch $@

demo: .venv/base
	$(BIN)/primis demo --force

# Each process with one thread: together they have as many as there are cores.
test: .venv/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile -rs

# As in a plain installation, even where torch is there; in under two minutes.
test-core: .venv/test
	$(BIN)/python -m pytest -p tests.without_extras tests/core

lint: .venv/dev
	$(BIN)/ruff check src tests benchmarks docs/*.py examples
	$(BIN)/ruff format --check src tests benchmarks docs/*.py examples
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# docs/api.md, from the docstrings of what `import primis` offers.
api: .venv/base
	$(BIN)/python docs/write_api.py

# The vectors of docs/format.md, written anew. Their bytes change: only when the format does.
vectors: .venv/dev
	$(BIN)/python -m tests.make_vectors

# The coder's kernel, compiled anew to the very bytes that ship.
kernel: .venv/dev
	$(BIN)/python -m tests.build_kernel src/primis/codes/kernel/kernel.wasm

# The browser's viewer, built anew to the very bytes that ship: needs Node.js 20 or later. Kernel,
# graphs and weights are served from where Python has them, without a second copy.
STATIC := src/primis/viewer/static
viewer:
	cd viewer && npm ci && npm run build
	rm -rf $(STATIC)
	cp -R viewer/dist $(STATIC)
	rm -rf $(STATIC)/assets/weights $(STATIC)/assets/kernel.wasm $(STATIC)/assets/*-decode.onnx
	$(PYTHON) docs/write_sums.py

# Weights, trained anew: DATA is a folder of images or a table, PRESET default or paper; see docs/model-card.md.
PRESET ?= default
weights: .venv/dev
	$(BIN)/primis train $(DATA) --preset $(PRESET) -o $(PRESET).safetensors

# Rate and distortion, and speed, on the images under DATA; see benchmarks/README.md.
bench: .venv/dev
	$(BIN)/python benchmarks/rate_distortion.py $(DATA)
	$(BIN)/python benchmarks/matched.py $(DATA)
	$(BIN)/python benchmarks/speed.py $(DATA)
	$(BIN)/python benchmarks/training_speed.py
