# make bench: the main benchmark. make test: every check. make docs: the site, into build/site. All set up .venv first.
# make release: what is released, built, checked in fresh environments, and tagged; make TAG=no release leaves out the tag.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: bench test docs release clean

# The CPU build of PyTorch is taken where the index offers one; elsewhere torch's own index has it:
# make TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

bench: $(VENV)/.ready
	$(BIN)/python -m bench.mnist1d

test: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadgroup

docs: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable ".[bench,docs]"
	$(BIN)/mkdocs build --strict

# The oldest and the newest Python and PyTorch that pyproject.toml allows.
OLDEST ?= python3.11 torch==2.11.0
NEWEST ?= python3.13 torch==2.13.0

release:
	TAG=$(TAG) tools/release.sh "$(OLDEST)" "$(NEWEST)"

clean:
	rm -rf $(VENV) build dist *.egg-info
