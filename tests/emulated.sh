#!/usr/bin/env bash
# All tests for AArch64 in QEMU, on another computer: on a CPU that has NEON alone, and on one with half-precision arithmetic.
# And samples of digits and terrain, which have to be what this computer draws. What cannot run there is skipped by name, with
# the reason. Says what it lacks, and then exits with 77.
#
#     tests/emulated.sh [--install] [--test NAME...]  # asks apt for what it lacks, as root or with sudo; all, or some programs
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/aarch64.sh

need emulated "$@"
[ "${1:-}" != --install ] || shift
tests=("$@")
[ $# -gt 0 ] || tests=(--lib --bins --tests)
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
a_model_that_needs_too_much_memory_is_compiled_for_less: QEMU's own memory is counted
the_library_has_to_be_onnx_runtimes: it builds libraries for this computer
a_killed_compile_leaves_the_old_file_or_the_new_one: 200 runs of the program; the cache's test kills 30 writers
a_damaged_plan_is_refused_or_stays_inside_of_its_memory: 1800 damaged plans; tests/corrupt.sh has more
every_mistake_is_explained_in_one_line: 150 runs of the program, whose messages are no matter of the CPU
samples_read_as_the_digit_that_was_asked_for: 3000 evaluations; digits are compared below
terrain_equals_onnx_runtime: three evaluations of 18 GFLOP; terrain is compared below
steps_allocate_nothing: hundreds of samples, and allocations are no matter of the CPU
every_key_is_documented: documentation is no matter of the CPU
bench_writes_a_page_that_needs_nothing_else: neither is a page
tract_computes_the_same: another library, which takes minutes and is off by 3 %, unoptimised as it is here
samples_are_distributed_like_the_data: 4096 samples of 14 networks
a_profile_accounts_for_every_instruction: an emulator's peak is no measure
torn_files_are_errors_or_arrays: thousands of files, which are read the same on every CPU
SKIPPED

# Tests on one CPU. Programs that they start are emulated too.
suite() {
    local cpu=$1
    shift
    # The C library of the linker, and not another one that is here.
    local emulator="qemu-aarch64 -cpu $cpu -L /usr/aarch64-linux-gnu -E LD_LIBRARY_PATH=/usr/aarch64-linux-gnu/lib"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$emulator FEWSTEP_RUNNER=$emulator
    cargo test "${build[@]}" --no-fail-fast "${tests[@]}" -- "$@" "${skips[@]}" &&
        cargo test "${build[@]}" --test elsewhere -- --ignored --nocapture samples_are
}

# Both at the same time: many of the tests are one thread's.
mkdir -p "$FEWSTEP_ELSEWHERE"
cargo test --release --locked --quiet --test elsewhere -- --ignored write_plans
cargo test "${build[@]}" --no-run "${tests[@]}" --test elsewhere
echo "emulated: max does without the sweeps of f32 functions, which are NEON's on both"
suite max --skip error_bounds >"$target_dir/emulated/max.txt" 2>&1 &
max=$!
status=0
suite cortex-a53 || status=$?
wait $max || status=$?
echo "emulated: max:"
cat "$target_dir/emulated/max.txt"
exit $status
