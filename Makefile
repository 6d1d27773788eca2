# Either target is the first command after `git clone`: both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/demo
# One numerical thread per process: several processes share the machine, and results are a function of the thread count.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

# What docs/ says of learners and published findings; each within 10 minutes on two cores. Sokoban (half an hour) is `python studies/drc_sokoban.py`.
LEARNERS := pqn r2d2 drqn ppo
STUDIES := r1_tmaze_beliefs r3_mutual_information r4_trace_conditioning r6_rrxor_mess3 r7_bellman_inversion r8_behavioural_extraction r10_leace \
	r11_codelength r12_coherence lambrechts_claims sfql_four_rooms rewards_and_dynamics

.PHONY: demo test reproduce install lint types layers unit doctest format clean

demo: $(VENV)/.ready
	$(BIN)/worldprobe run tmaze --directory $(DEMO)

test: lint types layers unit

reproduce: $(LEARNERS:%=reproduce-%) $(STUDIES:%=reproduce-%)

$(LEARNERS:%=reproduce-%): reproduce-%: $(VENV)/.ready
	$(BIN)/python benchmarks/agents_learning.py tmaze --algorithms $* --seeds 5 --processes 2

$(STUDIES:%=reproduce-%): reproduce-%: $(VENV)/.ready
	$(BIN)/python studies/$*.py

install: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "worldprobe needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable '.[worlds,xarray,adapters,test]'
	touch $@

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready
	$(BIN)/mypy

layers: $(VENV)/.ready
	$(BIN)/lint-imports

unit: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist worksteal tests src/worldprobe README.md docs --doctest-modules --doctest-glob='*.md'

format: $(VENV)/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
