# Short names for what is done often. `make` alone lists them.

# One static binary: it is the server, and also the runner, PID 1 inside every container. A container may hold any
# image (another libc, or none), so the binary must not need the image's. Static linking with glibc is asked for by
# target, and only with a target named do build scripts and macros stay as they are.
export CARGO_BUILD_TARGET := host-tuple
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-feature=+crt-static
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-feature=+crt-static

TRIPLE := $(shell rustc -vV | sed -n 's/^host: //p')
BIN := $(or $(CARGO_TARGET_DIR),target)/$(TRIPLE)/release/execbox
DEBUG_BIN := $(or $(CARGO_TARGET_DIR),target)/$(TRIPLE)/debug/execbox
# Tests at once: much of their time is waiting, for the Engine or for a deadline.
export NEXTEST_TEST_THREADS ?= $(shell echo $$((1 + $$(nproc))))
# More arguments, as in: make run ARGS='--listen 127.0.0.1:9000'
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup build run demo test check fmt bench load figures fuzz soak chaos images languages openapi mutants-profile schemathesis hostile hostile-archives engines reuse

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Find a Docker Engine, or install and start one (Debian, Ubuntu)
	@deploy/setup-engine.sh

build: ## Build the release binary
	cargo build --release --locked --bin execbox

run: setup build ## Serve on 127.0.0.1:8080 (more: ARGS='--listen ...')
	$(BIN) serve $(ARGS)

demo: setup build ## Watch a project run through HTTP, sync and async
	@EXECBOX=$(BIN) deploy/demo.sh

# The images go first (in schemathesis), so that no test waits for one or builds it twice; the doc tests before the rest: the last closing line that is printed is the one of the whole suite.
test: setup check schemathesis ## Everything that is checked: check, unit tests, HTTP tests, tests on the real Engine
	cargo test --locked --doc
	@$(MAKE) --no-print-directory reuse
	@if cargo nextest --version >/dev/null 2>&1; then \
		set -x; cargo nextest run --locked --no-fail-fast; \
	else \
		set -x; cargo test --locked --no-fail-fast --lib --bins --tests; \
	fi

# What a program does and what it can reach, once more where containers are shared: --reuse tenant.
REUSED := behaviours:: examples:: output:: arrival:: descriptors:: usage:: projects:: tampering:: host_reach:: late_runner:: leaks:: lifecycle:: script plots:: dependencies:: field::surroundings packed::
reuse: setup ## The Docker tests that concern programs, under --reuse tenant
	@set -x; if cargo nextest --version >/dev/null 2>&1; then \
		EXECBOX_TESTS_REUSE=tenant cargo nextest run --locked --no-fail-fast --test docker $(REUSED); \
	else \
		EXECBOX_TESTS_REUSE=tenant cargo test --locked --no-fail-fast --test docker -- $(REUSED); \
	fi

schemathesis: setup ## Make requests from the OpenAPI document, right and wrong ones, and check every answer
	cargo run --locked --quiet --bin execbox -- images build --all --installs packages
	@EXECBOX=$(DEBUG_BIN) tests/schemathesis/run.sh

check: ## Formatting, lints, docs, dependencies
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps
	@deploy/check-dependencies.sh

fmt: ## Format the code
	cargo fmt

hostile: setup ## Run the tests of every hostile case under both settings of --reuse, print tables, write docs/hostile.md (some: CASES='C D04')
	cargo run --locked --quiet --bin execbox -- images build --all --installs packages
	cargo bench --locked --profile dev --bench hostile -- $(CASES)
	EXECBOX_TESTS_REUSE=tenant cargo bench --locked --profile dev --bench hostile -- $(CASES)

hostile-archives: ## Read every hostile archive of the tests, and print what each case costs
	cargo test --locked --lib -- --exact archive::tests::hostile::p8_hundreds_of_hostile_archives_are_refused_fast --nocapture

SECONDS ?= 600
fuzz: ## Compare the archive reader with tar, Python and GNU tar on mutated archives, for 10 minutes (shorter: SECONDS=60)
	EXECBOX_TEST_SECONDS=$(SECONDS) cargo test --locked --lib -- --exact archive::tests::differential::a25_mutated_archives_are_refused_or_listed_alike --nocapture

mutants-profile: setup ## Take away each field of the container profile, see a check turn red, write docs/profile-mutants.md
	@mkdir -p docs
	WRITE_PROFILE_MUTANTS=1 cargo test --locked --test docker -- --exact profile_mutants::every_field_of_the_profile_is_held_by_a_check --nocapture

engines: ## Run the Docker tests on two Engines and on cgroup version 2 (root, Debian; some 15 minutes), write docs/engines.md
	@tests/engines/run.sh

ONLY ?=
bench: setup build ## Measure speed beside bare processes, the Engine, bwrap and a peer, hold the figures (some: ONLY='latency async')
	@deploy/setup-bench.sh
	$(BIN) images build python bash c
	$(if $(ONLY),,cargo bench --locked --bench micro)
	cargo bench --locked --bench speed -- $(ONLY)

load: setup build ## Measure under floods, slow callers and bad neighbours; fails when a figure is not held
	$(BIN) images build python bash
	cargo bench --locked --bench load

figures: setup ## Print and hold the figures of deadlines, kills, exact output, the probe and tenants
	cargo run --locked --quiet --bin execbox -- images build bash python
	FIGURES=full cargo test --locked --test it --test docker -- --nocapture --test-threads 1 figures:: big_work:: leaks:: output:: lifecycle::a_shutdown recovery::a_thousand storage:: engine_faults::a_hanging engine_faults::an_engine_that

languages: setup ## Run everything there is for each runtime, and print a table (some: RUNTIMES='ruby perl')
	cargo run --locked --quiet --bin execbox -- images build --all --installs packages
	FIGURES=full RUNTIMES='$(RUNTIMES)' cargo test --locked --test docker -- --exact runtimes::every_runtime_runs_its_examples_and_tells_its_errors --nocapture

COUNT ?= 10000
soak: setup build ## Run 10,000 executions and look for anything left (fewer: COUNT=500)
	$(BIN) images build bash
	cargo bench --locked --bench soak -- $(COUNT)

RESTARTS ?= 100
POINTS ?= yes
chaos: setup build ## Kill the server 500 times and at every point, restart an Engine 100 times (fewer: COUNT=50 RESTARTS=10 POINTS=no)
	$(BIN) images build bash
	cargo bench --locked --profile chaos --features failpoints --bench chaos -- COUNT=$(if $(filter file,$(origin COUNT)),500,$(COUNT)) RESTARTS=$(RESTARTS) POINTS=$(POINTS)

images: setup build ## Build the images of all runtimes
	$(BIN) images build --all

openapi: ## Write openapi/openapi.json anew from the code
	@mkdir -p openapi
	cargo run --quiet --locked --bin execbox -- openapi > openapi/openapi.json.new
	@mv openapi/openapi.json.new openapi/openapi.json
