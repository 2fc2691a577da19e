# `make run` and `make test` need python3 (on Debian and Ubuntu python3-venv as well), make, and once a network; everything
# else goes into the two virtual environments.

PYTHON ?= python3
ARGS   ?=
# Several tests at a time, unless ARGS says otherwise; tests/conftest.py decides how many.
PYTEST := -m pytest $(if $(findstring no:xdist,$(ARGS)),,-n auto --dist worksteal)
# A run of random examples: how many for each test, and where they begin.
EXAMPLES ?= 1000
SEED   ?= $(shell date +%s)
FUZZ   := HYPOTHESIS_PROFILE=random TEST_EXAMPLES=$(EXAMPLES) TEST_SEED=$(SEED)

# What users run: a plain install, compiled where there is a C compiler.
RUN := .venv-run
# What is worked on: an editable install in pure Python, with the tools.
DEV := .venv

.DEFAULT_GOAL := help
.PHONY: help python run run-cluster programs litellm test test-compiled test-etcd fuzz fuzz-compiled faults check format bench bench-full wheels clean

help:
	@echo 'make run [ARGS="--port 4100"]      start the server (compiled where there is a C compiler)'
	@echo 'make run-cluster                   start three servers over three members of etcd, for a look around'
	@echo 'make test [ARGS="-k stack"]        run the tests on the sources, in pure Python'
	@echo 'make litellm                       install litellm, for the tests that run it: 400 MB'
	@echo 'make programs                      install Django, Flask and others, for the tests that run them'
	@echo 'make test-compiled [ARGS=...]      run the same tests on the compiled build'
	@echo 'make test-etcd                     run the suites of the server on one over etcd'
	@echo 'make fuzz [EXAMPLES=1000]          try other random examples, and more of them; likewise fuzz-compiled'
	@echo 'make faults [ARGS=...]             kill, fail and damage at every point there is; takes hours'
	@echo 'make check                         ruff and strict mypy'
	@echo 'make format                        let ruff format and fix'
	@echo 'make bench, make bench-full        measure beside Redis and memcached'
	@echo 'make wheels [ARGS=...]              build wheels for the versions of Python that are there, into dist'
	@echo 'make clean                         remove the virtual environments, builds and caches'
	@echo 'PYTHON=python3.13 uses another interpreter than python3. KVS_BUILD=pure compiles nothing: a slower server, installed faster.'

# Before anything is made, and in words that any Python understands.
VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null
python:
	@found=$$($(PYTHON) $(VERSION)) || { \
	  echo "kvs: needs Python 3.11 or newer, and $(PYTHON) is $${found:-not there}: name another as in make PYTHON=python3.13" >&2; \
	  exit 1; \
	}

# Each looks every time whether there is anything to do, which takes a tenth of a second.
$(RUN)/.installed: python
	@$(PYTHON) tools/venv.py $(RUN) kvs

$(RUN)/.tests: $(RUN)/.installed
	@$(PYTHON) tools/venv.py $(RUN) tests

$(DEV)/.installed: python
	@$(PYTHON) tools/venv.py $(DEV) dev

$(DEV)/.programs: $(DEV)/.installed
	@$(PYTHON) tools/venv.py $(DEV) programs

$(RUN)/.programs: $(RUN)/.tests
	@$(PYTHON) tools/venv.py $(RUN) programs

run-cluster: $(RUN)/.installed
	@exec $(RUN)/bin/python tools/cluster.py $(ARGS)

programs: $(DEV)/.programs

litellm: $(DEV)/.installed
	@$(PYTHON) tools/venv.py $(DEV) litellm

run: $(RUN)/.installed
	@exec $(RUN)/bin/python -m kvs $(ARGS)

test: $(DEV)/.installed
	$(DEV)/bin/python $(PYTEST) $(ARGS)

test-compiled: $(RUN)/.tests
	$(RUN)/bin/python $(PYTEST) $(ARGS)

test-etcd: $(RUN)/.tests
	TEST_FULL_SCALE=1 $(RUN)/bin/python $(PYTEST) tests/system tests/interop --ignore=tests/system/etcd -k etcd $(ARGS)

fuzz: $(DEV)/.installed
	$(FUZZ) $(DEV)/bin/python $(PYTEST) -m draws -o timeout=0 $(ARGS)

fuzz-compiled: $(RUN)/.tests
	$(FUZZ) $(RUN)/bin/python $(PYTEST) -m draws -o timeout=0 $(ARGS)

# On the compiled build, which is what users run; with -s, for the numbers of points.
faults: $(RUN)/.tests
	TEST_FULL_SCALE=1 $(RUN)/bin/python -m pytest -s tests/faults tests/consistency tests/contract/test_broken_engines.py \
	  tests/system/test_interrupts_anywhere.py $(ARGS)

check: $(DEV)/.installed
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/mypy

format: $(DEV)/.installed
	$(DEV)/bin/ruff check --fix
	$(DEV)/bin/ruff format

bench: $(RUN)/.installed $(DEV)/.installed
	$(RUN)/bin/python -m bench quick $(ARGS)

bench-full: $(RUN)/.installed $(DEV)/.installed
	$(RUN)/bin/python -m bench full --charts docs/charts $(ARGS)

# ARGS may name interpreters; without, there has to be one of each version that pyproject.toml names.
wheels: python
	$(PYTHON) tools/wheels.py $(ARGS)

clean:
	rm -rf $(DEV) $(RUN) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
