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
# TLS_CERT=, TLS_KEY= serve over TLS; with TLS_CLIENT_CA= only clients whose certificate it signed.
TLS_CERT ?=
TLS_KEY ?=
TLS_CLIENT_CA ?=
# More arguments for pytest: make test ARGS="-k page -x"
ARGS ?=
BENTOFILE ?= bentofile.yaml
TORCH := torch==2.13.0
UV := uv==0.13.8
CYCLONEDX := cyclonedx-bom==7.5.0

# 2 is Python's ssl.CERT_REQUIRED
TLS := $(if $(TLS_CERT),--ssl-certfile '$(TLS_CERT)' --ssl-keyfile '$(TLS_KEY)') \
	$(if $(TLS_CLIENT_CA),--ssl-ca-certs '$(TLS_CLIENT_CA)' --ssl-cert-reqs 2)
SERVING := $(if $(GPU),gpu,cpu)
VENV := $(if $(GPU),.venv-gpu,.venv)
PIP := bin/python -m pip install --quiet --disable-pip-version-check
# Bentos are kept in this checkout, where `make clean` finds them. BentoML wants uv, and would
# install any version of it into the environment that it runs in.
BENTOML := BENTOML_HOME='$(CURDIR)/.bentoml/store' PATH="$(CURDIR)/.venv-uv/bin:$$PATH" \
	$(VENV)/bin/bentoml

export BENTOML_DO_NOT_TRACK ?= True
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DELETE_ON_ERROR:
.PHONY: help serve key test loadtest lint audit train-env lock bento image sbom clean chromium wrk

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 11
	@echo
	@echo "make serve HOST=0.0.0.0 PORT=8080   make serve GPU=1   make serve PYTHON=python3.12"
	@echo "make serve TLS_CERT=cert.pem TLS_KEY=key.pem TLS_CLIENT_CA=ca.pem"
	@echo "make key NAME='MUSE bridge' SCOPES=classify,print MORE='--expires 90d'"

# BentoML wipes its Prometheus folder when it starts, hence a home for each port: two services on
# one machine must not wipe each other's. Idle connections stay open for longer than a client's pool
# keeps them (uvicorn's own 5 s are shorter), so that none is closed just as it is used again.
serve: $(VENV)/installed ## serve models_store/ at HOST:PORT; GPU=1 for onnxruntime-gpu
	@BENTOML_HOME='$(CURDIR)/.bentoml/$(PORT)' \
		exec $(VENV)/bin/bentoml serve service.bento:EcgDirenet --host $(HOST) --port $(PORT) \
		--timeout-keep-alive 75 $(TLS)

key: $(VENV)/installed ## make an API key; the rest of python -m service.keys lists and ends them
	@$(VENV)/bin/python -m service.keys create --name '$(NAME)' --scopes '$(SCOPES)' $(MORE)

test: .venv-test/installed chromium ## set up what the tests need, and run them; ARGS="-k page"
	.venv-test/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

loadtest: $(VENV)/installed .venv-load/installed wrk ## measure this machine; ARGS="--rounds 1"
	.venv-load/bin/python -m loadtest.run $(ARGS)

lint: .venv-test/installed ## ruff everywhere, pyright on ecg and service
	.venv-test/bin/ruff check
	.venv-test/bin/ruff format --check
	.venv-test/bin/pyright --pythonpath .venv-test/bin/python

