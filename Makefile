# make table3 | plan | clean-old | test | browser | smoke | slurm | lint | ui
SHELL := /bin/bash
PYTHON ?= python3
LOCK ?= envs/requirements-cpu.lock
# tests at once
JOBS ?= 2
VENV := .venv
RUN := . $(VENV)/bin/activate &&

.PHONY: table3 plan clean-old test browser smoke slurm lint ui

$(VENV)/.ready: $(LOCK)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement $(LOCK)
	touch $@

table3: $(VENV)/.ready
	$(RUN) snakemake --cores all reports/table3.csv

# what would run for TARGETS (paths or stages; all where there is none), why, and what it would take
plan: $(VENV)/.ready
	$(RUN) python -m pipeline plan $(TARGETS) $(ARGS)

# drops what no current row needs, after showing it; YES=1 does not ask
clean-old: $(VENV)/.ready
	$(RUN) python -m pipeline clean-old $(if $(YES),--yes)

test: $(VENV)/.ready
	$(RUN) OMP_NUM_THREADS=1 pytest -n $(JOBS) --dist worksteal -m "not browser and not smoke and not slurm and not server" $(ARGS)

browser: $(VENV)/.ready
	$(RUN) pytest -m browser $(ARGS)

lint: $(VENV)/.ready
	$(RUN) ruff check . && ruff format --check . && snakefmt --check Snakefile && snakemake --lint

ui: $(VENV)/.ready
	$(RUN) python -m pipeline ui

smoke: $(VENV)/.ready
	$(RUN) pytest -m smoke $(ARGS)

slurm: $(VENV)/.ready
	$(RUN) OMP_NUM_THREADS=1 pytest -m "slurm or server" $(ARGS)
