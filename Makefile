# The interface of torchlock: `make help` lists it. One line a target; what they do is in scripts/torchlock/.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# <p> is a profile, such as torch2.4-cuda, or a bare variant of the default line: cpu, cuda, mps.
LINES := $(filter-out defaults compat,$(patsubst environments/%.yaml,%,$(wildcard environments/*.yaml)))
VARIANTS := cpu cuda mps
NAMES := $(VARIANTS) $(foreach line,$(LINES),$(addprefix $(line)-,$(VARIANTS)))

# Settings reach the tool as environment variables, never through a shell's command line.
$(foreach name,AGAIN AGAINST BASE CHANNELS CONDA DEBIAN ENVS EVIDENCE IMAGES MOUNT REGISTRY UPDATE FACTS INDEX SOURCE JSON LOCK MIRROR OBSERVE OFFLINE PKG PLATFORM PYTHON REQUIRE RESOLVER SCRIPTS STORE WHEELHOUSE,$(eval export TORCHLOCK_$(name) = $$($(name))))

# The tool's own environment, made again when the digest of what is locked for it changes (never by file times).
PYTHON3 ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3.10 python3,$(shell command -v $(name))))
digest = $(firstword $(shell cksum < $(1)))
TOOL := .venv/tool-$(call digest,requirements.txt)
CONDALOCK := .venv/conda-$(call digest,requirements-conda.txt)
DEV := .venv/dev-$(call digest,requirements-dev.txt)
INSTALL := .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes --only-binary :all:
TORCHLOCK := .venv/bin/python scripts/torchlock
PYTEST := .venv/bin/python -m pytest

.PHONY: help profiles lock update import-index import-channels check base flavours matrix doctor lint format test test-e2e bench deps clean
.PHONY: $(foreach verb,env lock update diff fetch smoke image load smoke-image push pull conda-env conda-smoke conda-drift,$(addprefix $(verb)-,$(NAMES)))

$(TOOL): ; @echo "preparing .venv with $(PYTHON3)" && $(PYTHON3) -m venv --clear .venv && $(INSTALL) -r requirements.txt && touch $@
$(CONDALOCK): $(TOOL) ; @$(INSTALL) -r requirements-conda.txt && touch $@
$(DEV): $(TOOL) ; @$(INSTALL) -r requirements-dev.txt && touch $@

## help            | list the targets
help: ; @sed -n 's/^## //p' Makefile && echo && echo "<p>: $(NAMES)"

## profiles        | list the profiles, their platforms and the state of their locks
profiles: $(TOOL) ; @$(TORCHLOCK) profiles

## env-<p>         | fetch, build the environment envs/<p>, smoke it    PYTHON= STORE= MIRROR= WHEELHOUSE= OFFLINE=1 REQUIRE=cuda
$(addprefix env-,$(NAMES)): env-%: $(TOOL) ; @$(TORCHLOCK) env $*

## smoke-<p>       | run the smoke script in envs/<p> again             REQUIRE=cuda|mps JSON=1
$(addprefix smoke-,$(NAMES)): smoke-%: $(TOOL) ; @$(TORCHLOCK) smoke $*

## fetch-<p>       | fill wheels/ beside the lock: an offline bundle    PLATFORM= STORE= MIRROR= WHEELHOUSE=
$(addprefix fetch-,$(NAMES)): fetch-%: $(TOOL) ; @$(TORCHLOCK) fetch $*

## lock            | resolve from the recorded indexes (also lock-<p>)   OFFLINE=1 RESOLVER=uv|pip-tools|conda-lock CONDA=
lock: $(CONDALOCK) ; @$(TORCHLOCK) lock
$(addprefix lock-,$(NAMES)): lock-%: $(CONDALOCK) ; @$(TORCHLOCK) lock $*

## update          | record the indexes anew, then lock (also update-<p>)   PKG=name moves only that package    CHANNELS=
update: $(CONDALOCK) ; @$(TORCHLOCK) update
$(addprefix update-,$(NAMES)): update-%: $(CONDALOCK) ; @$(TORCHLOCK) update $*

## import-index    | take recorded facts into the index snapshot         FACTS=file INDEX=alias SOURCE=name
import-index: $(TOOL) ; @$(TORCHLOCK) import-index

## import-channels | take recorded conda channels into the snapshot      FACTS=folder
import-channels: $(CONDALOCK) ; @$(TORCHLOCK) import-channels

## check           | profiles, locks, renderings and gates agree; no network (exit status 3: stale)
check: $(TOOL) ; @$(TORCHLOCK) check

## image-<p>       | the OCI image images/<p>-<platform>, its digest known in advance    PLATFORM= BASE= AGAIN=1 REGISTRY=
$(addprefix image-,$(NAMES)): image-%: $(TOOL) ; @$(TORCHLOCK) image $*

## load-<p>        | load the image into Docker, by its digest           PLATFORM=
$(addprefix load-,$(NAMES)): load-%: $(TOOL) ; @$(TORCHLOCK) load $*

## smoke-image-<p> | run the smoke script in a container of the image    PLATFORM= REQUIRE=cuda JSON=1
$(addprefix smoke-image-,$(NAMES)): smoke-image-%: $(TOOL) ; @$(TORCHLOCK) smoke-image $*

## push-<p>        | push the image by its digest                        REGISTRY=host/repository EVIDENCE=1 MOUNT=
$(addprefix push-,$(NAMES)): push-%: $(TOOL) ; @$(TORCHLOCK) push $*

## pull-<p>        | pull the image by its committed digest, verified    REGISTRY=host/repository PLATFORM=
$(addprefix pull-,$(NAMES)): pull-%: $(TOOL) ; @$(TORCHLOCK) pull $*

## base            | build what images stand on from its locked packages    UPDATE=1 BASE= PLATFORM= DEBIAN=
base: $(TOOL) ; @$(TORCHLOCK) base

## conda-env-<p>   | the same profile from conda channels, in envs/conda-<p>, smoked    MIRROR= OFFLINE=1 SCRIPTS=skip
$(addprefix conda-env-,$(NAMES)): conda-env-%: $(CONDALOCK) ; @$(TORCHLOCK) conda-env $*

## conda-smoke-<p> | run the smoke script in envs/conda-<p> again
$(addprefix conda-smoke-,$(NAMES)): conda-smoke-%: $(TOOL) ; @$(TORCHLOCK) conda-smoke $*

## conda-drift-<p> | what has moved in envs/conda-<p> since it was locked    JSON=1
$(addprefix conda-drift-,$(NAMES)): conda-drift-%: $(TOOL) ; @$(TORCHLOCK) conda-drift $*

## flavours        | what differs between the wheels and the conda packages of the profiles   JSON=1
flavours: $(TOOL) ; @$(TORCHLOCK) flavours

## doctor          | what is wrong with any environment and what mends it   PYTHON=path LOCK=pylock.toml JSON=1
doctor: $(TOOL) ; @$(TORCHLOCK) doctor

## matrix          | which NumPy works with which torch, read and seen     OBSERVE=1 AGAIN=1 PYTHON= JSON=1
matrix: $(TOOL) ; @$(TORCHLOCK) matrix

## diff-<p>        | what changed between two locks, in words            AGAINST=rev JSON=1
$(addprefix diff-,$(NAMES)): diff-%: $(TOOL) ; @$(TORCHLOCK) diff $*

## lint            | ruff and mypy, strict
lint: $(DEV) ; @.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy

## format          | let ruff format the code
format: $(DEV) ; @.venv/bin/ruff check --fix && .venv/bin/ruff format

## test            | the fast tests: no large download
test: $(DEV) ; @$(PYTEST) -n auto

## test-e2e        | the tests with real wheels, the network and emulation
test-e2e: $(DEV) ; @$(PYTEST) -m e2e tests/e2e

## bench           | ratios against uv, pip-compile, pip, cp and Docker, in one run   ROUNDS= COLD=
bench: $(DEV) ; @.venv/bin/python tests/bench.py && .venv/bin/python tests/bench_images.py

## deps            | lock the tool's own dependencies anew
UVPC := .venv/bin/uv pip compile --quiet --no-config --universal --python-version 3.10 --generate-hashes --no-header --no-annotate --only-binary :all: --upgrade pyproject.toml
deps: $(TOOL) ; @$(UVPC) -o requirements.txt && $(UVPC) --group conda -c requirements.txt -o requirements-conda.txt && $(UVPC) --group dev -c requirements-conda.txt -o requirements-dev.txt

## clean           | remove environments, fetched wheels and the tool's own .venv (never the store)
clean: ; rm -rf envs .venv lockfiles/*/*/wheels
