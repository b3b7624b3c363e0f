#!/usr/bin/env bash
# The sampling loop of a policy network takes no lock that waits and asks the system for nothing: strace records what the
# program does, and between the last look for a sensor of energy and the first question for its memory, which is when
# `fewstep bench` times 200 samples, it may only read such a sensor. Says what it lacks, and then exits with 77.
#
#     tests/syscalls.sh [--install]     # --install: asks apt for strace, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --install ] && ! command -v strace >/dev/null; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq strace >/dev/null; } || echo "apt cannot install strace"
fi
if ! strace -o /dev/null true 2>/dev/null; then
    echo "syscalls: skipped, strace is not installed, or may not trace"
    exit 77
fi

cargo build --release --locked --bin fewstep
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Only the first thread, which is the one that samples.
FEWSTEP_CACHE="$work/cache" strace -o "$work/trace" "${CARGO_TARGET_DIR:-target}/release/fewstep" \
    bench tests/networks/policy_unet1d --threads 1 --steps 4 --runs 200 >/dev/null

# Looking for a sensor lists folders, reading it does not.
loop() {
    awk '/\/sys\/class\/powercap/ { looking = 1 }
         /O_DIRECTORY|getdents64/ { kept = ""; next }
         looking && /\/proc\/self\/smaps_rollup/ { found = 1; exit }
         { kept = kept $0 "\n" }
         END { if (!found) exit 1; printf "%s", kept }' "$work/trace"
}
loop >"$work/loop" || { echo "syscalls: the trace does not show where the loop is"; exit 1; }
# Closing the folder, and reading the sensor.
if grep -vE '^(openat|read|close|fstat|statx|newfstatat|lseek)\(' "$work/loop"; then
    echo "syscalls: the loop asks the system for the above"
    exit 1
fi
echo "syscalls: 200 samples of 4 steps, and $(wc -l <"$work/loop") calls, none of them a lock or memory"
