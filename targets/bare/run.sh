#!/usr/bin/env bash
# Draws a digit, and points in the plane, on two boards without an operating system, in QEMU, and compares every bit with
# what this computer draws from the same noise. Says what it lacks, and exits with 77 if it could run neither board.
#
#     targets/bare/run.sh [--install]     # --install: asks apt for what it lacks, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/../.."
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/bare
label=7 seed=42 steps=2 points=256 # as in src/

install() {
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    local packages=(qemu-system-arm)
    has_rustup_target "$1" || packages+=(rustc-web rust-web-src)
    $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

has_rustup_target() {
    [ -d "$(rustc --print target-libdir --target "$1")" ] || rustup target add "$1" >/dev/null 2>&1
}

# Builds the images for a target: with rustup's core, or with Debian's compiler and a core built from its sources, which
# is linked by the linker of the other compiler.
images() {
    local options=(--release --locked --target "$1" --target-dir "$work/build")
    cd targets/bare
    if has_rustup_target "$1"; then
        cargo build "${options[@]}"
    else
        PATH=$PATH:$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin \
            RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 cargo build "${options[@]}" -Zbuild-std=core
    fi
}

# What is missing for a board: its emulator, its target.
lacking() {
    command -v "$1" >/dev/null || echo "no $1 (Debian: qemu-system-arm)"
    has_rustup_target "$2" || [ -d "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src" ] ||
        echo "no Rust compiler for $2: rustup cannot add it here; Debian's packages rustc-web and rust-web-src are another way"
}

# Plans in portable kernels, and the samples that this computer draws with them.
host() {
    # The example is the plan's writer until the program can write one.
    cargo build --release --locked --bin fewstep --example bare_plan
    mkdir -p "$work"
    local fewstep=$target_dir/release/fewstep plan=$target_dir/release/examples/bare_plan
    local common=(--sampler meanflow --steps $steps --rng philox --seed $seed --threads 1 --precision f32)
    "$plan" models/digits "$work/digits"
    "$plan" models/toy2d/meanflow "$work/toy2d"
    export FEWSTEP_ISA=portable
    "$fewstep" sample models/digits "${common[@]}" -n 1 --cond label=$label -o "$work/digits.npy"
    "$fewstep" sample models/toy2d/meanflow "${common[@]}" -n $points -o "$work/toy2d.npy"
}

# The bits of an array's values, as the boards print them.
bits() {
    local header
    header=$(od -An -j8 -N2 -tu2 "$1")
    od -An -v -j$((10 + header)) -tx4 -w32 "$1"
}

# Bytes of an image: the program, and the plan.
sizes() {
    size -A "$1" | awk '$1 == ".plan" { plan = $2 } $1 ~ /^\.(start|text|rodata|data)$/ { program += $2 }
        END { printf "program %.0f kB, plan %.0f kB", program / 1e3, plan / 1e3 }'
}

# Runs one image, shows its picture, compares.
check() {
    local board=$1 target=$2 model=$3 image=$work/build/$2/release/$3 out=$work/$1-$3.txt
    shift 3
    timeout 120 targets/bare/emulate.sh "$board" "$image" "$@" >"$out" || { tail -n 3 "$out" && return 1; }
    local line='( [0-9a-f]{8})+'
    grep -vxE "$line" "$out"
    diff <(bits "$work/$model.npy") <(grep -xE "$line" "$out") >/dev/null ||
        { echo "bare: $model on $board is not what this computer draws" && return 1; }
    echo "bare: $model on $board is what this computer draws, bit by bit; $(sizes "$image")"
}

export FEWSTEP_PLANS=$work
ran=
while read -r board emulator target; do
    if [ "${1:-}" = --install ] && [ -n "$(lacking "$emulator" "$target")" ]; then
        install "$target" || echo "apt cannot install all of it"
    fi
    lacks=$(lacking "$emulator" "$target")
    if [ -n "$lacks" ]; then
        echo "bare: skipped $board, $lacks"
        continue
    fi
    [ -n "$ran" ] || host
    (images "$target")
    check "$board" "$target" digits $label $seed
    check "$board" "$target" toy2d $seed
    ran=1
done <<'BOARDS'
virt qemu-system-aarch64 aarch64-unknown-none
an547 qemu-system-arm thumbv8m.main-none-eabihf
BOARDS
[ -n "$ran" ] || exit 77
