#!/usr/bin/env bash
# What depends on the CPU, for AArch64 in QEMU on another computer: kernels, operators, networks, plans, memory and files. On a CPU
# that has NEON alone, and arithmetic on one with half precision too. And samples of digits and terrain, which have to be what
# this computer draws. What cannot run there is skipped by name, with the reason. Says what it lacks, and then exits with 77.
#
#     tests/emulated.sh [--install] [--test NAME...]  # asks apt for what it lacks, as root or with sudo; all, or some programs
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/aarch64.sh

need emulated "$@"
[ "${1:-}" != --install ] || shift
arithmetic=(--lib --test half --test networks --test operators)
others=(--test conformance --test digits --test ffi --test plans)
[ $# = 0 ] || arithmetic=("$@") others=()
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export FEWSTEP_ELSEWHERE=$target_dir/elsewhere
build=(--release --locked --quiet --target "$target" --target-dir "$target_dir/emulated" --config tests/quick.toml)

# Tests that are skipped in QEMU, and why.
skips=()
while IFS=: read -r name reason; do
    echo "emulated: skipped $name:$reason"
    skips+=(--skip "$name")
done <<'SKIPPED'
pages_come_and_go: QEMU passes on no advice about maps
the_system_is_told_of_reads_in_passing: the same
what_will_be_needed_is_read: the same
a_killed_compile_leaves_the_old_file_or_the_new_one: 200 runs of the program; the cache's test kills 30 writers
a_damaged_plan_is_refused_or_stays_inside_of_its_memory: 1800 damaged plans; tests/corrupt.sh has more
samples_read_as_the_digit_that_was_asked_for: 3000 evaluations; digits are compared below
SKIPPED

# Tests on one CPU, by cargo's options. Programs that they start are emulated too.
suite() {
    local cpu=$1
    shift
    # The C library of the linker, and not another one that is here.
    local emulator="qemu-aarch64 -cpu $cpu -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$emulator FEWSTEP_RUNNER=$emulator
    cargo test "${build[@]}" --no-fail-fast "$@" "${skips[@]}" &&
        cargo test "${build[@]}" --test elsewhere -- --ignored --nocapture samples_are
}

# Both at the same time: many of the tests are one thread's.
mkdir -p "$FEWSTEP_ELSEWHERE"
cargo test --release --locked --quiet --test elsewhere -- --ignored write_plans
cargo test "${build[@]}" --no-run "${arithmetic[@]}" ${others[@]+"${others[@]}"} --test elsewhere
echo "emulated: max does without the sweeps of f32 functions, which are NEON's on both"
suite max "${arithmetic[@]}" -- --skip error_bounds >"$target_dir/emulated/max.txt" 2>&1 &
max=$!
status=0
suite cortex-a53 "${arithmetic[@]}" ${others[@]+"${others[@]}"} -- || status=$?
wait $max || status=$?
echo "emulated: max:"
cat "$target_dir/emulated/max.txt"
exit $status
