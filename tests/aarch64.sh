# For scripts that build for AArch64 on another computer: sets `target`, and RUSTC where it takes another compiler than
# cargo's. Sourced, not run.

target=aarch64-unknown-linux-gnu

# Whether a compiler has the target's standard library.
has_target() {
    [ -d "$("$1" --print target-libdir --target "$target" 2>/dev/null || echo /nowhere)" ]
}

# rustup's target if it is there or can be had, or else what Debian has, packages rustc-web and libstd-rust-web-dev:arm64.
find_compiler() {
    has_target rustc && return
    rustup target add "$target" >/dev/null 2>&1 && return
    has_target /usr/bin/rustc && export RUSTC=/usr/bin/rustc && return
    echo "no Rust compiler for $target: rustup cannot add it here; Debian's packages rustc-web and libstd-rust-web-dev:arm64 are another way" >&2
    return 1
}

# The newest of a program that Debian installs with its version in the name.
newest() {
    compgen -c "$1" | grep -Ex "$1(-[0-9]+)?" | sort -uV | tail -1
}
