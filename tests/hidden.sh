#!/usr/bin/env bash
# Half precision on a virtual CPU that computes in it and does not say so, as some hypervisors have them: the tests of
# kernels, networks and samples, built for a CPU that has AVX512-FP16. Says why not, and exits with 77, elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() {
    echo "hidden: skipped, $1"
    exit 77
}

[ "$(uname -m)" = x86_64 ] || skip "this is no x86-64"
! grep -qw avx512_fp16 /proc/cpuinfo || skip "the CPU says that it has AVX512-FP16, so the other stages have tested it"
grep -qw avx512dq /proc/cpuinfo || skip "the CPU has no AVX-512"
cat >"$work/probe.rs" <<'RUST'
fn main() {
    // SAFETY: if the CPU lacks the instruction, it ends this process.
    unsafe { std::arch::asm!("vaddph zmm0, zmm0, zmm0", out("zmm0") _) }
}
RUST
rustc -o "$work/probe" "$work/probe.rs"
"$work/probe" 2>/dev/null || skip "the CPU has no AVX512-FP16"

# Only this package is told, so that what it depends on is not built again.
printf '#!/bin/sh\nexec "$@" --cfg fewstep_avx512fp16\n' >"$work/rustc"
chmod +x "$work/rustc"
RUSTC_WORKSPACE_WRAPPER=$work/rustc cargo test --release --lib --test half
