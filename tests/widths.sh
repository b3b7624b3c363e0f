#!/usr/bin/env bash
# The library compiles for 32-bit CPUs, with std and without, and says in one line that it does not for big-endian ones. Says
# what it lacks, and exits with 77 if there was nothing to compile for.
set -euo pipefail
cd "$(dirname "$0")/.."
source targets/target.sh
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/widths RUSTFLAGS=-Dwarnings
refusal='plans are little-endian and used as they lie in memory'

# With the target's own library, or with a core that is built of its sources.
check() {
    local options=(check --locked --quiet --lib --no-default-features --features "$features" --target "$target")
    if find_compiler 2>/dev/null; then
        cargo "${options[@]}"
    elif [ "$features" = capi ]; then
        echo "widths: skipped $target with std, whose library rustup cannot add here"
        return 77
    else
        cargo_core "${options[@]}"
    fi
}

# Of a big-endian target: the message, and no other error than that there was one.
check_refused() {
    local said status=0
    said=$(check 2>&1) || status=$?
    [ $status != 77 ] || { echo "$said" && return 77; }
    if [ $status = 0 ] || [ "$(grep -c '^error' <<<"$said")" != 2 ] || ! grep -q "^error: $refusal" <<<"$said"; then
        echo "widths: of $target the compiler says: $said"
        return 1
    fi
}

checked=
while read -r target kind features; do
    status=0
    case $kind in
        little) check || status=$? ;;
        big) check_refused || status=$? ;;
    esac
    case $status in
        0) checked=1 && echo "widths: $target, $kind-endian${features:+, features $features}: as it should be" ;;
        77) ;;
        *) exit 1 ;;
    esac
done <<'TARGETS'
thumbv7em-none-eabihf little f16
armv7-unknown-linux-gnueabihf little capi
i686-unknown-linux-gnu little capi
s390x-unknown-linux-gnu big
powerpc64-unknown-linux-gnu big
TARGETS
[ -n "$checked" ] || exit 77
