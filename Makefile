# The tasks of developers and CI. `make help` lists them.

export BLIP_SERVE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/blip-serve
DEVICE ?= cpu
CARGO ?= cargo
# The subjects of later commits have a scope and at most 72 characters.
LAST_UNCHECKED_COMMIT := 661040ad7c50

.DEFAULT_GOAL := help
.PHONY: help libtorch build dist dist-gpu wheel demo test test-rust test-end-to-end test-adapters test-browser test-client test-ray test-wheel test-deploy test-cuda-stand-in test-fleet test-azure test-checkpoints test-attacks lint fmt doc bench-scheduler bench-peers bench-cpu bench-cuda-host clean

help: ## List the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

libtorch: ## Fetch LibTorch into the shared cache (DEVICE=cuda adds the CUDA libraries)
	@DEVICE=$(DEVICE) scripts/libtorch.sh

build: libtorch ## Build the release binary target/release/blip-serve
	$(CARGO) build --release --locked

# Builds the programs, the first one with the options $(2), and writes them without symbols to $(1).
define strip_programs
	$(CARGO) build --release --locked $(2) --bin blip-serve
	$(CARGO) build --release --locked -p blip --example engine_speed
	mkdir -p $(1)
	strip -o $(1)/blip-serve target/release/blip-serve
	strip -o $(1)/engine_speed target/release/examples/engine_speed
endef

dist: libtorch ## Build stripped binaries for a machine without Rust into dist/
	$(call strip_programs,dist)

dist-gpu: libtorch ## Pack programs, images and questions for benches/gpu/run.sh into dist/gpu.tar.xz
	@# Parquet files are for data sets. Without them the program is smaller.
	rm -rf dist/gpu
	$(call strip_programs,dist/gpu,--no-default-features)
	$$(scripts/python_environment.sh reference tests/reference/requirements.txt)/bin/python \
	  benches/gpu/pack_data.py dist/gpu/gpu_data
	cd dist/gpu && python3 -m tarfile -c ../gpu.tar.xz *
	rm -r dist/gpu

wheel: build ## Build a wheel for pip, with the release binary, into dist/
	packaging/wheel/build.sh target/release/blip-serve dist

demo: libtorch ## Start the server with its embedded model and ask three questions
	@# This profile needs less than half the CPU time of a release build (docs/benchmarks.md).
	@# Parquet files are for data sets. Their crates would make the build longer.
	$(CARGO) build --profile demo --locked --no-default-features
	@scripts/demo.sh

test: test-rust test-end-to-end test-adapters test-browser test-client test-ray test-wheel test-deploy test-cuda-stand-in ## Run all tests except test-fleet, test-azure, test-checkpoints and test-attacks
	@echo "all tests passed"

test-rust: libtorch ## Run unit, property and integration tests
	$(CARGO) test --workspace --locked
	@# The CUDA compiler needs no GPU. The first run downloads 90 MB.
	NVRTC_FOLDER=$$(scripts/nvrtc.sh) && export NVRTC_FOLDER \
	  && $(CARGO) test --workspace --locked --test nvrtc -- --include-ignored

test-end-to-end: libtorch ## Test the binary through sockets with Python clients
	@# The build has the same features as that of the tests, so that nothing is compiled twice.
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/run.sh

test-adapters: libtorch ## Test the adapters for other APIs with their clients. Needs Node 20
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/adapters/run.sh

test-browser: libtorch ## Test the pages at / and /docs in Chromium (installed by apt if it is missing)
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/browser/run.sh

test-client: libtorch ## Test the Python client in clients/python with the binary
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/client/run.sh

test-ray: libtorch ## Test the example for Ray Data on a cluster of this machine
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/ray/run.sh

test-wheel: libtorch ## Test the wheel of the debug binary in fresh environments
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/wheel/run.sh

test-deploy: libtorch ## Test chart, alerts, dashboard and Dockerfile with helm and promtool
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/deploy/run.sh

test-cuda-stand-in: libtorch ## Test the CUDA path without a GPU. The first run downloads 530 MB
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve \
	  BATCH_RUNNER_BIN=$(CURDIR)/target/debug/examples/batch_runner tests/cuda_stand_in/run.sh

test-fleet: libtorch ## Test several servers behind clients and proxies (some minutes)
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve BLIP_EXAMPLE_BIN=$(CURDIR)/target/debug/ask tests/fleet/run.sh

test-azure: libtorch ## Test data sets in Azure Blob Storage on Azurite (360 MB). Needs Node 20
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/azure/run.sh

test-checkpoints: libtorch ## Compare full-size checkpoints with transformers (15 min, 20 GB)
	$(CARGO) test --workspace --locked --no-run
	BLIP_SERVE_BIN=$(CURDIR)/target/debug/blip-serve tests/checkpoints/run.sh

test-attacks: build ## Attack the server in 17 ways and with a mix of them (11 min)
	@# The mix runs after a failure, too.
	export BLIP_SERVE_BIN=$(CURDIR)/target/release/blip-serve; each=0; \
	  tests/attacks/run.sh each --seconds 15 || each=$$?; \
	  tests/attacks/run.sh mixed --seconds 240 && exit $$each

lint: libtorch ## Check layers, prose, the contract, formatting, clippy and dependencies. Needs Node 20
	python3 -m unittest discover -q tests/scripts
	python3 scripts/check_layers.py
	python3 scripts/check_prose.py --commits $(LAST_UNCHECKED_COMMIT)
	python3 scripts/release.py check
	python3 scripts/chart_files.py
	scripts/buf.sh lint
	scripts/buf.sh breaking --against proto/released.binpb
	python3 scripts/prose_statistics.py --max-mean 18 --max-share 8 README.md docs/benchmarks.md \
	  docs/design/architecture.md
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	python3 scripts/check_dependencies.py

fmt: ## Format the Rust sources
	$(CARGO) fmt --all

doc: libtorch ## Build the Rust documentation into target/doc
	$(CARGO) doc --workspace --no-deps --locked

bench-scheduler: libtorch ## Simulate the scheduler and rewrite its report
	$(CARGO) bench --locked -p scheduler --bench simulator

bench-peers: build ## Measure blip-serve next to other servers (30 min, 7 GB)
	benches/peers/run.sh

bench-cpu: libtorch ## Measure the engine next to other CPU engines (20 min, 20 GB; first run 40 min)
	benches/cpu/run.sh $(ARGUMENTS)

bench-cuda-host: libtorch ## Measure what the CUDA path costs on the host, without a GPU (4 min)
	$(CARGO) build --release --locked -p blip --example batch_runner
	CUDA_STAND_IN=$$(python3 -B tests/cuda_stand_in/prepare.py) && export CUDA_STAND_IN && \
	  BATCH_RUNNER_BIN=target/release/examples/batch_runner python3 -B tests/cuda_stand_in/host_cost.py

clean: ## Delete the build outputs of this checkout
	$(CARGO) clean
	rm -f .libtorch
