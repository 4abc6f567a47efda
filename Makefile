# The commands of the project. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# A prompt of pip about itself is noise; nothing here depends on the caller's environment.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slurm lint format docs lock clean
.PHONY: docker-build docker-demo docker-reproduce docker-check

help: ## list the commands
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP) ## make .venv with the pinned packages and the project, once

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python {v[0]}.{v[1]} was found, 3.11 to 3.13 is needed: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (once; a few GB)"
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# With the extras: their tests, which are skipped where the packages are missing, run in the weekly workflow.
setup-newest: ## make .venv anew with the newest packages that pyproject.toml allows, extras too, in place of the pinned ones
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[dev,docs,onnx,wandb]'
	@touch $(STAMP)

demo: setup ## train on scanned digits, validate, draw (one and a half to five minutes)
	@$(BIN)/rectified-lpjepa fit --config configs/digits.yaml --run.fresh true
	@echo "validating the checkpoint"
	@$(BIN)/rectified-lpjepa validate --config configs/digits.yaml

test: setup ## run the whole test suite with coverage, on two cores
	@$(BIN)/coverage erase
	@OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --skip-covered --fail-under=90

test-slurm: setup ## interrupt runs on a SLURM of two nodes, made here for the purpose (Debian, as root; 10 minutes)
	@$(BIN)/python tests/slurm/cluster.py install
	@RECTIFIED_LPJEPA_TEST_SLURM=1 timeout --signal=INT 600 $(BIN)/python -m pytest tests/slurm --durations=0

.PHONY: setup-newest coverage-report typing-report dist
coverage-report: setup ## write the lines that `make test` did not reach to build/coverage/index.html
	@test -f .coverage || { echo "there is no coverage yet: run \`make test\` first"; exit 1; }
	@$(BIN)/coverage html --directory build/coverage

typing-report: setup ## write how much of each module is typed by Any to build/typing/any-exprs.txt
	@$(BIN)/mypy --any-exprs-report build/typing --linecount-report build/typing

dist: setup ## build the sdist, and the wheel from it, and check both
	@rm -rf dist
	@$(BIN)/python -m build --no-isolation --outdir dist
	@$(BIN)/twine check --strict dist/*

lint: setup ## check style, types and the arrows between the packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## rewrite the code in the project's style
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

docs: setup ## build the documentation into docs/_build/html, warnings as errors
	@$(BIN)/python -m sphinx --builder html --fresh-env --fail-on-warning --keep-going --quiet \
		--doctree-dir docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

lock: ## write requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --extra dev --extra docs --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --quiet --output-file requirements.lock

# Containers: docs/containers.md. `make docker-demo DOCKER_OPTIONS="--gpus all"` gives them the GPUs.
IMAGE          ?= rectified-lpjepa
EXPERIMENT     ?= 02
PROFILE        ?= smoke
DATASETS       ?= $(CURDIR)/datasets
DOCKER_OPTIONS ?=
# What is run belongs to the caller; /dev/shm is where the loader's workers hand over their batches.
DOCKER_RUN      = mkdir -p runs "$(DATASETS)" && docker run --rm --init --network none --shm-size 2g --user $$(id -u):$$(id -g) \
	--volume "$(CURDIR)/runs:/lpjepa/runs" --volume "$(DATASETS):/lpjepa/datasets:ro" $(DOCKER_OPTIONS) $(IMAGE)

docker-build: ## make the image rectified-lpjepa (needs Docker)
	docker build --file docker/Dockerfile --build-arg COMMIT=$$(git describe --always --dirty=-modified --abbrev=12) --tag $(IMAGE) .

docker-demo: docker-build ## the demo in a container, without a network
	@$(DOCKER_RUN) fit --config configs/digits.yaml --run.fresh true
	@$(DOCKER_RUN) validate --config configs/digits.yaml

docker-reproduce: docker-build ## EXPERIMENT=02 PROFILE=smoke: an experiment in a container, into runs/experiments
	@$(DOCKER_RUN) experiment run $(EXPERIMENT) --profile $(PROFILE)

docker-check: setup ## build and try the image without Docker (Debian, as root; 35 GB of disk)
	@PYTHON=$(BIN)/python docker/check.sh

clean: ## remove .venv, caches and coverage (never runs/)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* build dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
