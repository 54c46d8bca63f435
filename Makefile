# Everything that a person or CI does here. `make help` lists it.

export BLIP_SERVE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/blip-serve
DEVICE ?= cpu
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help libtorch build dist demo test test-rust test-end-to-end test-deploy test-fleet test-checkpoints lint fmt doc bench-scheduler bench-peers clean

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

libtorch: ## Fetch LibTorch 2.11 once into a shared cache (DEVICE=cuda for CUDA's libraries too)
	@DEVICE=$(DEVICE) scripts/libtorch.sh

build: libtorch ## The release binary, target/release/blip-serve
	$(CARGO) build --release --locked

dist: libtorch ## Stripped binaries for a machine without Rust, into dist/ (see benches/gpu/run.sh)
	$(CARGO) build --release --locked --bin blip-serve
	$(CARGO) build --release --locked -p blip --example engine_speed
	mkdir -p dist
	strip -o dist/blip-serve target/release/blip-serve
	strip -o dist/engine_speed target/release/examples/engine_speed

demo: build ## Start the engine on its embedded model and ask three questions about a picture
	@scripts/demo.sh

test: test-rust test-end-to-end test-deploy ## Every test, with all that it needs
	@echo "all tests passed"

test-rust: libtorch ## Unit, property and integration tests
	$(CARGO) test --workspace --locked
	@# CUDA's compiler needs no GPU: 90 MB, once.
	NVRTC_FOLDER=$$(scripts/nvrtc.sh) && export NVRTC_FOLDER \
	  && $(CARGO) test --workspace --locked --test nvrtc -- --include-ignored

test-end-to-end: libtorch ## The binary through real sockets, by Python's gRPC client
	@# Built along with the tests, with the same features: nothing is compiled twice.
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/run.sh

test-deploy: libtorch ## The Helm chart, alerts, dashboard and Dockerfile, by helm, promtool and their like
	$(CARGO) build --locked
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/deploy/run.sh

test-fleet: libtorch ## Several servers behind clients and proxies, killed and replaced; some minutes, so apart from `test`
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve BLIP_EXAMPLE_BIN=$(CURDIR)/target/debug/ask tests/fleet/run.sh

test-checkpoints: libtorch ## Every public BLIP checkpoint by its name, at its true size with random weights, beside transformers; a quarter of an hour, 20 GB of disk
	$(CARGO) build --locked
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/checkpoints/run.sh

lint: libtorch ## Formatting, clippy, documentation and dependencies, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	python3 scripts/check_dependencies.py

fmt: ## Format the Rust sources
	$(CARGO) fmt --all

doc: libtorch ## The Rust documentation, target/doc
	$(CARGO) doc --workspace --no-deps --locked

bench-scheduler: libtorch ## Simulate the scheduler beside the peers' policies; rewrites docs/scheduler-simulation.*
	$(CARGO) run --release --locked -p scheduler --example simulate

bench-peers: build ## Measure blip-serve beside LitServe, mosec, Triton and transformers; installs them, takes half an hour
	benches/peers/run.sh

clean: ## Build outputs of this checkout (the shared LibTorch stays)
	$(CARGO) clean
	rm -f .libtorch
