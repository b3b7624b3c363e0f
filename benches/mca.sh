#!/usr/bin/env bash
# What llvm-mca says of the innermost loops of the AArch64 kernels, on any computer: compiles them and prints a table.
# Needs a Rust compiler for AArch64 (see tests/aarch64.sh), Python 3 and llvm-mca 16 or newer (Debian: llvm-19).
#
#     benches/mca.sh [--all] [--core NAME]
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/aarch64.sh

find_compiler
mca=$(newest llvm-mca)
if [ -z "$mca" ]; then
    echo "no llvm-mca: install LLVM 16 or newer (Debian: llvm-19)" >&2
    exit 1
fi

target_dir=${CARGO_TARGET_DIR:-target}/mca
# These symbols tell the rows and vectors of a tile.
RUSTFLAGS="-C symbol-mangling-version=v0" cargo rustc --quiet --release --locked --lib --no-default-features \
    --target "$target" --target-dir "$target_dir" -- --emit asm
assembly=$(ls -t "$target_dir/$target"/release/deps/fewstep-*.s | head -1)
python3 benches/mca.py "$assembly" --mca "$mca" "$@"
