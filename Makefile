# Every command of the project. `make help` lists them; each installs what it needs and says so.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
PYTHON := $(VENV)/bin/python
PYTEST := $(PYTHON) -m pytest
SOURCES := operator runtimes localcluster examples tests benchmarks
# Every process would compile all that it imports anew where the environment forbids to keep that.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-fast test-long verify format bench generate images clean-local

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.ready: requirements.lock pyproject.toml
	@echo "setup: Python environment in $(VENV) (about 700 MB, a minute on a fast line)"
	@.ci/system-packages
	@test -x $(PYTHON) || python3 -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(VENV)/bin/uv pip sync --quiet --python $(PYTHON) requirements.lock
	@$(VENV)/bin/uv pip install --quiet --python $(PYTHON) --no-deps uv==0.13.9 -e .
	@touch $@

setup: $(VENV)/.ready ## the Python environment that every other command uses

demo: setup ## the main job end to end on real data: train, serve, drift, retrain, promote, revert
	@$(PYTHON) -m examples.rain.demo

test: setup ## everything but the long fault and soak tests
	@$(PYTHON) -m localcluster.project perennial git s3 trivial runtime gateway
	@$(PYTEST) -n 3 --dist loadgroup -m "not long" tests

test-fast: setup ## unit and component layers, under a minute
	@$(PYTEST) -n 2 --dist loadfile -q tests/unit tests/golden tests/contract tests/component --ignore=tests/component/slow

test-long: setup ## fault and soak tests
	@$(PYTEST) -m long tests

verify: setup ## format, lint, types, layers, generated files, spelling; leaves a clean tree
	@$(VENV)/bin/ruff format --check $(wildcard $(SOURCES))
	@$(VENV)/bin/ruff check $(wildcard $(SOURCES))
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(PYTHON) -m perennial.api.crdgen --check
	@$(PYTHON) -m perennial.app.settings_page --check
	@$(VENV)/bin/codespell README.md CHANGELOG.md CONTRIBUTING.md docs operator manifests tests localcluster examples runtimes

format: setup ## format and fix what can be fixed
	@$(VENV)/bin/ruff format $(wildcard $(SOURCES))
	@$(VENV)/bin/ruff check --fix $(wildcard $(SOURCES))

images: setup ## build every image of the project into the cache
	@$(PYTHON) -m localcluster.project

generate: setup ## CRDs, API reference and other generated files
	@$(PYTHON) -m perennial.api.crdgen
	@$(PYTHON) -m perennial.app.settings_page

bench: $(addprefix bench-,reconcile idle router abort rollout statistics) ## all benchmarks

bench-%: setup ## one benchmark
	@mkdir -p build/bench
	@$(PYTHON) -m benchmarks.$*

clean-local: ## stop and remove everything local that the project started
	@python3 -m localcluster down --all
