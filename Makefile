# Every verb a developer needs. Each one sets up what it needs by itself; `make` alone prints them.

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
PYTEST = TOWPATH_BROWSER="$$($(PYTHON) -m tools.browser || true)" $(BIN)/pytest -n $(WORKERS) $(ARGS)
SOURCES := kernel/kernel services/api-gateway/api_gateway services/scheduler/scheduler \
  services/browser-runner/browser_runner services/artifact-store/artifact_store deploy/embedded/embedded \
  deploy/embedded/demo_shop deploy/cluster/cluster clients/python/towpath tools tests docs/conf.py

PURE := tests/unit/scheduler tests/unit/api_gateway/registry tests/unit/browser_runner/test_resume.py \
  tests/unit/kernel/processor

ON_THREE_BROKERS := tests/contract/log tests/contract/processor tests/chaos/kafka/test_stopped_owner.py

.DEFAULT_GOAL := help
.PHONY: help setup setup-run setup-up components run up check test test-unit test-contract test-integration test-chaos \
  test-e2e test-kafka test-real test-faults soak soak-processes walk bench protos manual docs format clean

help: ## print these verbs
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

setup: ## install everything that the other verbs need into .venv (at once when nothing changed)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) tools/setup.py dev

# What tests of the cluster form start for themselves. What is not to be had is told, and its tests say so, too.
components:
	@$(PYTHON) -m tools.kafka >/dev/null || true
	@$(PYTHON) -m tools.postgres >/dev/null || true
	@$(PYTHON) -m tools.versitygw >/dev/null || true

setup-up:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) tools/setup.py cluster
	@for server in kafka postgres versitygw; do $(PYTHON) -m tools.$$server >/dev/null || exit 1; done

setup-run:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is missing: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) tools/setup.py run

run: setup-run ## start Towpath here, all in one process, and print its addresses (ARGS="--help" for options)
	@browser="$$($(PYTHON) -m tools.browser)" || exit 1; \
	case "$${TOWPATH_DEMO-1}" in 0|no|false) ;; *) export TOWPATH_EGRESS_ALLOW="$${TOWPATH_EGRESS_ALLOW-127.0.0.0/8}";; esac; \
	TOWPATH_BROWSER="$$browser" exec $(BIN)/python -m embedded $(ARGS)

up: setup-up ## start Towpath here on Kafka, PostgreSQL and S3, two of each service, and print what runs where
	@browser="$$($(PYTHON) -m tools.browser)" || exit 1; \
	case "$${TOWPATH_DEMO-1}" in 0|no|false) ;; *) export TOWPATH_EGRESS_ALLOW="$${TOWPATH_EGRESS_ALLOW-127.0.0.0/8}";; esac; \
	TOWPATH_BROWSER="$$browser" exec $(BIN)/python -m cluster $(ARGS)

check: setup ## format, lint, types, imports, contracts, tidiness, coverage of the pure rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports
	$(BIN)/python tools/protos.py --check
	$(BIN)/python -m tools.events --check
	$(BIN)/python -m tools.manual --check
	$(BIN)/pytest -q -n 0 -s tests/unit/test_tidy.py tests/unit/test_levels.py tests/unit/test_docs.py
	$(BIN)/pytest -q -n $(WORKERS) $(PURE) --cov --cov-report=term:skip-covered --cov-fail-under=95

test: setup components ## all tests but test-kafka, test-faults, test-real; absent components: skipped, or TOWPATH_REQUIRE=all fails
	$(PYTEST) tests --ignore=tests/real --ignore=tests/e2e/cluster --ignore=tests/chaos/cluster

test-unit: setup ## pure tests: no disk, no network
	$(BIN)/pytest -n $(WORKERS) $(ARGS) tests/unit

test-contract: setup components ## one suite per port, over all its implementations
	$(PYTEST) tests/contract

test-integration: setup components ## services together
	$(PYTEST) tests/integration

test-chaos: setup components ## ten minutes of simulation, killed processes and a whole cluster that is hurt; SEED=n repeats one
	TOWPATH_SEED="$(SEED)" $(PYTEST) tests/chaos --ignore=tests/chaos/cluster
	TOWPATH_SEED="$(SEED)" $(PYTEST) -n 0 tests/chaos/cluster

test-e2e: setup components ## a real browser against the running product
	$(PYTEST) tests/e2e

# A file's tests stay together: those of the canary share one life of a cluster.
test-kafka: setup components ## the API's suites on Kafka, PostgreSQL; the log's on three brokers; demo and canary in a cluster
	TOWPATH_TEST_LOG=kafka TOWPATH_TEST_DATABASE=postgres $(PYTEST) --dist loadfile tests/contract/api_v2 tests/e2e/cluster
	env -u TOWPATH_TEST_KAFKA TOWPATH_TEST_KAFKA_NODES=3 $(PYTEST) --timeout 300 -k kafka $(ON_THREE_BROKERS)

test-real: WORKERS = 0
test-real: setup ## on a real application, pretix, brought into .tools; TIMES=n tells its story n times, half with kills
	@$(PYTHON) -m tools.pretix || true
	TOWPATH_TIMES="$(TIMES)" TOWPATH_SEED="$(SEED)" $(PYTEST) tests/real

test-faults: setup components ## the last part of test-chaos alone: a whole cluster is hurt under load; wants the machine for itself
	TOWPATH_SEED="$(SEED)" $(PYTEST) -n 0 tests/chaos/cluster

soak: setup ## many simulated seeds; SEEDS=n
	TOWPATH_SEEDS="$(or $(SEEDS),1000)" $(PYTEST) tests/chaos/simulator

soak-processes: setup ## hurt a whole cluster of processes until Ctrl-C, or CYCLES=n times each way; writes tests/chaos/RESULTS.md
	TOWPATH_BROWSER="$$($(PYTHON) -m tools.browser)" $(BIN)/python -m tests.support.soak_processes --cycles $(or $(CYCLES),0) $(ARGS)

walk: setup ## the exhaustive walks over larger instances; many minutes and gigabytes
	$(BIN)/pytest -n $(WORKERS) -m large tests/chaos/small_scope

bench: setup components ## measure, beside a raw baseline of the same run; KAFKA=1: the cluster form
	TOWPATH_BROWSER="$$($(PYTHON) -m tools.browser || true)" $(BIN)/python -m tests.bench $(if $(KAFKA),--kafka) $(ARGS)

protos: setup ## generate Python from protos/contracts, and the event contract that the gateway serves
	$(BIN)/python tools/protos.py
	$(BIN)/python -m tools.events

manual: setup ## write the parts of the manual that are made from the code
	$(BIN)/python -m tools.manual

docs: setup ## build the manual as a site into build/docs; a dead link is an error
	$(BIN)/sphinx-build -q -W --keep-going -n -b dirhtml docs build/docs
	@echo "built: build/docs/index.html"

format: setup ## put every file into the one format
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

clean: ## remove what the verbs made; data folders stay
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.*
