#!/usr/bin/env bash
# The kernels' tests for AArch64 in QEMU, on another computer, so that its instruction sets are checked against the oracles
# too. Says what it lacks, and then exits with 77.
#
#     tests/emulated.sh [--install]     # --install: asks apt for what it lacks, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/aarch64.sh

need emulated "$@"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# Static: QEMU would look for the C library in this computer's folders, and may find the loader of one and the rest of another.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
# One CPU that has all there is, and one that has NEON alone. They share a build.
for cpu in max cortex-a53; do
    echo "emulated: $cpu"
    # Dependencies only prepare the tests, but for libm, which is the oracle.
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $cpu" \
        cargo test --release --locked --lib --no-default-features --features f16 --target "$target" \
        --target-dir "${CARGO_TARGET_DIR:-target}/emulated" --config 'profile.release.package."*".opt-level=0' \
        --config 'profile.release.package.libm.opt-level=3' kernels
done
