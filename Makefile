# The commands of this project. `make demo` and `make test` need nothing but a Rust toolchain, a C++ compiler, git and make.
#
# RocksDB takes minutes to compile, so it is compiled once: whatever links it is built with --release, and everything
# else is tested in the dev profile and never links it.

LINKED   := -p engine_rocks -p server -p tests
UNLINKED := --workspace --exclude engine_rocks --exclude server --exclude tests
TARGET   := $(or $(CARGO_TARGET_DIR),target)
MIXED    := --manifest-path tests/raft_mixed/Cargo.toml --target-dir $(TARGET)/mixed

.PHONY: demo build setup test lint unit mixed processes model mutants fuzz bench-raft

demo: build                   ## three stores under load, until Ctrl-C (ARGS="--exit-after 10s" ends by itself)
	$(TARGET)/release/sheaf demo $(ARGS)

build: setup                  ## target/release/sheaf
	cargo build --release -p server

setup:                        ## installs what is missing
	@scripts/setup.sh

test: setup lint unit mixed build processes  ## everything that must pass

lint:                         ## format, clippy, documentation
	cargo fmt --all --check
	cargo fmt --manifest-path tests/raft_mixed/Cargo.toml --check
	cargo fmt --manifest-path components/raft/fuzz/Cargo.toml --check
	cargo clippy --quiet $(UNLINKED) --all-targets -- -D warnings
	cargo clippy --quiet $(MIXED) --release --all-targets -- -D warnings
	cargo clippy --quiet --release $(LINKED) --features tests/clients --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps $(UNLINKED)

unit:                         ## the deterministic crates, the layout and the simulator's seeds
	cargo test --quiet $(UNLINKED)
	cargo test --quiet -p tests --test tidy

mixed:                        ## our Raft core and another implementation in one cluster
	cargo test --quiet --release $(MIXED)

processes:                    ## RocksDB, the server, and real processes
	cargo test --release $(LINKED) --features tests/processes

model:                        ## the Raft core in 28 million states
	RAFT_MODEL_STATES=30000000 cargo test --release -p raft --lib model -- --nocapture

# What cargo-fuzz passes to rustc, but for the sanitizers: so it needs neither that tool nor a nightly compiler.
FUZZING  := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1
HOST     := $(shell rustc -vV | sed -n 's/^host: //p')
SECONDS  ?= 60

fuzz:                         ## messages that nobody should send, for a minute (SECONDS=600 for ten)
	RUSTFLAGS="$(FUZZING)" cargo build --release --manifest-path components/raft/fuzz/Cargo.toml \
	    --target $(HOST) --target-dir $(TARGET)/fuzz
	mkdir -p $(TARGET)/fuzz/corpus
	$(TARGET)/fuzz/$(HOST)/release/messages -max_total_time=$(SECONDS) -max_len=4096 -print_final_stats=1 \
	    -artifact_prefix=$(TARGET)/fuzz/ $(TARGET)/fuzz/corpus

mutants:                      ## faults put into a copy of the Raft core, each to be found by a test
	cargo test --package raft --test mutants -- --run

bench-raft:                   ## the Raft core beside another implementation
	cargo bench $(MIXED)

clients: build                ## stock clients in Python and Go against real stores (needs python3 and go, and downloads them)
	scripts/clients.sh $(abspath $(TARGET))/clients
	CLIENTS=$(abspath $(TARGET))/clients cargo test --release -p tests --features tests/clients --test clients
