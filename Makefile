# One environment in .venv, made on first need and again only when pyproject.toml changes.
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -rs
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
unexport PYTHONDONTWRITEBYTECODE  # the tests start many processes: none compiles the package anew

.DEFAULT_GOAL := help
.PHONY: help run test test-full test-rest test-slurm test-ray acceptance lint docs assets bench gpu clean

help:  ## print the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: .venv/ready  ## SupSup on SplitMNIST, real data, with a table at the end
	@$(BIN)/python -m maskbench method=supsup data=splitmnist

test: .venv/ready  ## the tests to run often: minutes, no GPU, no account, no network
	@$(PYTEST)

test-full: .venv/ready  ## all tests but real training and Slurm: also a browser, a clean environment, kill -9; lists what was skipped
	@$(PYTEST) -m "not slow and not slurm"

test-rest: .venv/ready  ## what test-full has beyond test; ONLY=tests/report/html for one folder of it
	@$(PYTEST) -m "(full or network) and not slow and not slurm" $(ONLY)

test-slurm: .venv/ready  ## sweeps and tables as jobs of a one-node Slurm that the tests start; as root, minutes
	@test "$$(id -u)" = 0 || { echo "make test-slurm starts munged, slurmctld and slurmd: run it as root."; exit 2; }
	@PATH="$$PATH:/usr/sbin"; for name in munged slurmctld slurmd sbatch; do command -v $$name > /dev/null || \
	  { echo "make test-slurm needs Slurm and munge, and $$name is missing: apt-get install slurm-wlm munge"; exit 2; }; done
	@$(BIN)/python -c "import submitit" 2> /dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[sweep]'
	@$(BIN)/python -m pytest -q -rs -m slurm tests/cli

test-ray: .venv/ready  ## sweeps as tasks of a Ray of two nodes that the tests start; installs Ray
	@$(BIN)/python -c "import ray" 2> /dev/null || $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[ray]'
	@$(BIN)/python -m pytest -q -rs -m full tests/cli/test_ray.py

acceptance: .venv/ready  ## real training held to the specifications' tolerances; SYSTEM=supsup for one system
	@$(BIN)/python -m pytest -q -m slow tests/acceptance $(if $(SYSTEM),-k $(SYSTEM),)

lint: .venv/ready  ## style of the code
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

docs: .venv/ready  ## the manual as pages in docs/_build/html; runs its notebook; a warning is a mistake
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html && echo "docs/_build/html/index.html"

assets:  ## for developers: the report's libraries, fetched from npm as package-lock.json pins them, bundled; needs Node.js
	@cd scripts/assets && npm ci --silent && node build.mjs

bench: .venv/ready  ## what a training step costs, as a ratio to a bare PyTorch loop, and an answer
	@for part in bench bench_continual bench_convolutions bench_ranking bench_sparse bench_answers; do $(BIN)/python scripts/$$part.py || exit 1; done

gpu:  ## on one GPU, at most 10 minutes: tests, ms per step, quick rows, into outputs/gpu.json; needs no .venv (docs/gpu.md)
	@PYTHONPATH=. $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) scripts/gpu.py $(if $(DEVICE),--device $(DEVICE),)

clean:  ## remove the environment
	rm -rf .venv

.venv/ready: pyproject.toml
	@echo "setting up .venv (once; a minute or more, PyTorch is large)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@
