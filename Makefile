# `make` lists what there is. Every environment is a folder here, `.venv…`, filled from a lock in
# requirements/ and made anew when that lock changes, so that nothing but the lock is ever in it.

HOST ?= 127.0.0.1
PORT ?= 3000
# GPU=1 serves with onnxruntime-gpu. The two packages share one module: never one environment.
GPU ?=
# Which Python to use; without it, the first 3.11 or 3.12 that is found and runs.
PYTHON ?=
# Where pip finds torch, for a CPU build say; without it, where pip finds everything else.
TORCH_INDEX ?=
# More arguments for pytest: make test ARGS="-k page -x"
ARGS ?=
BENTOFILE ?= bentofile.yaml
TORCH := torch==2.13.0
UV := uv==0.13.8

SERVING := $(if $(GPU),gpu,cpu)
VENV := $(if $(GPU),.venv-gpu,.venv)
PIP := bin/python -m pip install --quiet --disable-pip-version-check
# BentoML's own store of Bentos: in this checkout, so that `make clean` finds what `make bento` left.
BENTOS := $(CURDIR)/.bentoml/store

export BENTOML_DO_NOT_TRACK ?= True
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DELETE_ON_ERROR:
.PHONY: help serve test lint lock bento image clean chromium

help: ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | sort | expand -t 10
	@echo
	@echo "make serve HOST=0.0.0.0 PORT=8080   make serve GPU=1   make PYTHON=/usr/bin/python3.12 serve"

# BentoML wipes its Prometheus folder when it starts, hence a home for each port: two services on
# one machine must not wipe each other's.
serve: $(VENV)/installed ## serve models_store/ at HOST:PORT; GPU=1 for onnxruntime-gpu
	@BENTOML_HOME='$(CURDIR)/.bentoml/$(PORT)' \
		exec $(VENV)/bin/bentoml serve service.bento:EcgDirenet --host $(HOST) --port $(PORT)

test: .venv-test/installed chromium ## set up what the tests need, and run them; ARGS="-k page"
	.venv-test/bin/python -m pytest $(ARGS)

lint: .venv-test/installed ## ruff everywhere, pyright on ecg and service
	.venv-test/bin/ruff check
	.venv-test/bin/ruff format --check
	.venv-test/bin/pyright --pythonpath .venv-test/bin/python

# Versions stay as they are where pyproject.toml allows it: delete a lock first to renew it.
COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --annotation-style line --no-emit-index-url \
	--custom-compile-command "make lock"
lock: .venv-lock/installed ## compile requirements/*.txt from pyproject.toml
	$(COMPILE) pyproject.toml --extra cpu -o requirements/serve-cpu.txt
	$(COMPILE) pyproject.toml --extra gpu -c requirements/serve-cpu.txt -o requirements/serve-gpu.txt
	$(COMPILE) --group train -c requirements/serve-cpu.txt -o requirements/train.txt
	$(COMPILE) --group test -c requirements/serve-cpu.txt -c requirements/train.txt \
		-o requirements/test.txt

bento: $(VENV)/installed ## build the Bento, for a GPU; BENTOFILE=bentofile.cpu.yaml for none
	BENTOML_HOME='$(BENTOS)' $(VENV)/bin/bentoml build -f $(BENTOFILE)
	@echo "To serve it: BENTOML_HOME='$(BENTOS)' $(VENV)/bin/bentoml serve TAG"

image: $(VENV)/installed ## build the Bento and containerise it, with Docker or Podman
	@engine=$$(for e in docker podman; do $$e info >/dev/null 2>&1 && echo $$e && break; done); \
	test -n "$$engine" || { echo "make image needs Docker or Podman with a running engine:" \
		"neither 'docker info' nor 'podman info' answers." >&2; exit 1; }; \
	BENTOML_HOME='$(BENTOS)' BENTOML_CONTAINERIZE_BACKEND=$$engine \
		$(VENV)/bin/bentoml build -f $(BENTOFILE) --containerize

clean: ## remove environments, Bentos and caches; never runs/ or data/
	rm -rf .venv .venv-gpu .venv-test .venv-lock .bentoml .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed .venv-gpu/installed: %/installed: requirements/serve-$(SERVING).txt
	$(call new_environment,$*)
	$*/$(PIP) --no-deps -r $<
	@touch $@

.venv-test/installed: requirements/serve-cpu.txt requirements/train.txt requirements/test.txt
	$(call new_environment,.venv-test)
	.venv-test/$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	.venv-test/$(PIP) --no-deps $(addprefix -r ,$^)
	@touch $@

.venv-lock/installed: Makefile
	$(call new_environment,.venv-lock)
	.venv-lock/$(PIP) $(UV)
	@touch $@

# The page's tests drive a real browser; without one they are skipped, visibly, but never in CI.
chromium:
	@command -v chromium >/dev/null || { $(call debian,chromium); } \
		|| echo "Without Chromium the web page's tests are skipped."

# $(call new_environment,FOLDER): candidates are run, because a name on PATH may be a shim that fails.
define new_environment
	@for python in $(or $(PYTHON),python3 python3.12 python3.11); do \
		$$python -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' \
			2>/dev/null && break; python=; \
	done; \
	test -n "$$python" || { echo "Python 3.11 or 3.12 is needed and was not found:" \
		"name one with PYTHON=/path/to/python3.12" >&2; exit 1; }; \
	$$python -c 'import ensurepip' 2>/dev/null || { $(call debian,$$($$python -c \
		'import sys; print("python%d.%d-venv" % sys.version_info[:2])')); } || exit 1; \
	echo "Setting up $(1) with $$($$python --version): once, and when its lock changes."; \
	$$python -m venv --clear $(1)
endef

# $(call debian,PACKAGE): install it where that is ours to do, else say how.
debian = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y $(1) >/dev/null; \
	else echo "Please run: sudo apt-get update && sudo apt-get install -y $(1)" >&2; false; fi
