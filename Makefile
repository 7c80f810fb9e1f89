# EventBoard. `make` lists the targets. They need Python 3.11 or newer and make.
VENV := .venv
BIN := $(VENV)/bin
# Shows how far it is, and says in one line why it failed.
INSTALL := $(BIN)/python tools/install.py
# The first one that is new enough. Another one: make run PYTHON=/path/to/python3
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)

# Without compiled bytecode the imports take 4 s instead of 1.5 s.
unexport PYTHONDONTWRITEBYTECODE

# Each worker runs neighbours, which share what their module starts, and takes over from another when it has no more.
PARALLEL := -n auto --dist worksteal

.PHONY: help run services dev sh psql reset test test-clients test-shapes test-faults test-deploy bench bench-check check \
	audit sbom kubernetes fmt docs lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 13

run: $(VENV)/.run ## set up, start PostgreSQL, migrate, add demo data, serve on port 3000
	@exec $(BIN)/eventboard dev

services: $(VENV)/.run ## like run, with gateway, auth and events as three processes
	@exec $(BIN)/eventboard dev --services

dev: $(VENV)/.run ## like run, and restart when a source file changes
	@exec $(BIN)/eventboard dev --reload

sh: $(VENV)/.run ## open a shell in which `eventboard` is found; `exit` leaves it
	@. $(BIN)/activate; "$${SHELL:-/bin/sh}" || true

psql: $(VENV)/.run ## open PostgreSQL's shell on the database of `make run`, while that runs
	@exec $(BIN)/eventboard psql

reset: $(VENV)/.run ## delete the data of `make run`, after a question
	@exec $(BIN)/eventboard reset

test: $(VENV)/.dev ## run the tests, on a PostgreSQL of their own
	@exec $(BIN)/pytest $(PARALLEL)

test-clients: $(VENV)/.clients ## generate clients from the OpenAPI document, use them, and lint the document; needs npm
	@exec $(BIN)/pytest $(PARALLEL) tests/clients

test-shapes: $(VENV)/.clients ## run the behaviour tests in every deployment shape, compare the answers byte by byte; and test-clients
	@exec $(BIN)/pytest $(PARALLEL) tests/behaviour tests/shapes tests/idempotency tests/clients --shape every

# Not in parallel: they measure times.
test-faults: $(VENV)/.dev ## kill, freeze, disconnect and restart the three processes
	@exec $(BIN)/pytest tests/faults

# Fetches what it needs into a cache folder: see tests/deploy/engines/fetch.py.
test-deploy: $(VENV)/.dev ## test deploy/ with the engines that it is for: Helm, what a kubelet does, PgBouncer, proxies
	@exec $(BIN)/pytest tests/deploy/engines

bench: $(VENV)/.bench ## run the benchmarks: make bench PARTS="reads writes"; needs wrk and a quiet machine
	@exec $(BIN)/python -m bench $(PARTS)

bench-check: $(VENV)/.dev ## compare the speed of the working tree with the last commit's, or with BASE=<revision>
	@exec $(BIN)/python -m bench.check $(BASE)

check: $(VENV)/.dev ## check format, lint, types, import rules, the Dockerfile and known vulnerabilities
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check --no-cache
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/hadolint Dockerfile
	@$(MAKE) --no-print-directory audit

# The packages of the program and its image; those of development aren't exposed.
AUDIT = $(BIN)/pip-audit
AUDITED := --disable-pip --require-hashes -r requirements/run.txt -r requirements/build.txt

# pip-audit exits with 1 for a vulnerability and for an unreachable database, and with 0 if the database lacks every package.
audit: $(VENV)/.dev ## look for known vulnerabilities of packages
	@found=$$($(AUDIT) --progress-spinner off $(AUDITED) 2>&1); code=$$?; case "$$found" in \
		*"Found "*"known vulnerabilit"*) echo "$$found"; exit 1;; \
		*"could not be audited"*) echo "pip-audit: not checked: the vulnerability database lacks packages";; \
		*) test $$code -eq 0 && echo "$$found" || \
			echo "pip-audit: not checked: no vulnerability database can be reached";; esac

sbom: $(VENV)/.dev ## write a CycloneDX bill of materials to build/sbom.json
	@$(BIN)/python -m tools.sbom build/sbom.json

kubernetes: $(VENV)/.dev ## write deploy/kubernetes, for kustomize, from the Helm chart
	@exec $(BIN)/python -m tests.deploy.engines.manifests

