# `make run` and `make test` need only python3 and make; everything else goes into the two virtual environments.

PYTHON ?= python3
ARGS   ?=
PIP    := -m pip install --quiet --disable-pip-version-check

# What users run: a plain install, compiled where there is a C compiler.
RUN := .venv-run
# What is worked on: an editable install in pure Python, with the tools.
DEV := .venv

SOURCES := pyproject.toml setup.py README.md $(shell find src -name '*.py' -not -path '*.egg-info*')

.DEFAULT_GOAL := help
.PHONY: help run test test-compiled faults check format bench bench-full clean

help:
	@echo 'make run [ARGS="--port 4100"]      start the server (compiled where there is a C compiler)'
	@echo 'make test [ARGS="-k stack"]        run the tests on the sources, in pure Python'
	@echo 'make test-compiled [ARGS=...]      run the same tests on the compiled build'
	@echo 'make faults [ARGS=...]             kill, fail and damage at every point there is; takes hours'
	@echo 'make check                         ruff and strict mypy'
	@echo 'make format                        let ruff format and fix'
	@echo 'make bench, make bench-full        measure beside Redis and memcached'
	@echo 'make clean                         remove the virtual environments, builds and caches'

# The stamp files make set-up happen once, and again only when what it depends on has changed.
%/bin/python:
	$(PYTHON) -m venv $*
	$@ $(PIP) --upgrade 'pip>=25.1'

$(RUN)/.installed: $(RUN)/bin/python $(SOURCES)
	@echo 'Installing kvs into $(RUN); compiling takes about two minutes.'
	@rm -rf build
	$(RUN)/bin/python $(PIP) .
	@$(RUN)/bin/kvs --version
	@touch $@

$(RUN)/.tests: $(RUN)/.installed
	$(RUN)/bin/python $(PIP) --group tests
	@touch $@

$(DEV)/.installed: $(DEV)/bin/python pyproject.toml setup.py
	$(DEV)/bin/python $(PIP) --editable . --group dev
	@touch $@

run: $(RUN)/.installed
	@exec $(RUN)/bin/python -m kvs $(ARGS)

test: $(DEV)/.installed
	$(DEV)/bin/python -m pytest $(ARGS)

test-compiled: $(RUN)/.tests
	$(RUN)/bin/python -m pytest $(ARGS)

# On the compiled build, which is what users run; with -s, for the numbers of points.
faults: $(RUN)/.tests
	TEST_FULL_SCALE=1 $(RUN)/bin/python -m pytest -s tests/faults $(ARGS)

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

clean:
	rm -rf $(DEV) $(RUN) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis src/*.egg-info
