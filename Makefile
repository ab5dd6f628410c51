# Everything runs in .venv, which the first target that needs it makes. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Terraform rules come and go with checkov's minor versions. It pins what it needs: in an environment of its own.
CHECKOV := $(VENV)/checkov
CHECKOV_VERSION := 3.3.*

.PHONY: demo test fuzz fuzz-protocol image-test lint checkov format bench lock clean

demo: $(READY)  ## the dimuon spectrum, on an emulated Lambda
	$(BIN)/dask-root-lambda demo $(DEMO_ARGS)

# Three processes on two cores: tests wait for Terraform, time limits and environments.
TEST_ARGS ?= --numprocesses 3

test: $(READY)  ## all tests; needs neither AWS nor a network
	$(BIN)/pytest $(TEST_ARGS)

# FUZZ_ARGS="--seed 1 --programs 2000", or --seconds; without, it goes on until it is stopped.
fuzz: $(READY)  ## programs drawn at random, by local ROOT and here: prints those whose results differ, made small
	$(BIN)/python -W ignore -m fuzz $(FUZZ_ARGS)

fuzz-protocol: $(READY)  ## 20,000 mutated events for the handler, Invoke and the emulator's API
	$(BIN)/pytest -s tests/runtime/test_malformed.py --fuzz-events $(or $(EVENTS),20000)

image-test: $(READY)  ## the function's image, built and run in containers; needs root (BASE=IMAGE: its base)
	.ci/container-tools
	$(BIN)/pytest tests/image $(if $(BASE),--base $(BASE)) $(TEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run .ci/container-tools
	@if command -v terraform >/dev/null; then echo terraform fmt; terraform fmt -check -diff -recursive infra; \
	else echo "terraform is not installed: the format of infra/ was not checked" >&2; fi

checkov: $(CHECKOV)/.ready  ## the rules of infra/; what is suppressed says why, where it is
	$(CHECKOV)/bin/checkov --directory infra --framework terraform --quiet --compact --skip-download

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## all benchmarks, one after the other
	$(BIN)/python -m benchmarks

# Left to itself, pip tries versions of the AWS packages against each other for longer than CI may take.
lock: $(READY)  ## constraints.txt anew: the newest version of everything that is installed here
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --upgrade --no-annotate --no-header \
	    --output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(CHECKOV)/.ready: $(READY)
	$(PYTHON) -m venv $(CHECKOV)
	$(CHECKOV)/bin/python -m pip install --quiet 'checkov==$(CHECKOV_VERSION)'
	touch $@

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
