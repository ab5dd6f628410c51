# Everything runs in .venv, which the first target that needs it makes. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test image-test lint format bench clean

demo: $(READY)  ## the dimuon spectrum, on an emulated Lambda
	$(BIN)/dask-root-lambda demo $(DEMO_ARGS)

test: $(READY)  ## all tests; needs neither AWS nor a network
	$(BIN)/pytest $(TEST_ARGS)

image-test: $(READY)  ## the function's image, built and run in containers; needs root (BASE=IMAGE: its base)
	.ci/container-tools
	$(BIN)/pytest tests/image $(if $(BASE),--base $(BASE)) $(TEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run .ci/container-tools
	$(if $(wildcard infra),terraform fmt -check -recursive infra)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## all benchmarks, one after the other
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
