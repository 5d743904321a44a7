# `make demo` and `make test` do all set-up: a virtual environment in .venv, made
# once, and brought up to date only when a requirements file changes.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
# One process per core; a file's tests share what is expensive to make.
PARALLEL := --numprocesses auto --dist loadfile

.PHONY: demo test test-quick test-slow docs colabs lint clean

demo: $(READY)
	$(VENV)/bin/python experiments/upsampling_ablation.py --workdir runs/demo

test: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest $(PARALLEL)

# Everything but the whole runs of the experiments.
test-quick: $(READY)
	$(VENV)/bin/python -m pytest $(PARALLEL) --deselect tests/test_experiment.py

test-slow: $(READY)
	$(VENV)/bin/python -m pytest -m slow

# The pages, with warnings as errors, and the examples in them.
docs: $(READY)
	$(VENV)/bin/python -m pip install -qq -r requirements-docs.txt
	$(VENV)/bin/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	$(VENV)/bin/python -m pytest -m slow tests/test_doc_examples.py

# Runs the notebooks, in an environment in which they install segjax themselves. They are
# to take four minutes on two quiet cores: the command prints what they took. Its limit is
# that of a slow or busy machine, which must not fail a change.
colabs:
	$(PYTHON) -m venv $(VENV)-colabs
	$(VENV)-colabs/bin/python -m pip install -qq -r requirements-colabs.txt
	$(VENV)-colabs/bin/python -m pip uninstall -qq --yes segjax
	rm -rf build
	$(VENV)-colabs/bin/python colabs/build.py --check --minutes 10

lint: $(READY)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(READY): pyproject.toml $(wildcard requirements*.txt)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -qq --upgrade pip
	$(VENV)/bin/python -m pip install -qq --editable .[export,gigapixel,hub,serve,video] -r requirements-dev.txt
	# Its pins are too old and not needed: see requirements-export.txt.
	$(VENV)/bin/python -m pip install -qq --no-deps jax2onnx==0.17.1
	touch $@

clean:
	rm -rf .venv* build *.egg-info .pytest_cache .ruff_cache
