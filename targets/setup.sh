#!/usr/bin/env bash
# Installs what builds and runs a target here: its Debian packages, as root or with sudo, and its standard library. What it
# cannot install it says, and exits with 77.
#
#     targets/setup.sh NAME
set -euo pipefail
cd "$(dirname "$0")/.."
source targets/target.sh
load "${1:?usage: targets/setup.sh NAME}"

apt() {
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

wanted=()
for package in ${packages[@]+"${packages[@]}"}; do
    dpkg -s "$package" >/dev/null 2>&1 || wanted+=("$package")
done
if [ ${#wanted[@]} -gt 0 ] && ! apt "${wanted[@]}"; then
    echo "$1: apt cannot install ${wanted[*]}"
    exit 77
fi
if [ "$target" = aarch64-unknown-linux-gnu ]; then
    # The one whose standard library Debian has too.
    need "$1" --install
elif ! find_compiler 2>/dev/null && ! rustup component add rust-src >/dev/null 2>&1 && ! apt rustc-web rust-web-src; then
    echo "$1: rustup can add neither $target nor rust-src here, and apt has no rustc-web"
    exit 77
fi
