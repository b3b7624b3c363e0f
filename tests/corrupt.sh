#!/usr/bin/env bash
# Damaged plan files under AddressSanitizer, with overflow checks: each is refused or runs, and touches no memory but its
# own. Exits with 77 where the toolchain comes without the sanitizer.
#
#     tests/corrupt.sh [COUNT]     # damaged files, 100000 if it is not said
set -euo pipefail
cd "$(dirname "$0")/.."

count=${1:-100000}
host=$(rustc -vV | sed -n 's/^host: //p')
if ! compgen -G "$(rustc --print target-libdir)/librustc-*_rt.asan.a" >/dev/null; then
    echo "corrupt: skipped, this toolchain comes without AddressSanitizer"
    exit 77
fi

FEWSTEP_SEEDS=$(mktemp -d)
export FEWSTEP_SEEDS
trap 'rm -rf "$FEWSTEP_SEEDS"' EXIT
cargo test --release --locked --test plans -- --ignored --exact write_seeds

# The runtime alone: the compiler would take minutes to build. For the flag see tests/sanitize.sh.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cdebug-assertions"
built=$(cargo test --release --locked --no-default-features --features std --test corrupt --target "$host" \
    --target-dir "${CARGO_TARGET_DIR:-target}/sanitize" --config profile.release.opt-level=1 --no-run --message-format=json |
    sed -n 's/.*"name":"corrupt".*"executable":"\([^"]*\)".*/\1/p')

# A process for each CPU, as every file is tried by itself.
processes=$(nproc)
share=$(((count + processes - 1) / processes))
running=()
for ((i = 0; i < processes; i++)); do
    FEWSTEP_FIRST=$((i * share)) FEWSTEP_COPIES=$share "$built" --ignored --nocapture &
    running+=($!)
done
for process in "${running[@]}"; do
    wait "$process"
done
