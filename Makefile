# `make demo` and `make test` work on a fresh machine and install what they need.
SHELL := bash
PHOTOS ?=
MODELS ?=
OUT ?= demo-output
KEEP ?=
SHORT ?=
SECONDS ?= 60
MINUTES ?= 25
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo models test lint unit integration faults acceptance bench bench-prepare profile fuzz schemas picture clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the service and the embedded servers only
	@scripts/setup demo

demo: setup ## tag the sample photos end to end on embedded servers (PHOTOS=dir, MODELS=dir: your own; KEEP=1: keep running; OUT=dir)
	@$(BIN)/photo-tagger demo $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(MODELS),--models "$(MODELS)") --output "$(OUT)" $(if $(KEEP),--keep)

models: ## compose data, train both models, publish a new version into triton_models/
	@scripts/setup models
	@$(BIN)/photo-trainer demo-models --repository triton_models

# Each of the processes that these start would compile every module that it imports where this is set.
demo models test unit integration acceptance: export PYTHONDONTWRITEBYTECODE =

# Two workers, each with its own servers, since most tests wait for servers. One compute thread for each,
# since two thread pools on two cores slow each other down.
test: test-setup lint ## set up and run all checks and tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: test-setup
test-setup:
	@scripts/setup test

lint: test-setup ## formatting, lint, types, dependency direction
	@$(BIN)/ruff format --check --quiet . || { echo 'run: .venv/bin/ruff format .'; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

unit integration acceptance: test-setup ## one level of the tests
	@$(BIN)/python -m pytest tests/$@

faults: test-setup ## the fault experiments, long form, for MINUTES=25: adds to the table of docs/explanation/reliability.md
	@$(BIN)/python scripts/faults --minutes $(MINUTES)

bench: setup ## the service beside scripts and frameworks, 15 minutes, into docs/explanation/performance.md (SHORT=1: 2 minutes, printed only)
	@$(BIN)/python -m benchmarks.compare $(if $(SHORT),--short,--record docs/explanation/performance.md)

bench-prepare: test-setup ## CPU time of decoding beside other libraries (PHOTOS=dir: of your photos)
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements/bench.txt
	@$(BIN)/python -m benchmarks.prepare $(if $(PHOTOS),--photos "$(PHOTOS)")

profile: test-setup ## a flame graph of the service under load, profile.svg
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements/bench.txt
	@$(BIN)/python -m benchmarks.path --profile profile.svg

fuzz: test-setup ## coverage-guided fuzzing of decoding, SECONDS=60; findings go to fuzz-findings/
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -r requirements/fuzz.txt
	@$(BIN)/python -m tests.fuzz_prepare $(SECONDS)

schemas: test-setup ## regenerate docs/schemas and docs/reference, and training's copies of the image formats and their metadata, from the code
	@$(BIN)/photo-tagger schemas --output docs/schemas
	@$(BIN)/python scripts/reference
	@cp docs/schemas/image-formats.json consumer/imaging/metadata.py training/data/

picture: ## regenerate the pictures of README and docs from the demo's pages (needs Chromium)
	@scripts/picture
	@scripts/picture demo-output/change.html docs/change.png

clean: ## remove environments, caches and outputs
	rm -rf .venv .venv-servers .cache demo-output profile.svg fuzz-findings .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
