#!/usr/bin/env bash
# The kernels' tests for WebAssembly, in wasmtime, so that its rows are checked against the oracles, and against the
# portable kernels, whose bits they promise. Exits with 77 where rustup cannot add the target, or there is no Python with venv.
#
#     tests/wasm.sh
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-wasip1
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/wasm

[ -d "$(rustc --print target-libdir --target $target)" ] || rustup target add $target >/dev/null 2>&1 ||
    { echo "wasm: skipped, rustup cannot add $target here" && exit 77; }
mkdir -p "$work"
[ -x "$work/venv/bin/pip" ] || python3 -m venv "$work/venv" || { echo "wasm: skipped, venv is not installed" && exit 77; }
"$work/venv/bin/pip" install --quiet wasmtime || { echo "wasm: skipped, pip cannot install wasmtime" && exit 77; }

export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-C target-feature=+simd128"
export CARGO_TARGET_WASM32_WASIP1_RUNNER="$work/venv/bin/python tests/wasi.py"
# Dependencies only prepare the tests, but for libm, which is the oracle.
cargo test --release --locked --lib --no-default-features --features f16 --target $target --target-dir "$work/tests" \
    --config tests/quick.toml kernels
