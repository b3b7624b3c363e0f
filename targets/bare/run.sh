#!/usr/bin/env bash
# Draws a digit, and points in the plane, on two boards without an operating system, in QEMU, and compares them with what
# this computer's portable kernels draw from the same noise: every bit where the board runs these as well, and within
# a tolerance where it has NEON, which rounds once where they round twice. Says what it lacks, and exits with 77 if it could
# run no board of those targets.
#
#     targets/bare/run.sh [--install] [TARGET]...  # --install: asks apt for what it lacks, as root or with sudo
set -euo pipefail
cd "$(dirname "$0")/../.."
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/bare
label=7 seed=42 steps=2 points=256 # as in src/
tolerance=1e-5                     # of values up to about 1

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

# Plans for the boards, and the samples that this computer draws with the portable ones.
host() {
    cargo build --release --locked --bin fewstep
    local fewstep=$target_dir/release/fewstep isa
    for isa in portable arm-neon; do
        mkdir -p "$work/$isa"
        "$fewstep" compile models/digits --target $isa -o "$work/$isa/digits.fsp"
        "$fewstep" compile models/toy2d/meanflow --target $isa -o "$work/$isa/toy2d.fsp"
    done
    draw digits -n 1 --cond label=$label
    draw toy2d -n $points
}

draw() {
    local model=$1
    shift
    "$target_dir/release/fewstep" sample "$work/portable/$model.fsp" "$@" --sampler meanflow --steps $steps --rng philox \
        --seed $seed --threads 1 -o "$work/$model.npy"
}

# The bits of an array's values, as the boards print them.
bits() {
    local header
    header=$(od -An -j8 -N2 -tu2 "$1")
    od -An -v -j$((10 + header)) -tx4 -w32 "$1"
}

# The largest difference between two lists of bits.
difference() {
    paste <(values "$1") <(values "$2") | awk '{ d = $1 - $2; d = d < 0 ? -d : d; if (!(d <= most)) most = d }
        END { print NR ? most + 0 : "nan" }'
}

# Bits as numbers, one a line.
values() {
    printf '%b' "$(sed -E 's/ (..)(..)(..)(..)/\\x\4\\x\3\\x\2\\x\1/g' "$1" | tr -d '\n')" | od -An -v -tf4 -w4
}

# Bytes of an image: the program, and the plan.
sizes() {
    size -A "$1" | awk '$1 == ".plan" { plan = $2 } $1 ~ /^\.(start|text|rodata|data)$/ { program += $2 }
        END { printf "program %.0f kB, plan %.0f kB", program / 1e3, plan / 1e3 }'
}

# Runs one image, shows its picture, compares.
check() {
    local board=$1 target=$2 isa=$3 model=$4 image=$work/build/$2/release/$4 out=$work/$1-$3-$4
    shift 4
    timeout 120 targets/bare/emulate.sh "$board" "$image" "$@" >"$out.txt" || { tail -n 3 "$out.txt" && return 1; }
    local line='( [0-9a-f]{8})+'
    grep -vxE "$line" "$out.txt"
    grep -xE "$line" "$out.txt" >"$out.bits"
    bits "$work/$model.npy" >"$work/$model.bits"
    if [ "$isa" = portable ]; then
        cmp -s "$work/$model.bits" "$out.bits" || { echo "bare: $model on $board is not what this computer draws" && return 1; }
        echo "bare: $model on $board, $isa, is what this computer draws, bit by bit; $(sizes "$image")"
    else
        local off
        off=$(difference "$work/$model.bits" "$out.bits")
        awk "BEGIN { exit !($off <= $tolerance) }" || { echo "bare: $model on $board, $isa, is off by $off" && return 1; }
        echo "bare: $model on $board, $isa, is off by at most $off from what this computer draws; $(sizes "$image")"
    fi
}

export FEWSTEP_PLANS=$work
asked=
[ "${1:-}" != --install ] || { asked=1 && shift; }
ran=
while read -r board emulator target isa; do
    [ $# = 0 ] || [[ " $* " = *" $target "* ]] || continue
    if [ -n "$asked" ] && [ -n "$(lacking "$emulator" "$target")" ]; then
        install "$target" || echo "apt cannot install all of it"
    fi
    lacks=$(lacking "$emulator" "$target")
    if [ -n "$lacks" ]; then
        echo "bare: skipped $board, $lacks"
        continue
    fi
    [ -n "$ran" ] || host
    (images "$target")
    check "$board" "$target" "$isa" digits $label $seed
    check "$board" "$target" "$isa" toy2d $seed
    ran=1
done <<'BOARDS'
virt qemu-system-aarch64 aarch64-unknown-none arm-neon
an547 qemu-system-arm thumbv8m.main-none-eabihf portable
BOARDS
[ -n "$ran" ] || exit 77
