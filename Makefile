# make demo   a noisy photograph restored, from a fresh clone
# make test   linters, type checks and every test

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test clean

demo: $(VENV)/.core
	@mkdir -p demo
	$(BIN)/edge-restore sample --task denoise --out demo/restored.png --stats demo/stats.json
	@$(BIN)/edge-restore sample --task denoise --side-by-side --out demo/before_after.png >/dev/null
	@echo "wrote demo/before_after.png (as it came | restored) and demo/stats.json"

test: $(VENV)/.dev
	@scripts/boards.sh $(VENV)
	@scripts/live.sh
	@scripts/lava.sh $(VENV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(wildcard simulator firmware_bridge edge export train)
	$(BIN)/python -m pytest

# What a board needs, and no more: the demo is quick to set up.
$(VENV)/.core: pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(VENV)
	@echo "Installing NumPy, Numba, OpenCV and safetensors into $(VENV) (once, about 140 MB to download) ..."
	@$(PIP) --editable .
	@touch $@

# PyTorch and the tools of development on top.
$(VENV)/.dev: $(VENV)/.core
	@echo "Installing PyTorch, ONNX Runtime and the test tools into $(VENV) (once) ..."
	@$(PIP) --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo *.egg-info build
