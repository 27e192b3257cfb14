# make reproduce     params.yaml to the paper; STUDY=cpu chooses another study
# make paper         the paper from committed records alone (STUDY=cpu): no GPU, data or training
# make test          all tests, and how much of src they cover
# make lint          ruff, its formatter's check, snakefmt, snakemake --lint
# make environment   what the others begin with
# make clean         delete what the pipeline made, but for downloaded archives
# Needs git, make and Python alone: uv is fetched if it is missing, and uv makes the environment.

UV := $(shell command -v uv || echo .uv/bin/uv)
BIN := .venv/bin
SNAKEMAKE := $(BIN)/snakemake --workflow-profile workflow/profiles/default

.PHONY: help reproduce paper test lint clean environment

help:
	@sed -n '1,7s/^# //p' Makefile

reproduce: environment
	@$(SNAKEMAKE) $(if $(STUDY),--config study=$(STUDY))
	@echo
	@cat paper/build/tables/accuracy-*.md
	@echo
	@ls paper/build/paper.pdf 2>/dev/null || echo "no PDF: $$($(BIN)/imcl paper 2>&1)"
	@ls -d paper/build/tables paper/build/figures

paper: STUDY ?= cpu
paper: environment
	@$(SNAKEMAKE) --config study=$(STUDY) records=committed
	@ls paper/build/paper.pdf paper/build/report.html 2>/dev/null || $(BIN)/imcl paper

test: environment
	$(BIN)/pytest --numprocesses 2 --dist loadfile --cov

lint: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

clean:
	rm -rf results logs paper/build dvc_plots .snakemake
	find data -mindepth 1 -maxdepth 1 ! -name archives -exec rm -rf {} + 2>/dev/null || true

environment: $(UV)
	@$(UV) sync --frozen --quiet

# Only where no uv is on the PATH. A Python without pip borrows pip's own wheel.
.uv/bin/uv:
	@echo "fetching uv"
	@mkdir -p .uv
	@python3 -m pip --version >/dev/null 2>&1 || python3 -c "import json, urllib.parse, urllib.request as web; \
	  index = 'https://pypi.org/pypi/pip/json'; files = json.load(web.urlopen(index))['urls']; \
	  wheel = next(f['url'] for f in files if f['filename'].endswith('.whl')); \
	  web.urlretrieve(urllib.parse.urljoin(index, wheel), '.uv/pip.whl')"
	@if [ -e .uv/pip.whl ]; then python3 .uv/pip.whl/pip install -qq --target .uv uv; \
	  else python3 -m pip install -qq --target .uv uv; fi
