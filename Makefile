# make table3 | test | browser | smoke | slurm | lint | ui
SHELL := /bin/bash
PYTHON ?= python3
LOCK ?= envs/requirements-cpu.lock
# tests at once
JOBS ?= 2
VENV := .venv
RUN := . $(VENV)/bin/activate &&

.PHONY: table3 test browser smoke slurm lint ui

$(VENV)/.ready: $(LOCK)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --requirement $(LOCK)
	touch $@

table3: $(VENV)/.ready
	$(RUN) snakemake --cores all reports/table3.csv

test: $(VENV)/.ready
	$(RUN) OMP_NUM_THREADS=1 pytest -n $(JOBS) -m "not browser and not smoke and not slurm and not server" $(ARGS)

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
