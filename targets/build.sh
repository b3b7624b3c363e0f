#!/usr/bin/env bash
# Builds a target's product (docs/targets.md) and prints its path. Where there is no standard library for the target, it
# builds the runtime, which needs none, and says so. What it lacks it says, and exits with 77; targets/setup.sh installs it.
#
#     targets/build.sh NAME [CARGO'S ARGUMENT]...
set -euo pipefail
cd "$(dirname "$0")/.."
source targets/target.sh
name=${1:?usage: targets/build.sh NAME [CARGO\'S ARGUMENT]...}
shift
load "$name"
target_dir=${CARGO_TARGET_DIR:-target}
built=$target_dir/$target/release
options=(--release --locked --target "$target" "$@")
if is_host; then
    # What other builds here have made is not made again.
    built=$target_dir/release
    options=(--release --locked "$@")
fi

if [ "$product" != firmware ] && ! find_compiler 2>/dev/null; then
    echo "$name: no standard library for $target here, so this is the runtime alone" >&2
    product=core
fi
[ ${#build_env[@]} = 0 ] || export "${build_env[@]}"
case $product in
    program)
        cargo build "${options[@]}" --bin fewstep >&2
        echo "$built/fewstep"
        ;;
    library)
        cargo rustc "${options[@]}" --lib --no-default-features --features capi --crate-type staticlib >&2
        echo "$built/libfewstep.a"
        ;;
    runtime)
        cargo build "${options[@]}" --lib --no-default-features >&2
        echo "$built/libfewstep.rlib"
        ;;
    core)
        cargo_core build "${options[@]}" --lib --no-default-features >&2
        echo "$built/libfewstep.rlib"
        ;;
    firmware)
        targets/bare/run.sh "$target" >&2
        echo "$target_dir/bare/build/$target/release"
        ;;
esac
