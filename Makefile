# Every command sets up what it needs: an isolated environment in .venv, made by uv from requirements.lock.
#
#   make demo    the whole study on generated slides, opens to a report (about 10 minutes on 2 cores)
#   make test    all tests
#   make check   style, types, architecture, workflow lint
#   make bench   speed ratios against named references
#   make dag     draw docs/dag.svg
#   make lock    compile requirements.lock from pyproject.toml

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: demo test check bench lock env dag clean

PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
BIN := .venv/bin
STUDY := config/studies/demo/config.yaml
export PYTHONDONTWRITEBYTECODE =
# Hospital networks often have certificates of their own: uv uses the system's, as pip does.
export UV_SYSTEM_CERTS ?= 1

env: .venv/.ready

# uv is taken from PATH where it is, otherwise bootstrapped into a virtual environment of its own.
.venv/.ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or later is needed: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) -V)"; exit 1; }
	@uv=$$(command -v uv || true); \
	if [ -z "$$uv" ]; then \
	  $(PYTHON) -m venv .venv-uv 2>/dev/null || { echo "venv is missing: apt-get install python3-venv"; exit 1; }; \
	  .venv-uv/bin/python -m pip install --quiet --disable-pip-version-check uv; uv=.venv-uv/bin/uv; \
	fi; \
	echo "Installing the environment into .venv (about a minute, 6 GB with CUDA) ..."; \
	$$uv venv --quiet --allow-existing --python $(PYTHON) .venv; \
	$$uv pip sync --quiet --require-hashes --compile-bytecode --python $(BIN)/python requirements.lock; \
	$$uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@touch $@

demo: env
	@$(BIN)/slidestudy demo demo-data
	@$(BIN)/snakemake --configfile $(STUDY) --cores $(CORES) --quiet rules host reason 2>&1 \
	  | { grep --line-buffered -vE '^(Select jobs|Execute [0-9]+ jobs|Finished jobid|\[[A-Z][a-z]{2} |$$)' || true; }
	@$(BIN)/slidestudy summary results/demo

test: env
	$(BIN)/python -m pytest -n $(CORES) --dist loadscope

check: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tests/lint_workflow.py

bench: env
	$(BIN)/python -m pytest tests/benchmarks -m bench -s -o addopts="-q --strict-markers -p no:cacheprovider"

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev \
	  pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .venv-uv results demo-data .snakemake

# Needs graphviz, and a finished demo: before the checkpoint has run, what follows it is not known.
dag: env
	$(BIN)/snakemake --configfile $(STUDY) --rulegraph | sed -E 's/color = "[^"]*", style="rounded"//; s/^\t[0-9]+ -> 0$$//; /label = "all"/d; /^ +(node|edge)\[/d' | tred \
	  | dot -Tsvg -Grankdir=LR -Gnodesep=0.15 -Granksep=0.35 -Nshape=box -Nstyle="filled,rounded" \
	    -Nfillcolor="#eef4f8" -Ncolor="#1b5e8c" -Npenwidth=1.2 -Nfontname=Helvetica -Nfontsize=11 \
	    -Ecolor="#7a8a99" -Epenwidth=1.1 -Earrowsize=0.7 > docs/dag.svg