fmt: $(VENV)/.dev ## format, and fix what lint can fix
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

docs: $(VENV)/.dev ## write the table of settings and the list of decisions into docs/
	@$(BIN)/python -m tools.documents

clean: ## remove .venv and caches; the data of `make run` stays
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------------------------
# The environment. A stamp file in .venv marks each finished step, so a second start runs no pip.

# Of the interpreter that was named on the command line or in the environment, as .venv writes it down.
EXECUTABLE = executable = $$("$(PYTHON)" -c 'import os, sys; print(os.path.realpath(sys.executable))' 2>&1)
# FORCE if .venv is missing, its Python is gone, it was made for another folder (it would run that folder's source), or
# with another Python than the one that was named.
FRESH := $(shell $(BIN)/python -c 'import pip' 2>/dev/null && grep -qsF -- ' $(CURDIR)/$(VENV)' $(VENV)/pyvenv.cfg \
	$(if $(filter command environment,$(origin PYTHON)),&& grep -qsxF -- "$(EXECUTABLE)" $(VENV)/pyvenv.cfg) || echo FORCE)

$(BIN)/python: $(FRESH)
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo >&2 \
		"EventBoard needs Python 3.11 or newer. Install it, or name one: make run PYTHON=/path/to/python3"; exit 1; }
	@mkdir -p $(VENV) 2>/dev/null && test -w $(VENV) || { echo >&2 \
		"$(CURDIR)/$(VENV) can't be written: copy this folder to where your account may write"; exit 1; }
	@echo "setting up .venv with its packages (once; takes 20 to 100 s)"
	@why=$$("$(PYTHON)" -m venv --clear $(VENV) 2>&1) || { \
		"$(PYTHON)" -c 'import ensurepip' 2>/dev/null && echo "$$why" | tail -n 1 | sed "s/^/.venv can't be created: /" >&2 || echo >&2 \
		"$(PYTHON) can't create a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

$(VENV)/.run: $(FRESH) $(BIN)/python pyproject.toml requirements/run.txt requirements/build.txt requirements/local.txt
	@echo "installing the program's packages (40 MB)"
	@$(INSTALL) --require-hashes -r requirements/run.txt -r requirements/build.txt -r requirements/local.txt
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements/dev.txt
	@echo "installing the packages for tests and checks"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: $(VENV)/.dev requirements/bench.txt
	@echo "installing the packages for benchmarks"
	@$(INSTALL) --require-hashes -r requirements/bench.txt
	@touch $@

# Generators and linters of the document, apart from the program's packages. Without npm the tests skip what needs it.
CLIENTS := $(VENV)/clients
$(VENV)/.clients: $(VENV)/.dev requirements/clients.txt tests/clients/package.json tests/clients/package-lock.json
	@echo "installing the generators of clients (about a minute)"
	@$(BIN)/python -m venv --clear $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip -qq --disable-pip-version-check install --require-hashes -r requirements/clients.txt
	@cp tests/clients/package.json tests/clients/package-lock.json $(CLIENTS)
	@if command -v npm >/dev/null; then npm ci --prefix $(CLIENTS) --ignore-scripts --no-audit --no-fund --loglevel=error; fi
	@touch $@

FORCE:

# uv resolves for every platform at once. Index addresses and local files stay out.
UV_LOCK := env -u UV_FIND_LINKS $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header

lock: $(VENV)/.dev ## update requirements/*.txt from pyproject.toml (UPGRADE=--upgrade for newer versions)
	@$(INSTALL) uv
	$(UV_LOCK) $(UPGRADE) pyproject.toml -o requirements/run.txt
	$(UV_LOCK) $(UPGRADE) --group build -c requirements/run.txt -o requirements/build.txt
	$(UV_LOCK) $(UPGRADE) --group local -c requirements/run.txt -o requirements/local.txt
	$(UV_LOCK) $(UPGRADE) pyproject.toml --group dev -c requirements/run.txt -c requirements/build.txt \
		-c requirements/local.txt -o requirements/dev.txt
	$(UV_LOCK) $(UPGRADE) --group bench -c requirements/run.txt -c requirements/dev.txt -o requirements/bench.txt
	$(UV_LOCK) $(UPGRADE) --group clients -o requirements/clients.txt
	$(UV_LOCK) $(UPGRADE) --group kubernetes -o requirements/kubernetes.txt
	$(UV_LOCK) $(UPGRADE) --group edges -o requirements/edges.txt
