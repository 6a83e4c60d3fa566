# Every target is a list of plain commands, shown as they run; docs/INSTALL.md explains those of setup.
#
#   VENV             the environment to use. One that exists is used as it is: make setup VENV=$CONDA_PREFIX
#   PYTHON           the interpreter that creates VENV where it does not exist
#   VENV_FLAGS       flags for creating it. Where PYTHON itself imports torch and torchvision, the environment is
#                    created so that it sees them; `VENV_FLAGS=` gives a closed one
#   TORCH_INDEX_URL  index for torch and torchvision (CPU-only or another CUDA); empty: pip's own
VENV ?= .venv
PYTHON ?= python3
TORCH_INDEX_URL ?=
QUICKSTART_ARGS ?=
TEST_ARGS ?= -n auto --dist loadfile
BENCH_ARGS ?=

PY := $(VENV)/bin/python
STAMP := $(VENV)/.video-pose-setup
# Evaluated only when the environment is created. In a virtual environment PYTHON's packages would stay unseen.
VENV_FLAGS ?= $(shell $(PYTHON) -c "import sys, torch, torchvision; \
    print('--system-site-packages' if sys.prefix == sys.base_prefix else '')" 2>/dev/null)
TORCH_INDEX := $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))

.PHONY: help setup test quickstart bench lint format types clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1: /p' Makefile

setup: $(STAMP)  ## create VENV and install everything; a second run reuses what is there

$(PY):
	$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)

# `A || B`: what imports already is kept, whatever its build. `pip check` informs and does not stop: where the
# environment sees the packages of PYTHON, it also reports quarrels among those.
$(STAMP): setup.py projects/video_pose/cli/doctor.py | $(PY)
	$(PY) -m pip install "setuptools>=77.0.3,<81" wheel
	$(PY) -c "import torch, torchvision" 2>/dev/null || $(PY) -m pip install --force-reinstall $(TORCH_INDEX) "torch>=2.6" torchvision
	$(PY) -m pip install --editable ".[dev]"
	$(PY) -c "import cv2" 2>/dev/null || $(PY) -m pip install --force-reinstall --no-deps opencv-python-headless
	$(PY) -m video_pose doctor --install
	-$(PY) -m pip check
	touch $(STAMP)

test: $(STAMP)  ## run the tests; TEST_ARGS="-m slow" those that go the whole way
	$(PY) -m pytest $(TEST_ARGS)

quickstart: $(STAMP)  ## make a small dataset, train UniPose-LSTM on it, evaluate, draw
	$(PY) tools/quickstart.py $(QUICKSTART_ARGS)

bench: $(STAMP)  ## measure speed
	$(PY) tools/benchmark.py $(BENCH_ARGS)

lint: $(STAMP)  ## check style
	VENV=$(VENV) dev/lint.sh

format: $(STAMP)  ## rewrite the files in the project's style
	VENV=$(VENV) dev/format.sh

types: $(STAMP)  ## check types
	VENV=$(VENV) dev/types.sh

clean:  ## remove caches and build leftovers; keeps VENV, datasets and outputs
	rm -rf build dist projects/*.egg-info .pytest_cache .ruff_cache .mypy_cache
	find projects tests tools dev demo -type d -name __pycache__ -prune -exec rm -rf {} +
