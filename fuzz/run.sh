#!/usr/bin/env bash
# Fuzzes the readers of plans, bundles, manifests, ONNX and .npy files, beginning with the repository's own files. Only fewstep is
# built with sanitizers and coverage: libraries would take half an hour, and their panics show without. Needs no nightly
# Rust. Exits with 77 where there is no AddressSanitizer, or no C++ compiler for libFuzzer. What ends a target is kept in
# fuzz/artifacts.
#
#     fuzz/run.sh [SECONDS] [TARGET...]     # 60 of each target, if nothing is said
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(plan bundle manifest onnx npy)

skip() {
    echo "fuzz: skipped, $*"
    exit 77
}

compgen -G "$(rustc --print target-libdir)/librustc-*_rt.asan.a" >/dev/null ||
    skip "this toolchain comes without AddressSanitizer"
command -v "${CXX:-c++}" >/dev/null || skip "there is no C++ compiler, which libFuzzer is built by"

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
FEWSTEP_SEEDS=$seeds/bundle cargo test --release --locked --test plans -- --ignored --exact write_bundle_seeds
# Of smaller files more can be tried; one of them has every kind of instruction.
find "$seeds/plan" -size +300k -delete

flags=(
    -Zsanitizer=address -Cdebug-assertions
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
)
instrumented=$(printf '"%s",' "${flags[@]}")
built=${CARGO_TARGET_DIR:-target}/fuzz
# Flags of single packages are for nightly Cargo, and sanitizers for nightly Rust, which the stable ones contain.
RUSTC_BOOTSTRAP=1 cargo build --release --locked --manifest-path fuzz/Cargo.toml --target-dir "$built" -Zprofile-rustflags \
    --config "profile.release.package.fewstep.rustflags=[$instrumented]" \
    --config "profile.release.package.fewstep-fuzz.rustflags=[$instrumented]"

for target in "${targets[@]}"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    "$built/release/$target" "fuzz/corpus/$target" "$seeds/$target" -artifact_prefix="fuzz/artifacts/$target/" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
done
