#!/usr/bin/env bash
# Counts the instructions that an AArch64 CPU executes for one sample of a model, in QEMU on another computer: in f32, in f16
# the fastest way that leaves the sample what it is, and for the same evaluations in ONNX Runtime. Prints a table, and writes
# what each function executes into target/instructions. Says what it lacks, and then exits with 77. What the figures mean:
# docs/bench.md.
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
# How far the f32 output may be from ONNX Runtime's, relative L2.
farthest=1e-5
# How far a sample in f16 may be from that in f32, relative to its range: root mean square, and any element. What a way into
# half precision is taken for (docs/precision.md), and what is an error even of the most exact one (50 dB).
close="2e-3 5e-3"
worst="3.2e-3 1e-2"

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

cargo build --release --locked --bin fewstep
mkdir -p "$work"
cc -O2 -shared -fPIC -o "$work/counter.so" benches/instructions/counter.c
# These symbols tell the rows and vectors of a tile.
(cd benches/instructions && RUSTFLAGS="-C symbol-mangling-version=v0" CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    cargo build --release --locked --target "$target" --target-dir "$work")

emulate() {
    qemu-aarch64 -cpu max -L "$sysroot" "$@"
}

# Whether each number of a list is a number and at most that of another.
within() {
    awk -v found="$1" -v most="$2" 'BEGIN {
        n = split(found, a)
        split(most, b)
        for (i = 1; i <= n; i++) if (a[i] !~ /^[0-9]/ || a[i] + 0 > b[i] + 0) exit 1
    }'
}

# Runs the program with the rest of the arguments, and writes what it executes into $work/$1.txt: the sum, and functions.
count() {
    emulate -plugin "$work/counter.so,out=$work/counts" "$work/$target/release/instructions" "${@:2}"
    { head -1 "$work/counts" && tail -n +2 "$work/counts" | sort -nr | sed 's/\.llvm\.[0-9]*$//' | c++filt -s rust; } >"$work/$1.txt"
}

# Millions, and the part of the peer's.
row() {
    awk -v name="$1" -v ours="$2" -v peer="$3" -v off="$4" \
        'BEGIN { printf "| %s | %.1f | %.3f | %s |\n", name, ours / 1e6, ours / peer, off }'
}

table="| sample | 10^6 instructions | of ONNX Runtime's | off by |
|---|---|---|---|"
for model in "$@"; do
    name=$(basename "$model")
    network=$(sed -n 's/^network *= *"\(.*\)"/\1/p' "$model/fewstep.toml")
    compile() {
        "$target_dir/release/fewstep" compile "$model" --target arm-fp16 "$@" -o "$work/$name.fsp"
    }
    compile --precision f32
    off=$(count "$name-ort" "$work/$name.fsp" "$model/$network" "$library")
    peer=$(head -1 "$work/$name-ort.txt")
    table+=$'\n'$(row "$name, ONNX Runtime ${wheel##*=}" "$peer" "$peer" "")
    within "$off" $farthest ||
        { echo "$name: f32 is off by $off of ONNX Runtime's output, so the two do not do the same" && exit 1; }
    count "$name-f32" "$work/$name.fsp" f32 "$work/$name-f32.sample"
    table+=$'\n'$(row "$name, f32" "$(head -1 "$work/$name-f32.txt")" "$peer" "$off")
    for way in 1 2 3 4; do
        compile --precision f16 --way $way
        count "$name-f16" "$work/$name.fsp" f16 "$work/$name-f16.sample"
        off=$(emulate "$work/$target/release/instructions" "$work/$name-f32.sample" "$work/$name-f16.sample")
        table+=$'\n'$(row "$name, f16, way $way" "$(head -1 "$work/$name-f16.txt")" "$peer" "$off")
        ! within "$off" "$close" || break
    done
    within "$off" "$worst" ||
        { echo "$name: the sample in f16 is off by $off of its range, even by the most exact way" && exit 1; }
done
echo "$table"
