# Every command of the project. `make` lists them; CI calls `make test` and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION ?= $(shell cat tests/kafka/versions/latest)
BROKERS ?= 1
SEEDS ?= 200
SEED ?= 0
SOURCES := $(shell find crates python -name '*.rs' -o -name '*.py' -o -name '*.toml' | grep -v /target/) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help demo test test-long check fmt gen tidy parity sim replay rust-test python-test kafka-test kafka bench-quick
.PHONY: bench-topics bench-partitions clean
.DEFAULT_GOAL := help

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

demo: $(VENV)/installed ## Produce and consume a million messages (BOOTSTRAP=host:port; an embedded broker without it)
	$(BIN)/python -m pykafka.demo $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP))

test: check rust-test parity python-test kafka-test ## Run every test that fits in half an hour

check: tidy ## Format, lints and the rules of the house
	cargo fmt --check
	cargo clippy --quiet --workspace --all-targets -- --deny warnings

fmt: ## Format everything
	cargo fmt
	$(BIN)/ruff format python tests bench

gen: ## Write docs/reference/ from the source
	cargo run --quiet -p xtask -- gen

tidy: ## The rules for the source: no I/O in the core, imports one way, small files, documents that are true
	cargo run --quiet -p xtask -- tidy

parity: ## Compare every field of every message with Kafka's own schemas
	cargo run --quiet -p xtask -- parity

rust-test: ## Unit, wire, scenario and simulation tests, and the conformance suite on the embedded broker
	cargo test --quiet

sim: ## Run the simulator: make sim SEEDS=200
	cargo run --quiet -p kavka-sim -- $(SEEDS)

replay: ## Run one seed of the simulator and print what happens: make replay SEED=7
	cargo run --quiet -p kavka-sim -- replay $(SEED)

python-test: $(VENV)/tested ## Unit, compatibility, misuse and life-cycle tests of the Python package
	$(BIN)/ruff format --check --quiet python tests bench
	$(BIN)/ruff check --quiet python tests bench
	$(BIN)/mypy python/pykafka
	$(BIN)/python -m mypy.stubtest pykafka._engine
	$(BIN)/pytest --override-ini=faulthandler_timeout=300 tests/python/unit tests/python/compat tests/python/misuse

kafka-test: $(VENV)/tested ## Everything that needs real Kafka: conformance, fidelity, interoperability, brokers killed
	for file in tests/kafka/versions/*; do $(PYTHON) tests/kafka/kafka.py fetch --version $$(cat $$file) || exit; done
	cargo test --quiet -p kavka-test-kafka
	cargo test --quiet -p kavka-broker --features real-kafka --test fidelity
	cargo test --quiet -p kavka --features real-kafka --test conformance
	$(BIN)/pytest -m 'not long' tests/python/kafka

test-long: $(VENV)/tested ## What takes longer than `make test` allows
	$(BIN)/pytest -m long tests/python

kafka: ## Run real Kafka until Ctrl-C: make kafka VERSION=3.9.2 BROKERS=3
	$(PYTHON) tests/kafka/kafka.py run --version $(VERSION) --brokers $(BROKERS)

bench-quick: $(VENV)/tested ## A million messages each way beside confluent-kafka, in under three minutes
	$(BIN)/python bench/quick.py

bench-topics: $(VENV)/tested ## Write to 1, 100 and 1,000 topics beside confluent-kafka, in about three minutes
	$(BIN)/python bench/scale.py topics

bench-partitions: $(VENV)/tested ## Read from 10, 1,000 and 10,000 partitions beside confluent-kafka, in about two minutes
	$(BIN)/python bench/scale.py partitions

clean: ## Remove what was built and fetched
	rm -rf target $(VENV) .kafka

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The package alone: all that `make demo` needs.
$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install --quiet .
	touch $@

# The package and the tools of its tests.
$(VENV)/tested: $(VENV)/installed
	$(BIN)/pip install --quiet '.[test]'
	touch $@
