# make install, make train and make test need python3, pip and make only; uv is used where it is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install train test check bench variants clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@if command -v uv > /dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'; \
	else \
		($(PYTHON) -m venv $(VENV) || $(PYTHON) -m virtualenv $(VENV)) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			--constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@

train: install  ## trains configs/shapes.py: minutes on two cores
	$(BIN)/python -m unet_jax.main --config=configs/shapes.py --workdir=runs/shapes

test: install  ## runs the tests
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

check: install  ## formatting, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyrefly check

bench: install  ## speed of the step and of the whole loop, start-up time, memory
	$(BIN)/python -m unet_jax.benchmark

variants: install  ## the README's table of variants
	$(BIN)/python -m experiments.bench.variants

clean:
	rm -rf $(VENV) build *.egg-info
