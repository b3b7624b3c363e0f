#!/usr/bin/env bash
# Links the runtime without std and without a heap: for this computer, where it also runs, and for bare metal where
# rustup has, or can get, the target.
set -euo pipefail
cd "$(dirname "$0")/../.."
target_dir=${CARGO_TARGET_DIR:-target}/no_std

link() {
    cargo build --release --locked --manifest-path tests/no_std/Cargo.toml --target-dir "$target_dir" --target "$1"
}

installed() {
    rustup target list --installed 2>/dev/null | grep -qx "$1"
}

host=$(rustc -vV | sed -n 's/^host: //p')
link "$host"
"$target_dir/$host/release/no_std"
echo "no_std: links and runs on $host"

for target in thumbv8m.main-none-eabihf aarch64-unknown-none; do
    if installed "$target" || rustup target add "$target" >/dev/null 2>&1; then
        link "$target"
        echo "no_std: links for $target"
    else
        echo "no_std: skipped $target, which rustup cannot add here"
    fi
done
