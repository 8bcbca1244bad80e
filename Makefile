# What a developer or a newcomer types. Needs python3 >= 3.11 with venv, make, and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# More than the cores of a small machine: a third of the time the tests wait for processes and clocks.
PYTEST_ARGS ?= -n 3
BENCH_ARGS ?=
SCREENSHOTS_ARGS ?=
export DEMO_EXIT DEMO_PORT

.DEFAULT_GOAL := help
.PHONY: help demo test check format schemas reference bench bench-postgres bench-beside bench-keys bench-history bench-bulk screenshots clients dist image wrk lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/runtime ## start a server with sample data on 127.0.0.1:8000 (DEMO_PORT=N: another port, DEMO_EXIT=1: stop after the first request)
	@exec $(BIN)/python -m usertable.demo

test: $(VENV)/dev ## run the whole test suite (PYTEST_ARGS to choose)
	@PYTHONPATH=tests $(BIN)/python -m support.chromium
	@PYTHONPATH=tests $(BIN)/python -m support.prometheus
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/dev ## check format, lint, types, import layers, and what the documentation says
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/docs

format: $(VENV)/dev ## format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(VENV)/dev ## write the engines' schema.sql anew, after a new migration
	PYTHONPATH=tests $(BIN)/python -m support.schemas

reference: $(VENV)/dev ## write docs/reference/cli.md anew, after a change to a command or its help
	PYTHONPATH=tests $(BIN)/python -m support.cli_reference

bench: $(VENV)/dev wrk ## measure durable writes against the server's no-work ceiling, with wrk
	$(BIN)/python benchmarks/put.py $(BENCH_ARGS)

screenshots: $(VENV)/dev ## make docs/images anew (SCREENSHOTS_ARGS="--all FOLDER": every page, language, theme and size)
	@PYTHONPATH=tests $(BIN)/python -m support.chromium
	PYTHONPATH=tests $(BIN)/python tests/browser/screenshots.py $(SCREENSHOTS_ARGS)

bench-postgres: $(VENV)/dev wrk ## measure writes on PostgreSQL beside pgbench, Parse Server (needs node) and Kinto
	PYTHONPATH=tests $(BIN)/python benchmarks/postgresql.py $(BENCH_ARGS)

bench-beside: $(VENV)/dev wrk ## measure writes of this checkout beside another one: BENCH_ARGS="FOLDER"
	PYTHONPATH=tests $(BIN)/python benchmarks/beside.py $(BENCH_ARGS)

bench-keys: $(VENV)/dev wrk ## measure writes with 50 keys in use beside one key
	PYTHONPATH=tests $(BIN)/python benchmarks/keys.py $(BENCH_ARGS)

bench-history: $(VENV)/dev wrk ## measure what history costs: writes, imports and bytes with it on beside off, and what others do
	PYTHONPATH=tests $(BIN)/python benchmarks/history.py $(BENCH_ARGS)

wrk:
	@command -v wrk >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get install -y wrk >/dev/null; } \
	  || { echo "the benchmarks need wrk, a load generator. On Debian or Ubuntu: apt-get install wrk"; exit 1; }

bench-bulk: $(VENV)/dev ## measure import and export beside sqlite3, COPY and DuckDB
	$(BIN)/python benchmarks/bulk.py $(BENCH_ARGS)

clients: $(VENV)/dev $(VENV)/generators ## compile clients generated from the OpenAPI document, and check the dashboard (needs node, java and go)
	$(BIN)/python -m pytest -m generated

$(VENV)/generators:
	$(PYTHON) -m venv $@
	$@/bin/python -m pip --disable-pip-version-check --quiet install openapi-python-client openapi-generator-cli grafana-foundation-sdk
	npm install --silent --no-fund --no-audit --prefix $@/node openapi-typescript typescript

dist: $(VENV)/dist ## build the sdist and the wheel into dist/, and check them
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

CONTAINER ?= $(firstword $(foreach program,docker podman buildah,$(shell command -v $(program))))
IMAGE ?= usertable

image: $(VENV)/runtime ## build the container image with docker, podman or buildah (IMAGE_ARGS="--build-arg …")
	@[ -n "$(CONTAINER)" ] || { echo "an image is built by docker, podman or buildah; install one"; exit 1; }
	version=$$($(BIN)/usertable --version) && \
	$(CONTAINER) build $(if $(findstring docker,$(notdir $(CONTAINER))),,--format docker) --file deploy/Dockerfile --tag $(IMAGE) --tag $(IMAGE):$$(echo $$version | tr + -) \
	  --build-arg VERSION=$$version --build-arg REVISION=$$(git rev-parse HEAD) $(IMAGE_ARGS) .

lock: ## write requirements/*.txt anew from pyproject.toml, with the newest releases
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip --quiet install uv
	for part in server runtime dev dist; do \
	  case $$part in \
	    server) what="--extra server" ;; \
	    runtime) what="--extra all --group build" ;; \
	    dev) what="--extra all --group build --group dev" ;; \
	    dist) what="--extra all --group build --group dev --group dist" ;; \
	  esac; \
	  $(VENV)/lock/bin/uv pip compile pyproject.toml $$what --universal --upgrade --quiet \
	    --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --no-config \
	    --output-file requirements/$$part.txt || exit 1; \
	done

clean: ## remove the virtual environment, caches and the demo's data
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

# A stamp per lock file: done again only when the lock changes.
$(VENV)/%: requirements/%.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "usertable needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12"; exit 1; }
	@$(BIN)/python -c 'import pip' 2>/dev/null || { echo "Making a virtual environment in $(VENV) ..."; $(PYTHON) -m venv $(VENV); } \
	  || { echo "Python's venv module is missing. On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Installing what requirements/$*.txt names ..."
	@$(PIP) install --require-hashes --requirement requirements/$*.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
