# The commands a person types. Each does its own set-up; `make test` is what CI runs.
SHELL := /bin/bash
.DEFAULT_GOAL := build
BIN := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: build demo test model sim storm lint bench clean tools help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' Makefile

build: ## everything, optimised
	cargo build --release --workspace --exclude xtask

demo: tools build ## real programs on an embedded cluster, compared with a local directory
	@SEALFS_BIN=$(BIN)/sealfs bash examples/demo/run.sh

test: tools build ## every test; the last line is the total
	@cargo xtask test

sim: ## the seeded simulator; SEEDS=10000 for a night
	SEEDS=$(or $(SEEDS),500) cargo test --release -p sealfs-server --test sim seeds -- --nocapture

storm: tools build ## c-tests, pjdfstest and fsx while a random server is killed every 5 s; SEED=n, ROUNDS=n
	cargo xtask storm --rounds $(or $(ROUNDS),4) --operations 100000 $(if $(SEED),--seed $(SEED))

model: ## the models of transactions and sessions at their larger bounds; takes minutes
	SEALFS_MODELS_LARGE=1 cargo test --release -p sealfs-server --test models -- --nocapture --test-threads 1

lint: ## format, clippy, tidy, licences
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo xtask tidy
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check bans licenses sources

bench: build ## the shared benchmark on an embedded cluster
	bash bench/run.sh

clean:
	cargo clean

tools: # what demo and tests need beyond cargo and gcc
	@bash examples/demo/tools.sh
