#!/usr/bin/env bash
# Installs the C library, builds the examples in C, C++ and Python on it, and compares what they draw with what the program
# draws; in valgrind too, if it is there. Says what it lacks, and then exits with 77.
#
#     tests/c_abi.sh [--install]     # --install: asks apt and cargo for what it lacks, apt as root or with sudo
#     tests/c_abi.sh --header        # makes include/fewstep.h of src/ffi.rs, and nothing else
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/c
mkdir -p "$work"

header() {
    cbindgen --quiet --config include/cbindgen.toml src/ffi.rs --output "$1"
}
if [ "${1:-}" = --header ]; then
    header include/fewstep.h
    exit
fi
if [ "${1:-}" = --install ]; then
    command -v cbindgen >/dev/null || cargo install --quiet --locked cbindgen --version 0.29.2
    if ! { command -v gcc && command -v g++ && command -v pkg-config && command -v cmake && command -v valgrind; } >/dev/null; then
        sudo=
        [ "$(id -u)" = 0 ] || sudo=sudo
        $sudo apt-get update -qq
        $sudo apt-get install -y -qq gcc g++ pkg-config cmake make valgrind >/dev/null
    fi
fi
for tool in gcc g++ pkg-config; do
    command -v $tool >/dev/null || { echo "c_abi: skipped, $tool is not installed" && exit 77; }
done

if command -v cbindgen >/dev/null; then
    header "$work/fewstep.h"
    diff include/fewstep.h "$work/fewstep.h" || { echo "c_abi: run tests/c_abi.sh --header" && exit 1; }
else
    echo "c_abi: the header is not compared, cbindgen is not installed"
fi

name=c_abi
source tests/c_interface.sh
read -ra shared < <(pkg-config --cflags --libs fewstep)
read -ra static < <(pkg-config --cflags --libs --static fewstep)
warnings=(-O2 -Wall -Wextra -Wpedantic -Werror)
gcc -std=c11 "${warnings[@]}" examples/c/sample.c -o "$work/c" "${shared[@]}"
gcc -std=c11 "${warnings[@]}" examples/c/sample.c -o "$work/c-static" "${static[@]/-lfewstep/-l:libfewstep.a}"
g++ -std=c++17 "${warnings[@]}" examples/c/sample.cpp -o "$work/cpp" "${shared[@]}"
same c "$work/c"
same c-static "$work/c-static"
same cpp "$work/cpp"
if python3 -c 'import numpy' 2>/dev/null; then
    same python python3 examples/c/sample.py "$work/prefix/lib/libfewstep.so"
else
    echo "c_abi: Python skipped, numpy is not installed"
fi
if command -v cmake >/dev/null; then
    cmake -S examples/c -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release >/dev/null
    cmake --build "$work/cmake" >/dev/null
    same cmake "$work/cmake/sample"
else
    echo "c_abi: CMake skipped, it is not installed"
fi
if ! "$work/c" "$work/nothing.fsp" 2>"$work/error.txt"; then
    grep -q '^error 2: .*nothing.fsp: cannot read the plan' "$work/error.txt" || { cat "$work/error.txt" && exit 1; }
fi

# Valgrind shows programs a CPU without AVX-512.
if command -v valgrind >/dev/null; then
    "$fewstep" compile models/digits --target portable -o "$work/portable.fsp"
    valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite,indirect \
        "$work/c" "$work/portable.fsp" label=7 >/dev/null
    echo "c_abi: valgrind has nothing to say"
else
    echo "c_abi: valgrind skipped, it is not installed"
fi
