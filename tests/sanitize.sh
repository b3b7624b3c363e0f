#!/usr/bin/env bash
# The kernels' tests under AddressSanitizer and under valgrind, for accesses beyond a buffer and of what nobody wrote.
# Valgrind shows the tests a CPU that has only what it can emulate, so AVX-512 is the sanitizer's alone. Says what it
# lacks, and exits with 77 if it could run neither.
#
#     tests/sanitize.sh [--install]     # --install: asks apt for valgrind, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
suite() {
    # The sweeps over all arguments of a function are long, and touch no memory but an array's.
    cargo test --release --locked --lib "$@" kernels -- --skip error_bounds
}

if [ "${1:-}" = --install ] && ! command -v valgrind >/dev/null; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq valgrind >/dev/null; } || echo "apt cannot install valgrind"
fi

# Valgrind runs one thread at a time, which leaves the other CPUs to what the sanitizer needs; and the very program that `cargo test
# --release` builds.
ran=
if command -v valgrind >/dev/null; then
    suite --no-run
    said=$(mktemp)
    trap 'rm -f "$said"' EXIT
    runner=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$host")_RUNNER
    (export "$runner=valgrind --quiet --error-exitcode=1" && suite) >"$said" 2>&1 &
    ran=$!
else
    echo "sanitize: valgrind skipped, it is not installed"
fi

status=0
if compgen -G "$(rustc --print target-libdir)/librustc-*_rt.asan.a" >/dev/null; then
    # The sanitizer is part of the stable toolchain, its flag is not. Only a named target keeps the flag from build scripts.
    RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" suite --no-default-features --features f16 --target "$host" \
        --target-dir "${CARGO_TARGET_DIR:-target}/sanitize" --config tests/quick.toml || status=$?
else
    echo "sanitize: AddressSanitizer skipped, this toolchain comes without it"
    [ -n "$ran" ] || exit 77
fi
if [ -n "$ran" ]; then
    wait "$ran" || status=$?
    echo "sanitize: valgrind:"
    cat "$said"
fi
exit $status
