#!/usr/bin/env bash
# Builds the smallest program that samples with an operating system for 64-bit ARM, says how large it is, draws a digit with it
# in QEMU, and compares that with what this computer draws. Says what it lacks, and then exits with 77.
#
#     targets/minimal/run.sh [--install]     # --install: asks apt for what it lacks, as root or with sudo
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

# With a test, whose features are those of most builds here: it is compiled once for all.
cargo build --release --locked --bin fewstep --test bench
(cd targets/minimal && cargo build --release --locked --target "$target" --target-dir "$work/build")
built=$work/build/$target/release/minimal
aarch64-linux-gnu-strip -o "$work/minimal" "$built"
echo "minimal: $(stat -c %s "$work/minimal") bytes, stripped"

fewstep=$target_dir/release/fewstep
"$fewstep" compile models/digits --target portable -o "$work/portable.fsp"
"$fewstep" sample "$work/portable.fsp" -n 1 --seed 42 --cond label=7 --threads 1 -o "$work/host.npy"
header=$(od -An -j8 -N2 -tu2 "$work/host.npy")
tail -c +$((11 + header)) "$work/host.npy" >"$work/host.f32"
for isa in portable arm-neon arm-fp16; do
    "$fewstep" compile models/digits --target $isa -o "$work/$isa.fsp"
    qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$work/minimal" "$work/$isa.fsp" "$work/$isa.f32" 42 label=7
    off=$(difference "$work/host.f32" "$work/$isa.f32")
    awk "BEGIN { exit !($off <= $tolerance) }" || { echo "minimal: $isa is off by $off" && exit 1; }
    echo "minimal: $isa is off by at most $off from what this computer's portable kernels draw"
done
