# The menu: `make help`. Every verb is one line that calls Python; what it does is in stack/.
PYTHON  ?= python3
VENV    := .venv/bin/python
# The whole environment where it was made, else the small one of a box that runs Docker.
LABLOOP  = $(firstword $(wildcard .venv/bin/labloop .envs/control/bin/labloop))

.DEFAULT_GOAL := help
.PHONY: help setup setup-control is-set-up up down destroy status logs doctor users backup restore upgrade \
        bundle deepo demo train check test test-docker test-all setup-tests \
        lint types unit flow fmt docs bench pins clean

help: ## this menu
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

setup: ## make or repair the environments (.venv, .envs/); nothing to do is done in a second
	@$(PYTHON) -m stack.setup_env

setup-control:
	@$(PYTHON) -m stack.setup_env --only control

ifdef LOCAL
up: setup
	@.venv/bin/labloop up --local -d $(HOME_OPTION)
else
up: setup-control ## start the stack in Docker (OFFLINE=1: from a bundle; LOCAL=1: without Docker)
	@$(LABLOOP) up $(if $(OFFLINE),--offline) $(if $(BUNDLE),--bundle $(BUNDLE)) $(HOME_OPTION)
endif

down: is-set-up ## stop it, with everything it started; removes no data
	@$(LABLOOP) down $(HOME_OPTION)

destroy: is-set-up ## remove the stack in Docker with its databases; asks first
	@$(LABLOOP) destroy $(HOME_OPTION)

status: is-set-up ## what runs, how it is, where each task's loop stands
	@$(LABLOOP) status $(HOME_OPTION)

logs: is-set-up ## what the services write (SERVICE=… for one of them), until Ctrl-C
	@$(LABLOOP) logs --follow $(SERVICE) $(HOME_OPTION)

doctor: setup-control ## is this machine fit to run the stack?
	@$(LABLOOP) doctor $(HOME_OPTION)

users: is-set-up ## people who may log in (ADD="name mail" lets one in)
	@$(LABLOOP) users $(if $(ADD),add $(ADD),list) $(HOME_OPTION)

backup: is-set-up ## databases, labels, models and secrets, into a restic repository
	@$(LABLOOP) backup $(HOME_OPTION)

restore: setup-control ## onto an empty box (FROM=repository PASSWORD_FILE=…)
	@$(LABLOOP) restore $(if $(FROM),--from $(FROM)) \
		$(if $(PASSWORD_FILE),--password-file $(PASSWORD_FILE)) $(HOME_OPTION)

upgrade: setup-control ## backup, new images, migrate; back to the old ones if it does not get well
	@$(LABLOOP) upgrade $(HOME_OPTION)

bundle: setup-control ## everything a box without a network needs, in one folder (DIR=…)
	@$(LABLOOP) bundle $(or $(DIR),bundle) $(HOME_OPTION)

deepo: setup-control ## a current base for the trainer, made with deepo's own generator
	@$(LABLOOP) deepo

demo: setup ## the whole loop on made-up brain slices, then stays up to click through
	@.venv/bin/labloop demo

train: is-set-up ## train a task now (TASK=TaskNNN_what)
	@test -n "$(TASK)" || { echo "error: say which task: make train TASK=Task001_kidney" >&2; exit 2; }
	@$(LABLOOP) train $(TASK) --now $(HOME_OPTION)

check: setup lint types unit ## format, lint, types, unit tests: what a commit must pass

test: setup-tests unit flow ## unit tests, then the flow tests against a real Label Studio

test-docker: setup ## images and containers in a real engine (.ci/engine starts one)
	@$(VENV) -m pytest -m docker --verbose --durations=10

test-all: setup-tests ## every test there is, the slow ones too
	@$(VENV) -m pytest

setup-tests:
	@$(PYTHON) -m stack.setup_env --with label-studio-ml

lint:
	@$(VENV) -m ruff format --check && $(VENV) -m ruff check

types:
	@$(VENV) -m mypy

unit:
	@$(VENV) -m pytest -m "not slow and not label_studio and not docker and not gpu" \
		--numprocesses auto --maxprocesses 4

flow:
	@$(VENV) -m pytest -m "(label_studio or slow) and not docker and not gpu" --verbose --durations=10

fmt: setup ## put the code in shape
	@$(VENV) -m ruff format && $(VENV) -m ruff check --fix

docs: setup ## do all links, verbs and settings in the docs exist?
	@$(VENV) -m pytest tests/test_docs.py tests/stack/test_settings_documented.py

bench: setup-tests ## speed and quality beside what you would use instead; takes two hours
	@$(VENV) -m bench.codec
	@$(VENV) -m bench.slices
	@$(VENV) -m bench.serving
	@$(VENV) -m bench.watch
	@$(VENV) -m bench.quality cardiac
	@$(VENV) -m bench.quality chest
	@$(VENV) -m bench.resample
	@$(VENV) -m bench.volume_inverse
	@$(VENV) -m bench.hippocampus
	@$(VENV) -m bench.loop_quality cardiac
	@$(VENV) -m bench.loop_quality chest
	@$(VENV) -m bench.loop_quality hippocampus

pins: setup ## write constraints.txt anew from pyproject.toml
	@$(VENV) .ci/pins.py

clean: ## remove caches; environments and homes stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -not -path './.envs/*' -prune -exec rm -rf {} +

is-set-up:
	@test -n "$(LABLOOP)" || { echo "error: nothing is installed here yet: run \`make setup\` first" >&2; exit 2; }

HOME_OPTION = $(if $(HOME_DIR),--home $(HOME_DIR))