# bandit passes over assert, by which pyright learns what is not None and no input is checked, and
# over the import of subprocess, since each use of it is looked at. pip-audit would pass over what it
# cannot ask about, hence --strict; the locks are audited one by one, and torch, which is in none.
PIP_AUDIT := .venv-test/bin/pip-audit --strict --disable-pip --progress-spinner off
ADVISORIES := https://pypi.org/pypi/pip/25.0/json
audit: .venv-test/installed ## bandit over the code, pip-audit over the locks (asks pypi.org)
	.venv-test/bin/bandit --quiet --recursive --skip B101,B404 ecg service training loadtest
	@.venv-test/bin/python -c 'import urllib.request as u; u.urlopen("$(ADVISORIES)", timeout=30)' \
		2>/dev/null || { echo "No dependency was audited: $(ADVISORIES) does not answer, and PyPI's" \
		"advisories are where known holes are looked up. Run this where it does." >&2; exit 1; }
	@echo '$(TORCH)' > .venv-test/torch.txt
	@failed=; for lock in requirements/*.txt; do \
		echo "$$lock:"; $(PIP_AUDIT) --require-hashes -r $$lock || failed=1; done; \
		echo '$(TORCH):'; $(PIP_AUDIT) --no-deps -r .venv-test/torch.txt || failed=1; \
		test -z "$$failed"

train-env: .venv-test/installed ## set up what training needs: torch and more, in .venv-test

# Versions stay as they are where pyproject.toml allows it: delete a lock first to renew it.
COMPILE = .venv-uv/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --annotation-style line --no-emit-index-url \
	--custom-compile-command "make lock"
lock: .venv-uv/installed ## compile requirements/*.txt from pyproject.toml
	$(COMPILE) pyproject.toml --extra cpu -o requirements/serve-cpu.txt
	$(COMPILE) pyproject.toml --extra gpu -c requirements/serve-cpu.txt -o requirements/serve-gpu.txt
	$(COMPILE) --group train -c requirements/serve-cpu.txt -o requirements/train.txt
	$(COMPILE) --group test -c requirements/serve-cpu.txt -c requirements/train.txt \
		-o requirements/test.txt
	$(COMPILE) pyproject.toml --extra cpu --group loadtest -c requirements/serve-cpu.txt \
		-c requirements/train.txt -o requirements/loadtest.txt

bento: $(VENV)/installed .venv-uv/installed ## build the Bento, for a GPU; BENTOFILE=bentofile.cpu.yaml
	@$(BENTOML) build -f $(BENTOFILE)
	@echo "Bentos are in .bentoml/store. To serve one: BENTOML_HOME=.bentoml/store bentoml serve TAG"

image: $(VENV)/installed .venv-uv/installed ## build the Bento and its image, with Docker, Podman or Buildah
	@deploy/images/engine.sh >/dev/null
	@bento=$$($(BENTOML) build -f $(BENTOFILE) -o tag | sed -n 's/^__tag__://p' | tr : /) && \
	deploy/images/build.sh .bentoml/store/bentos/$$bento \
		ecg-direnet:$$(sed -n 's/^  device: //p' $(BENTOFILE)) $(ARGS)

sbom: .venv-sbom/installed ## what the image has in it, as CycloneDX, from the lock; GPU=1
	@mkdir -p .bentoml
	.venv-sbom/bin/cyclonedx-py requirements requirements/serve-$(SERVING).txt \
		--pyproject pyproject.toml --output-reproducible -o .bentoml/sbom-$(SERVING).json

clean: ## remove environments, Bentos and caches; never runs/ or data/
	rm -rf .venv .venv-gpu .venv-load .venv-peer-* .venv-test .venv-uv .venv-sbom .bentoml .pytest_cache .ruff_cache .hypothesis
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

.venv-load/installed: requirements/loadtest.txt
	$(call new_environment,.venv-load)
	.venv-load/$(PIP) --no-deps -r $<
	@touch $@

.venv-uv/installed: Makefile
	$(call new_environment,.venv-uv)
	.venv-uv/$(PIP) $(UV)
	@touch $@

.venv-sbom/installed: Makefile
	$(call new_environment,.venv-sbom)
	.venv-sbom/$(PIP) $(CYCLONEDX)
	@touch $@

# The page's tests drive a real browser; without one they are skipped, visibly, but never in CI.
chromium:
	@command -v chromium >/dev/null || { $(call debian,chromium); } \
		|| echo "Without Chromium the web page's tests are skipped."

wrk:
	@command -v wrk >/dev/null || { $(call debian,wrk); }

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
