#!/usr/bin/env bash
# Builds the page that draws digits and tests it in headless Chromium: what it draws is, bit by bit, what this computer's portable
# kernels draw. Says what it lacks, and then exits with 77.
#
#     targets/wasm/run.sh [--install]     # --install: asks apt for what it lacks, as root or with sudo
#     targets/wasm/run.sh --picture       # makes docs/pictures/wasm.png too
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(realpath -m "${CARGO_TARGET_DIR:-target}")/wasm
seed=42

lacking() {
    local tool
    for tool in node chromium chromedriver; do
        command -v $tool >/dev/null || echo "no $tool (Debian: nodejs, chromium, chromium-driver)"
    done
}

if [ "${1:-}" = --install ] && [ -n "$(lacking)" ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    { $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends nodejs chromium chromium-driver >/dev/null; } ||
        echo "apt cannot install all of it"
fi
[ -z "$(lacking)" ] || { echo "wasm: skipped, $(lacking | tr '\n' ' ')" && exit 77; }

targets/wasm/build.sh
fewstep=$(dirname "$work")/release/fewstep
rm -rf "$work/host"
mkdir -p "$work/host"
"$fewstep" compile models/digits --target portable -o "$work/portable.fsp"
# Each class in two evaluations, and one class in other numbers of them.
for drawn in {0..9}-2 7-1 7-4 7-8; do
    "$fewstep" sample "$work/portable.fsp" -n 1 --seed $seed --cond label=${drawn%-*} --steps ${drawn#*-} --threads 1 \
        -o "$work/host/$drawn.npy" >/dev/null
done
node targets/wasm/test.mjs "$work/page" "$work/host" $seed "$work/wasm.png"
if [ "${1:-}" = --picture ]; then cp "$work/wasm.png" docs/pictures/wasm.png; fi
