#!/usr/bin/env bash
# Builds the page that draws digits, into target/wasm/page: the program for the browser, its plan, and the files of page/. Says
# what it lacks, and then exits with 77. `rustup target add wasm32-unknown-unknown` is enough; without rustup, Debian's packages
# rustc-web, rust-web-src and lld are another way.
#
#     targets/wasm/build.sh && python3 -m http.server --directory target/wasm/page
set -euo pipefail
cd "$(dirname "$0")/../.."
target=wasm32-unknown-unknown
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
page=$target_dir/wasm/page

has_rustup_target() {
    [ -d "$(rustc --print target-libdir --target $target)" ] || rustup target add $target >/dev/null 2>&1
}

# The program, with rustup's core, or with Debian's compiler and a core built from its sources, which is linked by
# the linker of the other compiler, if there is one.
program() {
    local options=(--release --locked --target-dir "$target_dir/wasm/build")
    cd targets/wasm
    if has_rustup_target; then
        cargo build "${options[@]}"
    elif [ -d "$(/usr/bin/rustc --print sysroot 2>/dev/null)/lib/rustlib/src" ]; then
        PATH=$PATH:$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin \
            RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 cargo build "${options[@]}" -Zbuild-std=core
    else
        echo "wasm: skipped, no Rust compiler for $target: rustup cannot add it here; Debian's packages rustc-web, rust-web-src and lld are another way"
        exit 77
    fi
}

(program)
cargo build --release --locked --bin fewstep
mkdir -p "$page"
cp targets/wasm/page/* "$target_dir/wasm/build/$target/release/digits.wasm" "$page"
"$target_dir/release/fewstep" compile models/digits --target wasm-simd128 -o "$page/digits.fsp"
echo "wasm: program $(stat -c %s "$page/digits.wasm") bytes ($(gzip -9c "$page/digits.wasm" | wc -c) compressed), plan $(stat -c %s "$page/digits.fsp") bytes, in $page"
