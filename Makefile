# Every target sets itself up in .venv; only Python >= 3.11 and make are needed. `make PYTHON=python3.12 setup` picks another Python.
PYTHON ?= python3
BIN := .venv/bin

# `make train ARGS=--force` hands a flag on.
ARGS ?=

# What each installation holds; all share .venv.
EXTRAS_train := envs
EXTRAS_dev := envs,suite,bench,data,beam,vla,serve,pusht,dev
EXTRAS_bench := envs,suite,warp,adapters,bench
EXTRAS_warp := warp

# pip leaves the bytecode to the first import: most modules are never imported. A shell that forbids to write it would pay at every start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup train test test-all lint bench baselines golden
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SECONDARY:

setup: .venv/installed-train .venv/installed-dev

# A run that was interrupted goes on.
train: .venv/installed-train
	$(BIN)/jaxrl train --config experiments/ppo_go2_flat.py --workdir runs/go2_flat \
		$(if $(wildcard runs/go2_flat/checkpoints/[0-9]*),--resume) $(ARGS)

# PPO on six tasks of the control suite, three seeds each; a call that was cut goes on. Other tables: experiments/launchers/tables.py.
baselines: .venv/installed-dev
	$(BIN)/python experiments/launchers/tables.py ppo --workdir runs/tables $(ARGS)

# Two processes: most of a test's time is one-threaded compilation. Tests of data in others: where TensorFlow is loaded, Mesa's software
# OpenGL ends the process.
test: .venv/installed-dev
	$(BIN)/python -m pytest -n 2 --ignore=tests/data
	$(BIN)/python -m pytest -n 2 tests/data

# Warp's 149 MB are for the tests of that backend, which `make test` skips.
test-all: .venv/installed-dev .venv/installed-warp
	XLA_FLAGS=--xla_backend_optimization_level=3 $(BIN)/python -m pytest -n 2 -m "" --ignore=tests/data
	$(BIN)/python -m pytest -n 2 -m "" tests/data

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 client/jaxrl_client
	$(BIN)/lint-imports

# The scripts among the benchmarks, one after the other. Each ends with a JSON line, shown here; runs/benchmarks/ has all that it printed.
bench: .venv/installed-bench
	@mkdir -p runs/benchmarks; failed=; \
	for script in $$(grep -l __main__ experiments/benchmarks/*.py); do \
		name=$$(basename $$script .py); log=runs/benchmarks/$$name.log; echo "$$name"; \
		$(BIN)/python $$script > $$log 2>&1 || { failed="$$failed $$name"; tail -n 20 $$log; continue; }; \
		grep '^{' $$log | tail -n 1 | tee runs/benchmarks/$$name.json; \
	done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

# Numbers that the tests compare with, anew from the peers themselves: make golden PEER=<python of an environment with lerobot 0.4.4>.
# Each script writes the file of its name beside itself; only what LeRobot reads of our data sets needs these first.
golden: .venv/installed-dev
	@[ -n "$(PEER)" ] || { echo "make golden needs PEER=<python of an environment with lerobot 0.4.4>" >&2; exit 1; }
	for script in $(filter-out %/lerobot_written.py %/lerobot_reads.py,$(shell grep -l __main__ tests/golden/*.py)); do \
		echo "$$script"; $(PEER) $$script || exit 1; done
	folder=$$(mktemp -d) && $(BIN)/python -m tests.golden.lerobot_written $$folder \
		&& $(PEER) tests/golden/lerobot_reads.py $$folder/*/ > $$folder/reads.json \
		&& mv $$folder/reads.json tests/golden/lerobot_reads.json && rm -r $$folder

# The versions are checked before anything is made, so that an old Python leaves nothing behind.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit("jaxrl needs Python 3.11 or newer, not " + sys.version.split()[0] \
		+ "; choose one with make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed-%: setup.cfg setup.py client/pyproject.toml constraints.txt | $(BIN)/pip
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --use-pep517 -c constraints.txt \
		-e client -e '.[$(EXTRAS_$*)]'
	$(if $(findstring pusht,$(EXTRAS_$*)),$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt gym-pusht)
	@touch $@
