# Two commands for a newcomer: `make demo` and `make test`. Both install what they need
# (a Wasm target for rustup's stable toolchain) and nothing else on the machine.

CARGO ?= cargo
WASM_TARGET := wasm32-wasip2

.PHONY: demo test build bench lint wasm-target clean

demo: wasm-target
	@echo "==> building millstream (release)"
	@$(CARGO) build --release --locked -p millstream-cli
	@./target/release/millstream demo

test: wasm-target
	@echo "==> running every test"
	@$(CARGO) test --workspace --locked
	@echo "==> running the example plugins' own tests"
	@for plugin in plugins/*/Cargo.toml; do \
		$(CARGO) test --locked --manifest-path $$plugin --target-dir target/plugins || exit 1; \
	done

build: wasm-target
	@$(CARGO) build --release --locked -p millstream-cli

bench: build
	@./target/release/millstream bench

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

clean:
	@$(CARGO) clean
