#!/usr/bin/env bash
# All tests for AArch64 in QEMU, on another computer: with half-precision arithmetic and without. And samples of digits and
# terrain, which have to be what this computer draws. What cannot run there is skipped by name, with the reason. Says what
# it lacks, and then exits with 77.
#
#     tests/emulated.sh [--install]     # --install: asks apt for what it lacks, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/aarch64.sh

need emulated "$@"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export FEWSTEP_ELSEWHERE=$target_dir/elsewhere
build=(--release --locked --target "$target" --target-dir "$target_dir/emulated" --config tests/emulated.toml)

skips=()
skip() {
    echo "emulated: $cpu: skipped $1: $2"
    skips+=(--skip "$1")
}

# All tests on one CPU. Programs that tests start are emulated too.
suite() {
    # The C library of the linker, and not another one that is here.
    local emulator="qemu-aarch64 -cpu $cpu -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$emulator FEWSTEP_RUNNER=$emulator
    cargo test "${build[@]}" --quiet --lib --bins --tests -- "${skips[@]}"
    cargo test "${build[@]}" --quiet --test elsewhere -- --ignored --nocapture samples
}

mkdir -p "$FEWSTEP_ELSEWHERE"
cargo test --release --locked --quiet --test elsewhere -- --ignored write
for cpu in max cortex-a53; do
    skips=()
    suite
done
