# Everything runs from a virtual environment in .venv, made on first use. `make help` lists the targets.

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu test-oldest test-notebooks notebooks lint format bench docs clean setup

# The Python that makes the environment: `make demo PYTHON=/path/to/python3.12` decides it by hand.
PYTHON ?=
VENV ?= .venv
EXTRAS ?= dev
PIP_OPTIONS ?=
# The first Python that is too new; for the newest torch there is none yet.
TOO_NEW ?= 4.0
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info < tuple(map(int, "$(TOO_NEW)".split("."))))
RUN := $(VENV)/bin/python

# The stamp says "installed from this pyproject.toml, in this folder": a changed dependency and a moved or
# copied repository (an editable install remembers its folder) both ask for a new one. It is written last.
KEY := $(shell { cat pyproject.toml .ci/oldest.txt; pwd; echo '$(EXTRAS)'; } | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/.ready-$(KEY)

help:  ## list what can be made
	@echo 'Usage: make TARGET'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

demo: setup  ## train a small population and its map on built-in data (no download)
	$(VENV)/bin/dynamo reproduce demo
	@command -v dynamo >/dev/null || echo 'The command dynamo is in $(VENV): source $(VENV)/bin/activate'

test: setup  ## run the tests, except the slow ones
	@OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n auto --maxprocesses 4 --dist loadfile -p no:benchmark

test-slow: setup  ## run the slow tests
	@$(RUN) -m pytest -q -m slow

test-gpu: setup  ## run the tests that need a CUDA device; the others never see one
	@$(RUN) -m pytest -q -m gpu

test-oldest:  ## run the tests on the oldest supported stack, torchtext included (in .venv-oldest)
	@echo 'The oldest supported stack: torch 2.3.1 with torchtext 0.18.0 and .ci/oldest.txt, in .venv-oldest (6 GB).'
	@$(MAKE) --no-print-directory test VENV=.venv-oldest EXTRAS=dev,torchtext PIP_OPTIONS='-c .ci/oldest.txt' TOO_NEW=3.13

test-notebooks: $(VENV)/.with-notebooks-$(KEY)  ## run every notebook from top to bottom (ten minutes)
	@$(RUN) notebooks/run.py

notebooks: $(VENV)/.with-notebooks-$(KEY)  ## run every notebook and write what came out to docs/notebooks
	@$(RUN) notebooks/run.py --render docs/notebooks

lint: setup  ## check style, formatting and types
	@status=0; \
	for check in 'ruff check .' 'ruff format --check .' mypy; do \
	    echo "$$check"; $(RUN) -m $$check || status=1; \
	done; exit $$status

format: setup  ## put the code in the form that lint asks for
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: setup  ## time the hot paths (not part of the tests)
	$(RUN) -m pytest -q benchmarks --benchmark-only

docs: $(VENV)/.with-docs-$(KEY)  ## build the documentation into site/ (no network; warnings are errors)
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet
	@echo 'The documentation is in site/: open site/index.html, or, for its search too,'
	@echo '    $(RUN) -m http.server --bind 127.0.0.1 --directory site 8000'
	@echo 'and then http://127.0.0.1:8000'

clean:  ## remove caches and build products; keeps runs/ and .venv
	@rm -rf build dist site .ci/data.part .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks *.egg-info
	@find . -path './.venv*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo 'Caches and build products are gone. For a wholly new start also remove .venv.'

setup: $(STAMP)  ## make .venv and install everything into it (the others do this by themselves)

$(STAMP):
	@found=; seen=; \
	for try in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python); do \
	    version=$$("$$try" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
	    seen="$$seen $$try is $$version;"; \
	    if "$$try" -c '$(FITS)'; then found=$$try; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "DYNAMO needs Python 3.11 or later, before $(TOO_NEW), and there is none here.$${seen:+ Seen:$$seen}"; \
	    echo 'Install one, or name one that is elsewhere: make demo PYTHON=/path/to/python3.12'; \
	    exit 1; \
	fi; \
	if ! '$(RUN)' -m pip --version >/dev/null 2>&1; then \
	    echo "Making a virtual environment in $(VENV) with $$found."; \
	    "$$found" -m venv '$(VENV)' >/dev/null 2>&1 || { \
	        "$$found" -m venv --without-pip '$(VENV)' && \
	        "$$found" -m pip --python '$(RUN)' install --quiet pip; } || { \
	        echo "$$found can make no virtual environment: install its venv module (on Debian: python3-venv)."; \
	        exit 1; }; \
	fi; \
	echo 'Installing DYNAMO and what it needs. This takes two or three minutes: torch is large.'; \
	'$(RUN)' -m pip install --quiet --progress-bar off $(PIP_OPTIONS) --editable '.[$(EXTRAS)]' || { \
	    echo 'The installation failed; what pip said stands above. The same command again goes on from here.'; \
	    exit 1; }
	@rm -f '$(VENV)'/.ready-* && touch '$@' && echo 'Installed.'

# What only some targets need, an extra of pyproject.toml, is added to the same environment.
$(VENV)/.with-%-$(KEY): $(STAMP)
	@echo 'Installing what the extra "$*" needs besides.'
	@'$(RUN)' -m pip install --quiet --progress-bar off $(PIP_OPTIONS) --editable '.[$*]'
	@rm -f '$(VENV)'/.with-$*-* && touch '$@'
