#!/usr/bin/env bash
# Builds every target, runs what can run here, and says what is missing where something is. Programs are built quickly, with
# what tests/emulated.sh has built.
#
#     targets/check.sh [--install]     # --install: installs what targets lack, as targets/setup.sh does
set -euo pipefail
cd "$(dirname "$0")/.."
source targets/target.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 targets/budget.py --check

# Whether the program on that CPU has the kernels that plans for it are made of.
has_plan() {
    "$@" list targets --json | python3 -c '
import json, sys
sys.exit(all(not row["supported"] for row in json.load(sys.stdin) if row["name"] == sys.argv[1]))' "$plan"
}

# A computer that is reached by ssh, as far as targets/run.sh is concerned.
board() {
    mkdir -p "$work/bin" "$work/board" "$work/files"
    printf '#!/bin/sh\ncd %q && exec sh -c "$2"\n' "$work/board" >"$work/bin/ssh"
    chmod +x "$work/bin/ssh"
    cp models/toy2d/ctm/ctm.onnx "$work/files/a network.onnx"
    PATH=$work/bin:$PATH FEWSTEP_HOST=board targets/run.sh "$1" -- inspect "$work/files/a network.onnx" --shape x=1x2 \
        --shape t=1 --shape s=1 >"$work/board.txt"
    [ -e "$work/board/fewstep-run/a network.onnx" ] && grep -q "^operator " "$work/board.txt"
}

check() {
    local name=$1 options=() built
    load "$name"
    if [ "$product" = program ] && ! is_host; then
        export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/emulated
        options=(--config tests/quick.toml)
    fi
    built=$(targets/build.sh "$name" ${options[@]+"${options[@]}"}) || return
    [ -e "$built" ] || return
    case $product in
        program)
            has_plan targets/run.sh "$name" ${options[@]+"${options[@]}"} -- || return
            ! is_host || board "$name" || return
            echo "check: $name: $built runs, and $plan with it"
            ;;
        firmware) echo "check: $name: $built runs, as said above" ;;
        *) echo "check: $name: $built is built${build_missing:+; missing here is $build_missing}" ;;
    esac
}

checked=
for name in $(names); do
    status=0
    [ "${1:-}" != --install ] || targets/setup.sh "$name" || status=$?
    [ $status != 0 ] || (check "$name") || status=$?
    case $status in
        0) checked=1 ;;
        77) echo "check: skipped $name" ;;
        *) echo "check: $name does not build or run" && exit 1 ;;
    esac
done
[ -n "$checked" ] || exit 77
