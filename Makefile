# `make run` and `make test` do all of their own set-up; the second time they find it done.

PYTHON := .venv/bin/python
INSTALL := @requirements/install.sh

.PHONY: run test drills lint clean

# Everything on this machine: http://127.0.0.1:8000, or another PORT. Ctrl-C stops it.
run:
	$(INSTALL) run
	@exec $(PYTHON) manage.py up

# The whole suite, on a PostgreSQL and a Redis that it starts for itself.
test:
	$(INSTALL) dev
	@exec $(PYTHON) -m pytest -n 2 --dist worksteal

# Slow tests that kill, fill and start whole installations.
drills:
	$(INSTALL) dev
	@exec $(PYTHON) -m pytest -m drill

lint:
	$(INSTALL) dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy
	$(PYTHON) -m config.embedded.testing $(PYTHON) manage.py makemigrations --check --dry-run
	.venv/bin/djlint --lint --quiet templates

# Removes what can be made again. Data (.data) stays, except that of tests.
clean:
	rm -rf .venv .data/test .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
