# `make` lists the targets. Each makes what it needs in .venv first; only Python 3.11+, make and git must be there.

PYTHON_IN := .venv/bin/python
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test lint format types imports docs site pictures ui wheel release bench torture services lock clean check

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '%-14s %s\n' "$$target" "$$text"; done

setup: .venv/.dev ## make .venv with everything that development needs

demo: .venv/.demo ## run the demonstration
	@.venv/bin/sessile demo

test: .venv/.dev ## run all tests; fails below the coverage that pyproject.toml asks for (ARGS="..." for pytest)
	@rm -f .coverage .coverage.* # not by pytest-cov: each process that replaces a dead one would do so again
	$(PYTHON_IN) -m pytest --cov --cov-append -n auto --dist worksteal --durations=40 $(ARGS)

lint: .venv/.dev ## check style
	$(PYTHON_IN) -m ruff check
	$(PYTHON_IN) -m ruff format --check

format: .venv/.dev ## format the code, and repair what can be repaired
	$(PYTHON_IN) -m ruff check --fix
	$(PYTHON_IN) -m ruff format

types: .venv/.dev ## check types
	$(PYTHON_IN) -m basedpyright

imports: .venv/.dev ## check which way imports point
	.venv/bin/lint-imports

docs: .venv/.dev ## run the code in README.md and docs/, check commands and links
	$(PYTHON_IN) -m pytest tests/test_docs.py

site: .venv/.dev ## build the site with the documentation into dist/site, beside those of earlier versions
	$(PYTHON_IN) -m website

pictures: .venv/.dev ## draw the pictures of the documentation anew (needs Node, Chromium)
	cd website && npm ci --no-audit --no-fund --loglevel=error
	$(PYTHON_IN) -m website.draw

ui: ## build the dashboard anew (needs Node 20.19 or newer)
	cd ui && npm ci --no-audit --no-fund && npm run lint && npm test && npm run build

wheel: .venv/.dev ## build the package, and use it in an empty environment
	@scripts/check_wheel.sh

release: wheel site ## what a release needs: package and site in dist/, installed on every Python that is here
	@scripts/check_release.sh

check: lint imports types test wheel ## everything that CI checks

bench: .venv/.dev ## measure
	$(PYTHON_IN) -m bench

torture: .venv/.dev ## the long tests: crashes and races
	$(PYTHON_IN) -m tests.torture
	$(PYTHON_IN) -m tests.torture.pythons
	SESSILE_NEWEST=1 $(PYTHON_IN) -m pytest -n auto --dist worksteal tests/postgres tests/mysql tests/redis_driver \
		tests/sqlalchemy_driver tests/sql
	SESSILE_TORTURE=1 $(PYTHON_IN) -m pytest -n auto --dist worksteal tests/frameworks tests/test_growth.py tests/test_image.py
	SESSILE_TORTURE=1 $(PYTHON_IN) -m pytest -n auto --dist worksteal -k "test_conformance or test_every_client_gets or test_the_description_is_kept or any_commit or any_request or idle_streams or any_name or mysql or seaweedfs"

services: .venv/.dev ## start the database servers that the tests use, for development, until Ctrl-C
	@$(PYTHON_IN) -m tests.servers

lock: ## renew requirements/*.txt and those of bench/ (needs uv; UPGRADE=1 for newest versions)
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra cli --extra openai --extra testing \
		--extra postgres --extra mysql --extra mongodb --extra redis --extra dynamodb --extra s3 --extra gcs --extra sqlalchemy \
		--extra yaml --extra server --extra ag-ui --group dev -o requirements/dev.txt
	$(LOCK) $(if $(UPGRADE),--upgrade) pyproject.toml --extra cli --extra openai --extra anthropic --extra google --group demo \
		-c requirements/dev.txt -o requirements/demo.txt
	$(LOCK) pyproject.toml -c requirements/demo.txt -o requirements/wheel.txt
	$(LOCK) pyproject.toml --extra cli -c requirements/demo.txt -o requirements/wheel-cli.txt
	for peer in bench/peers/requirements/*.in tests/frameworks/requirements/*.in; do $(LOCK) "$$peer" -o "$${peer%.in}.txt" || exit 1; done

clean: ## remove what was made, .venv too
	rm -rf .venv .coverage .coverage.* .hypothesis .import_linter_cache .pytest_cache .ruff_cache build dist htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say that .venv is up to date. The package is installed in place, so changes of its code need no new install.
PACKAGE := pyproject.toml src/sessile/_version.py scripts/env.sh
INSTALL_PACKAGE = scripts/env.sh .venv --no-deps --no-build-isolation --editable .

.venv/.demo: requirements/demo.txt $(PACKAGE)
	@echo "Setting up .venv ..."
	@scripts/env.sh .venv --no-deps --require-hashes -r requirements/demo.txt
	@$(INSTALL_PACKAGE)
	@touch $@

.venv/.dev: requirements/dev.txt $(PACKAGE)
	@echo "Setting up .venv ..."
	@scripts/env.sh .venv --no-deps --require-hashes -r requirements/dev.txt
	@$(INSTALL_PACKAGE)
	@touch $@ .venv/.demo
