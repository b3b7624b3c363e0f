#!/usr/bin/env bash
# Builds the smallest program that samples with an operating system for 64-bit ARM, says how large it is, draws a digit with it
# in QEMU, and compares that with what this computer draws. And the same with a standard library of its own, if its sources
# are there: `rustup component add rust-src`. Says what it lacks, and then exits with 77.
#
#     targets/minimal/run.sh [--install]     # --install: asks apt and rustup for what it lacks, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/aarch64.sh
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/minimal
tolerance=1e-5 # of values up to 1: NEON rounds once where portable kernels round twice

# The largest difference between two files of floats.
difference() {
    paste <(od -An -v -tf4 -w4 "$1") <(od -An -v -tf4 -w4 "$2") |
        awk '{ d = $1 - $2; d = d < 0 ? -d : d; if (!(d <= most)) most = d } END { print NF == 2 ? most + 0 : "nan" }'
}

need minimal "$@"

cargo build --release --locked --bin fewstep
mkdir -p "$work"
fewstep=$target_dir/release/fewstep
"$fewstep" compile models/digits --target portable -o "$work/portable.fsp"
"$fewstep" sample "$work/portable.fsp" -n 1 --seed 42 --cond label=7 --threads 1 -o "$work/host.npy"
header=$(od -An -j8 -N2 -tu2 "$work/host.npy")
tail -c +$((11 + header)) "$work/host.npy" >"$work/host.f32"

# Strips a program that is at $2, called $1, says how large it is, and compares what it draws.
try() {
    aarch64-linux-gnu-strip -o "$work/$1" "$2"
    echo "$1: $(stat -c %s "$work/$1") bytes, stripped"
    for isa in arm-neon arm-fp16; do
        "$fewstep" compile models/digits --target $isa -o "$work/$isa.fsp"
        qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$work/$1" "$work/$isa.fsp" "$work/$isa.f32" 42 label=7
        off=$(difference "$work/host.f32" "$work/$isa.f32")
        awk "BEGIN { exit !($off <= $tolerance) }" || { echo "$1: $isa is off by $off" && exit 1; }
        echo "$1: $isa is off by at most $off from what this computer's portable kernels draw"
    done
    # It has no portable kernels, and says so.
    if said=$(qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/$1" "$work/portable.fsp" "$work/portable.f32" 2>&1) ||
        [[ $said != *"no plan for this CPU"*"only portable"* ]]; then
        echo "$1: of a portable plan it says: $said" && exit 1
    fi
}

build() {
    (cd targets/minimal && cargo build --release --locked --target "$target" "$@")
}

build --target-dir "$work/build"
try minimal "$work/build/$target/release/minimal"

library=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust/library
[ -e "$library" ] || { [ "${1:-}" = --install ] && rustup component add rust-src; } || true
if [ ! -e "$library" ]; then
    echo "minimal: not with a standard library of its own, whose sources are not here (rustup component add rust-src)"
    exit 0
fi
# Stable compilers contain what builds the standard library, but call it unstable.
flags=(-Zunstable-options -Cpanic=immediate-abort)
RUSTC_BOOTSTRAP=1 build --target-dir "$work/own" -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size \
    --config "target.$target.rustflags=[$(printf '"%s",' "${flags[@]}")]"
try minimal-own-std "$work/own/$target/release/minimal"
