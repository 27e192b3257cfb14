# make reproduce     train a study and make its paper; STUDY=cpu chooses another study
# make paper         the paper from committed records alone (STUDY=cpu): no GPU, data or training
# make test          all tests, and how much of src they cover
# make slurm         a study on a real SLURM; SLURM_UP names a script that starts and stops one, as root
# make docs          the library's reference from its docstrings, in results/reference
# make lint          style, types, the order of the packages, and the workflow's form
# make environment   the locked environment; the other targets make it first
# make clean         delete what the pipeline made, except downloaded archives
# They need git, make and Python. A missing uv is fetched, and uv makes the environment.

UV := $(if $(shell command -v uv),uv,.uv/bin/uv)
BIN := .venv/bin

# Python keeps what it compiles, whatever the environment says: else each of the many processes would
# compile every library again, which takes longer than most of their work.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help reproduce paper test slurm docs lint clean environment

help:
	@sed -n '1,9s/^# //p' Makefile

reproduce: environment
	@$(BIN)/imcl reproduce $(if $(STUDY),--study $(STUDY))

paper: STUDY ?= cpu
paper: environment
	@$(BIN)/imcl reproduce --study $(STUDY) --committed

test: environment
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --cov

slurm: environment
	@$(UV) sync --frozen --quiet --extra slurm
	$(BIN)/pytest -m slurm --capture=no tests/workflow/test_slurm.py

docs: environment
	$(BIN)/python workflow/reference/make.py results/reference

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

clean:
	rm -rf results logs paper/build dvc_plots .snakemake
	find data -mindepth 1 -maxdepth 1 ! -name archives -exec rm -rf {} + 2>/dev/null || true

environment: $(filter .uv/%,$(UV))
	@$(UV) sync --frozen --quiet

# Only where the PATH has no uv. A Python without pip runs pip from its wheel.
.uv/bin/uv:
	@echo "fetching uv"
	@mkdir -p .uv
	@python3 -m pip --version >/dev/null 2>&1 || python3 -c "import json, urllib.parse, urllib.request as web; \
	  index = 'https://pypi.org/pypi/pip/json'; files = json.load(web.urlopen(index))['urls']; \
	  wheel = next(f['url'] for f in files if f['filename'].endswith('.whl')); \
	  web.urlretrieve(urllib.parse.urljoin(index, wheel), '.uv/pip.whl')"
	@if [ -e .uv/pip.whl ]; then python3 .uv/pip.whl/pip install -qq --target .uv uv; \
	  else python3 -m pip install -qq --target .uv uv; fi
