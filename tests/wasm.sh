#!/usr/bin/env bash
# The kernels' tests for WebAssembly, in Node.js, so that its rows are checked against the oracles, and against the portable
# kernels, whose bits they promise. Says what it lacks, and then exits with 77.
#
#     tests/wasm.sh [--install]     # --install: asks apt for what it lacks, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/.."
target=wasm32-wasip1

if [ "${1:-}" = --install ] && ! command -v node >/dev/null; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends nodejs >/dev/null
fi
command -v node >/dev/null || { echo "wasm: skipped, no node (Debian: nodejs)" && exit 77; }
[ -d "$(rustc --print target-libdir --target $target)" ] || rustup target add $target >/dev/null 2>&1 ||
    { echo "wasm: skipped, rustup cannot add $target here" && exit 77; }

export CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-C target-feature=+simd128"
export CARGO_TARGET_WASM32_WASIP1_RUNNER="node --no-warnings $PWD/tests/wasi.mjs"
# Dependencies only prepare the tests, but for libm, which is the oracle.
cargo test --release --locked --lib --no-default-features --features f16 --target $target \
    --target-dir "${CARGO_TARGET_DIR:-target}/wasm/tests" --config 'profile.release.package."*".opt-level=0' \
    --config 'profile.release.package.libm.opt-level=3' kernels
