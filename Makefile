# make install, make train and make test need python3, pip and make only; uv is used where it is.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt# empty: the newest of every package
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install train test check docs commands bench variants clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml setup.py $(CONSTRAINTS)
	@if command -v uv > /dev/null; then \
		uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
		uv pip install --quiet --python $(BIN)/python $(CONSTRAINTS:%=--constraint %) --editable '.[dev]'; \
	else \
		($(PYTHON) -m venv $(VENV) || $(PYTHON) -m virtualenv $(VENV)) && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			$(CONSTRAINTS:%=--constraint %) --editable '.[dev]'; \
	fi
	@touch $@

train: install  ## trains configs/shapes.py: minutes on two cores
	$(BIN)/python -m unet_jax.main --config=configs/shapes.py --workdir=runs/shapes

test: install  ## runs the tests
	$(BIN)/python -m pytest -m 'not pages' --numprocesses=2 --dist=loadfile --no-loadscope-reorder

check: install  ## formatting, lint, types, and who imports whom
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports --no-logo

docs: install  ## the pages as HTML, without network, into build/docs/index.html
	$(BIN)/python -m sphinx -W --keep-going --fresh-env --quiet docs build/docs

commands: install  ## runs every command of the README and the docs, on small data
	$(BIN)/python -m pytest -m pages --numprocesses=2

bench: install  ## speed of the step and of the whole loop, start-up time, memory
	$(BIN)/python -m experiments.bench.speed

variants: install  ## the table of variants in docs/guide/models.md
	$(BIN)/python -m experiments.bench.variants

clean:
	rm -rf $(VENV) build *.egg-info
