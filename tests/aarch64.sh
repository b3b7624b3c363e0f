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

install() {
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    local packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user)
    if ! find_compiler 2>/dev/null; then
        # The standard library is a package of the other architecture.
        $sudo dpkg --add-architecture arm64
        packages+=(rustc-web libstd-rust-web-dev:arm64)
    fi
    $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

# What is not there of a compiler, a linker and an emulator, a line each.
lacking() {
    find_compiler || return 0
    command -v qemu-aarch64 >/dev/null || echo "no qemu-aarch64 (Debian: qemu-user)"
    command -v aarch64-linux-gnu-gcc >/dev/null ||
        echo "no aarch64-linux-gnu-gcc (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
}

# Sets up what scripts named $1 need, by apt if their next argument is --install; without it, says so and exits with 77.
need() {
    if [ "${2:-}" = --install ] && [ -n "$(lacking 2>&1)" ]; then
        install || echo "apt cannot install all of it"
    fi
    local lacks
    lacks=$(lacking 2>&1)
    if [ -n "$lacks" ]; then
        echo "$1: skipped, $lacks"
        exit 77
    fi
    find_compiler
}

# The newest of a program that Debian installs with its version in the name.
newest() {
    compgen -c "$1" | grep -Ex "$1(-[0-9]+)?" | sort -uV | tail -1
}
