#!/usr/bin/env bash
# Fuzzes the readers of plans, manifests, ONNX and .npy files, beginning with the repository's own files. Gets what it
# needs (nightly Rust, cargo-fuzz) if it can, and exits with 77 if not. What ends a target is kept in fuzz/artifacts.
#
#     fuzz/run.sh [SECONDS] [TARGET...]     # 60 of each target, if nothing is said
#
# onnx and npy need the compiler, which takes half an hour to build with sanitizers on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(plan manifest onnx npy)

skip() {
    echo "fuzz: skipped, $*"
    exit 77
}

command -v rustup >/dev/null || skip "rustup is not installed, which nightly Rust comes by"
if ! cargo +nightly --version >/dev/null 2>&1; then
    rustup toolchain install nightly --profile minimal || skip "nightly Rust cannot be had"
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install --locked cargo-fuzz || skip "cargo-fuzz cannot be had"
fi

seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT

# Copies files under names that tell them apart.
gather() {
    local target=$1 file
    shift
    mkdir "$seeds/$target"
    for file in "$@"; do
        cp "$file" "$seeds/$target/${file//\//-}"
    done
}
gather manifest models/*/fewstep.toml models/*/*/fewstep.toml
gather onnx tests/golden/*.onnx tests/networks/*/*.onnx
gather npy tests/networks/*/in/*.npy
FEWSTEP_SEEDS=$seeds/plan cargo test --release --locked --test plans -- --ignored --exact write_seeds

for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target"
    case $target in
    onnx | npy) features=compile ;;
    *) features= ;;
    esac
    # In one piece, the kernels take a quarter of an hour to build.
    cargo +nightly fuzz run --codegen-units 16 --features "$features" "$target" "fuzz/corpus/$target" "$seeds/$target" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
done
