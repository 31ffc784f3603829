# The two commands most people need, `make run` and `make test`, and what a contributor runs besides them.
# Paths are relative to this folder on purpose: make cannot hold one with a space.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test validate bench lint environments lock images clean

ENGINE ?= podman
BASE ?= python:3.12-slim-bookworm
REAL := nextflow or slurm or container

# The test environment's tools, and nothing of the caller's Python.
IN_TEST := unset PYTHONPATH PYTHONHOME PYTHONSTARTUP; tools=$$(scripts/environments test); export PATH="$$tools/bin:$$PATH";

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

run: ## environments, Nextflow if there is none, then the default experiment; ARGS='--experiment FILE -resume' adds to it
	@scripts/environments >/dev/null
	@scripts/nextflow run main.nf -profile local $${LAMBDA_HAT_ENV_DIR:+--env_dir "$$LAMBDA_HAT_ENV_DIR"} $(ARGS)

# Tests of real programs use every core themselves, so they run one at a time, after the others; only those that mostly
# wait run beside them.
test: environments lint ## lint, types, import contracts and every test
	@$(IN_TEST) status=0; waited=$$(mktemp); trap 'rm -f "$$waited"' EXIT; \
	python3 -m pytest -n 2 -m 'not ($(REAL))' || status=$$?; \
	python3 -m pytest -p no:cacheprovider -m waiting >"$$waited" 2>&1 & waiting=$$!; \
	python3 -m pytest -m '($(REAL)) and not waiting' || status=$$?; \
	wait $$waiting || status=$$?; cat "$$waited"; \
	exit $$status

validate: ## every sampler against exact answers, hours; ONLY='NAME ...' runs some; writes docs/validation.md
	@validation/validate $(ONLY)

bench: environments ## what estimates cost; CASE='NAME ...' measures some; on an idle machine
	@$(IN_TEST) python3 benchmarks/bench.py $(CASE)

lint: ## ruff, mypy and the import contracts
	@$(IN_TEST) ruff check . scripts/lock; ruff format --check . scripts/lock; mypy; PYTHONPATH=python lint-imports

environments: ## the Python environment of every stage, in .environments
	@scripts/environments >/dev/null

lock: ## envs/ from pyproject.toml; needs uv
	@scripts/lock

images: ## a container image for each stage; ENGINE=podman|docker|charliecloud BASE=an image with Python 3.11 or Debian
	@scripts/images '$(ENGINE)' '$(BASE)'

clean: ## Nextflow's work folder, logs and cache, and the tools' caches; results and environments stay
	@rm -rf work .nextflow .nextflow.log* .nf-test .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -path ./.environments -prune -o -name __pycache__ -type d -exec rm -rf {} +
