# EventBoard. `make` lists the targets; Python 3.11 or newer and make are all they need.
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# The first that is new enough; any other by name: make run PYTHON=/path/to/python3
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)

# Without compiled bytecode the imports take 4 s instead of 1.5 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run services dev test test-shapes test-faults bench bench-check check sbom fmt lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

run: $(VENV)/.run ## set up, start PostgreSQL, migrate, put in demo data, serve on port 3000
	@exec $(BIN)/eventboard dev

services: $(VENV)/.run ## as run, with gateway, auth and events as three processes
	@exec $(BIN)/eventboard dev --services

dev: $(VENV)/.run ## as run, and reload when a source file changes
	@exec $(BIN)/eventboard dev --reload

test: $(VENV)/.dev ## run the tests, on a PostgreSQL of their own
	@exec $(BIN)/pytest -n auto

test-shapes: $(VENV)/.dev ## run the behaviour tests in every deployment shape, and compare the answers to the byte
	@exec $(BIN)/pytest -n auto tests/behaviour tests/shapes tests/idempotency --shape every

# One after the other: they measure times, and both cores are busy enough.
test-faults: $(VENV)/.dev ## kill, freeze, cut off and restart the three processes, and see what a client sees
	@exec $(BIN)/pytest tests/faults

bench: $(VENV)/.bench ## measure it against the baselines: make bench PARTS="reads writes"; needs wrk, and a quiet machine
	@exec $(BIN)/python -m bench $(PARTS)

bench-check: $(VENV)/.dev ## in two minutes: is the working tree as fast as the last commit? (or as BASE=<revision>)
	@exec $(BIN)/python -m bench.check $(BASE)

check: $(VENV)/.dev ## check format, lint, types, import rules, the Dockerfile, and the packages for known flaws
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check --no-cache
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/python -m tools.audit

sbom: $(VENV)/.dev ## list what the program is made of, as CycloneDX, in build/sbom.json
	@$(BIN)/python -m tools.sbom build/sbom.json

fmt: $(VENV)/.dev ## format, and mend what lint can mend
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

clean: ## remove .venv and caches; the data of `make run` stays
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------------------
# The environment. A stamp file inside .venv says that a step was done, so a second start runs no pip.

# Gone, of a Python that is gone, or made for another folder (a moved clone would run the old folder's source).
FRESH := $(shell $(BIN)/python -c 'import pip' 2>/dev/null && grep -qsF -- ' $(CURDIR)/$(VENV)' $(VENV)/pyvenv.cfg || echo FORCE)

$(BIN)/python: $(FRESH)
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
		"EventBoard needs Python 3.11 or newer; install it, or name one: make run PYTHON=/path/to/python3"; exit 1; }
	@echo "setting up .venv (once, about 20 s)"
	@"$(PYTHON)" -m venv --clear $(VENV) || { echo >&2 \
		"$(PYTHON) makes no virtual environment; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.run: $(FRESH) $(BIN)/python pyproject.toml requirements/run.txt requirements/build.txt requirements/local.txt
	@echo "installing what the program needs"
	@$(PIP) install --require-hashes -r requirements/run.txt -r requirements/build.txt -r requirements/local.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing what tests and checks need"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@echo "installing what the usual baseline is made of"
	@$(PIP) install --require-hashes -r requirements/bench.txt
	@touch $@

FORCE:

# uv answers for every platform at once. No index address, no other source of packages and no local file gets in.
UV_LOCK := env -u UV_FIND_LINKS $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header

lock: $(VENV)/.dev ## renew requirements/*.txt from pyproject.toml (add UPGRADE=--upgrade for newer versions)
	@$(PIP) install uv
	$(UV_LOCK) $(UPGRADE) pyproject.toml -o requirements/run.txt
	$(UV_LOCK) $(UPGRADE) --group build -c requirements/run.txt -o requirements/build.txt
	$(UV_LOCK) $(UPGRADE) --group local -c requirements/run.txt -o requirements/local.txt
	$(UV_LOCK) $(UPGRADE) pyproject.toml --group dev -c requirements/run.txt -c requirements/build.txt \
		-c requirements/local.txt -o requirements/dev.txt
	$(UV_LOCK) $(UPGRADE) --group bench -c requirements/run.txt -c requirements/dev.txt -o requirements/bench.txt
