#!/usr/bin/env bash
# Counts the instructions that an AArch64 CPU executes for one sample of a model, in QEMU on another computer: in f32 and f16
# here, and for the same evaluations in ONNX Runtime. Prints a table, and writes what each function executes into
# target/instructions. Says what it lacks, and then exits with 77. What the figures mean: docs/bench.md.
#
#     benches/instructions.sh [--install] [MODEL...]
#
# MODEL: folders with a manifest, or else terrain and the zoo's policy. --install: asks apt for what is lacking, as root or
# with sudo.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/aarch64.sh
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/instructions
# The last version that this emulator loads.
wheel=onnxruntime==1.23.2
library=$work/onnxruntime/onnxruntime/capi/libonnxruntime.so.${wheel##*=}
sysroot=/usr/aarch64-linux-gnu
# How far outputs may be from ONNX Runtime's, relative L2.
declare -A farthest=([f32]=1e-5 [f16]=5e-3)

need instructions "${1:-}"
[ "${1:-}" != --install ] || shift
[ $# -gt 0 ] || set -- models/terrain "$target_dir/zoo/policy"
[ "$1" != models/terrain ] || models/terrain/fetch.sh
if [ ! -e "$sysroot/lib/libstdc++.so.6" ] || ! command -v c++filt >/dev/null; then
    echo "instructions: skipped, no libstdc++ for AArch64, or no c++filt (Debian: libstdc++6-arm64-cross, binutils)"
    exit 77
fi
if [ ! -e "$library" ] && ! python3 -m pip install --quiet --no-deps --target "$work/onnxruntime" --platform \
    manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --only-binary :all: --python-version 3.11 "$wheel"; then
    echo "instructions: skipped, pip does not fetch $wheel"
    exit 77
fi

cargo build --release --locked --bin fewstep --test bench
mkdir -p "$work"
cc -O2 -shared -fPIC -o "$work/counter.so" benches/instructions/counter.c
# These symbols tell the rows and vectors of a tile.
(cd benches/instructions && RUSTFLAGS="-C symbol-mangling-version=v0" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    cargo build --release --locked --target "$target" --target-dir "$work")

# Runs the program with the rest of the arguments, and writes what it executes into $work/$1.txt: the sum, and functions.
count() {
    qemu-aarch64 -cpu max -L "$sysroot" -plugin "$work/counter.so,out=$work/counts" \
        "$work/$target/release/instructions" "${@:2}"
    { head -1 "$work/counts" && tail -n +2 "$work/counts" | sort -nr | sed 's/\.llvm\.[0-9]*$//' | c++filt -s rust; } >"$work/$1.txt"
}

# Millions, and the part of the peer's.
row() {
    awk -v name="$1" -v ours="$2" -v peer="$3" -v off="$4" \
        'BEGIN { printf "| %s | %.1f | %.3f | %s |\n", name, ours / 1e6, ours / peer, off }'
}

table="| sample | 10^6 instructions | of ONNX Runtime's | relative L2 |
|---|---|---|---|"
for model in "$@"; do
    name=$(basename "$model")
    network=$(sed -n 's/^network *= *"\(.*\)"/\1/p' "$model/fewstep.toml")
    "$target_dir/release/fewstep" compile "$model" --target arm-fp16 --precision f32,f16 --way 1 -o "$work/$name.fsp"
    off=$(count "$name-ort" "$work/$name.fsp" "$model/$network" "$library")
    peer=$(head -1 "$work/$name-ort.txt")
    table+=$'\n'$(row "$name, ONNX Runtime ${wheel##*=}" "$peer" "$peer" "")
    for precision in f32 f16; do
        count "$name-$precision" "$work/$name.fsp" $precision
        distance=$(sed -n "s/^$precision //p" <<<"$off")
        awk "BEGIN { exit !($distance <= ${farthest[$precision]}) }" ||
            { echo "$name: $precision is off by $distance of ONNX Runtime's output, so the two do not do the same" && exit 1; }
        table+=$'\n'$(row "$name, $precision" "$(head -1 "$work/$name-$precision.txt")" "$peer" "$distance")
    done
done
echo "$table"
