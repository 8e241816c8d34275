# Two commands for a newcomer: `make demo` and `make test`. Both install what they need
# (a Wasm target for rustup's stable toolchain) and nothing else on the machine; what `make test`
# needs for plugins in Python and JavaScript it keeps below `target`. Only where it is root on Debian,
# as in a container, it installs a clang that knows WebAssembly: otherwise plugins in C are skipped,
# like those of any language whose tools are not there.

CARGO ?= cargo
WASM_TARGET := wasm32-wasip2
CLANG_PACKAGES := clang lld wasi-libc libclang-rt-dev-wasm32

.PHONY: demo demo-cluster test build bench chaos lint wasm-target clang clean

demo: wasm-target
	@echo "==> building millstream (release)"
	@$(CARGO) build --release --locked -p millstream-cli
	@./target/release/millstream demo

demo-cluster:
	@echo "==> building millstream (release)"
	@$(CARGO) build --release --locked -p millstream-cli
	@./target/release/millstream demo-cluster

test: wasm-target clang
	@echo "==> running every test"
	@$(CARGO) test --workspace --locked
	@echo "==> planting mistakes that the simulation has to find"
	@RUSTFLAGS="--cfg planted" $(CARGO) test --locked -p millstream-sim --test planted --test model \
		--target-dir target/planted -- --nocapture
	@echo "==> running the example plugins' own tests"
	@for plugin in plugins/*/Cargo.toml; do \
		$(CARGO) test --locked --manifest-path $$plugin --target-dir target/plugins || exit 1; \
	done
	@echo "==> running the tests of the SDKs for Python, JavaScript and C, and of plugins in them"
	@tests/languages

build: wasm-target
	@$(CARGO) build --release --locked -p millstream-cli

bench: build
	@./target/release/millstream bench

# A cluster to which everything happens that may, for some minutes: `make chaos SEED=7` for another order.
SEED ?= 1
chaos:
	@$(CARGO) run --locked -p millstream-e2e --example chaos -- $(SEED)

# The documentation of examples is asked for so that cargo unites the same features as for clippy, and
# checks nothing twice.
lint:
	@$(CARGO) fmt --all --check
	@for plugin in plugins/*/Cargo.toml; do $(CARGO) fmt --manifest-path $$plugin --check || exit 1; done
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --lib --examples --locked

# Distribution toolchains carry the target without rustup; an existing one is enough.
wasm-target:
	@if [ -d "$$(rustc --print sysroot)/lib/rustlib/$(WASM_TARGET)" ]; then :; \
	elif ! command -v rustup >/dev/null 2>&1; then \
		echo "error: the target $(WASM_TARGET) is missing and rustup is not installed" >&2; \
		echo "  try: install rustup (https://rustup.rs), then run this again" >&2; exit 1; \
	elif ! rustup target add $(WASM_TARGET); then \
		echo "error: rustup could not add the target $(WASM_TARGET)" >&2; \
		echo "  try: check the network, then run \`rustup target add $(WASM_TARGET)\` by hand" >&2; exit 1; \
	fi

# Never fails: what is missing is said, and skipped.
clang:
	@probe() { printf '#include <stdlib.h>\nint answer(void) { return abs(-42); }\n' | \
		clang --target=wasm32-wasi -mexec-model=reactor -x c - -o /dev/null >/dev/null 2>&1; }; \
	if probe; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
		echo "==> installing a clang that knows WebAssembly: $(CLANG_PACKAGES)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq -y --no-install-recommends $(CLANG_PACKAGES) >/dev/null; \
		probe || echo "==> that did not work: plugins in C are skipped"; \
	else \
		echo "==> no clang that knows WebAssembly: plugins in C are skipped"; \
		echo "    to have them tested: apt-get install $(CLANG_PACKAGES) (Debian)"; \
	fi

clean:
	@$(CARGO) clean
