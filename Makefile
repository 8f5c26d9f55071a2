# Everything a developer or a newcomer runs. Each target installs what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export CARGO_TARGET_DIR ?= $(HOME)/.cache/thalweg/target

# Apache Kafka's jars, and Spark's to read from it.
export KAFKA_JARS = $(CARGO_TARGET_DIR)/kafka-jars
export SPARK_KAFKA_JARS = $(CARGO_TARGET_DIR)/spark-kafka-jars
KAFKA_PACKAGES := openjdk-17-jre-headless maven
KAFKA_NODES ?= 1

VENV := $(CARGO_TARGET_DIR)/venv
PYTHON := $(VENV)/bin/python
LINT_VENV := $(CARGO_TARGET_DIR)/lint-venv
export CLIENTS_PYTHON = $(PYTHON)
SPARK_VENV := $(CARGO_TARGET_DIR)/spark-venv
export SPARK_PYTHON = $(SPARK_VENV)/bin/python
BINARY := $(CARGO_TARGET_DIR)/release/thalweg
FUZZ_SECONDS ?= 60

# Needed to build: compilers for C and C++, and make (zstd, aws-lc, librdkafka). Needed to test: clients that users have.
BUILD_PACKAGES := gcc g++ libc6-dev make
TEST_PACKAGES := $(BUILD_PACKAGES) postgresql-client python3-venv bsdutils openssl rsyslog rsyslog-elasticsearch chromium

# Chromium, for the tests of the console. Node.js from Debian only where there is none.
CONSOLE_PACKAGES := $(if $(shell command -v npm),,nodejs npm)

.PHONY: help demo console test test-kafka test-optimised kafka kafka-jars lint bench fuzz build-deps test-deps

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | column -t -s $$'\t'

demo: build-deps ## Build the console and the binary and run the demonstration (DEMO="--for 20s" for a short one)
	@if [ ! -x "$(BINARY)" ]; then echo "building thalweg: some 600 crates, once; plan 25 minutes on two cores"; fi
	@$(MAKE) --no-print-directory console || echo "going on without the web console: / will say how to build it"
	@cargo build --release -p thalweg
	@"$(BINARY)" demo $(DEMO)

console: console/dist/index.html ## Build the web console, which the next build of the binary embeds

console/dist/index.html: console/node_modules $(shell find console/src -type f) console/index.html console/vite.config.ts
	cd console && npm run --silent build -- --logLevel warn

console/node_modules: console/package-lock.json
	@scripts/debian-packages $(CONSOLE_PACKAGES)
	@node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' || \
	    { echo "console: expected Node.js 20.19 or newer, found $$(node --version): see https://nodejs.org" >&2; exit 1; }
	cd console && npm ci --silent --no-audit --no-fund
	@touch $@

test: test-deps $(PYTHON) console ## Run every test
	cargo test --workspace --no-fail-fast
	cd console && npm run --silent check && npm run --silent test && npm run --silent e2e

test-optimised: test-deps console ## Judge speed too: an optimised server, under attack and showing its pages
	cargo build --release -p thalweg
	cd console && THALWEG_OPTIMISED="$(BINARY)" npm run --silent e2e pages
	THALWEG_OPTIMISED="$(BINARY)" cargo test --workspace --test it hostile

test-kafka: test-deps kafka-jars $(PYTHON) $(SPARK_KAFKA_JARS) ## Test with Kafka as the log, against real brokers (KAFKA_ROUNDS=10)
	cargo test --workspace --test kafka -- --test-threads 1
	@scripts/debian-packages libssl-dev pkg-config
	cargo test --package thalweg-kafka --features tls --test kafka -- security

kafka: build-deps kafka-jars ## Run Apache Kafka on this machine (KAFKA_NODES=3 for three brokers)
	cargo run --package thalweg-kafka-broker -- --nodes $(KAFKA_NODES)

lint: build-deps $(LINT_VENV)/bin/python ## Check format, lints, that the tree has one of each foundation, and the chart
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --test kafka -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	scripts/one-of-each
	$(LINT_VENV)/bin/python scripts/check-chart

bench: test-deps kafka-jars $(PYTHON) $(SPARK_PYTHON) ## Measure, beside peers and physical limits, in one run
	cargo build --release -p thalweg
	cargo bench -p thalweg --bench pipeline
	BENCH_SERVER="$(BINARY)" cargo bench -p thalweg-ingest --bench formats

fuzz: build-deps ## Fuzz every decoder for FUZZ_SECONDS each
	@command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
	@cd fuzz && for target in $$(cargo +nightly fuzz list); do \
	    cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10; done

build-deps:
	@scripts/debian-packages $(BUILD_PACKAGES)

test-deps:
	@scripts/debian-packages $(TEST_PACKAGES)

kafka-jars: $(KAFKA_JARS)

$(KAFKA_JARS): crates/kafka-broker/pom.xml
$(SPARK_KAFKA_JARS): clients/spark/pom.xml
$(KAFKA_JARS) $(SPARK_KAFKA_JARS):
	@scripts/debian-packages $(KAFKA_PACKAGES)
	rm -rf $@
	mvn --batch-mode --quiet --file $< dependency:copy-dependencies -DoutputDirectory=$@
	@touch $@

# A Python environment with the packages that the prerequisite lists.
define virtual-environment
	@scripts/debian-packages python3-venv
	python3 -m venv $(@D)/..
	$(@D)/pip install --quiet --disable-pip-version-check -r $<
	@touch $@
endef

# What checks the chart.
$(LINT_VENV)/bin/python: scripts/requirements.txt
	$(virtual-environment)

# Users' own clients, for the tests that speak to us through them.
$(PYTHON): clients/requirements.txt
	$(virtual-environment)

# What views are measured beside.
$(SPARK_PYTHON): clients/spark-requirements.txt
	@command -v java >/dev/null || scripts/debian-packages openjdk-17-jre-headless
	$(virtual-environment)
