#!/usr/bin/env bash
# Builds the examples in Kotlin and Swift on the C library, as far as their compilers are here, and compares what they draw
# with what the program draws. Says what it lacks, and exits with 77 if it could build neither.
#
#     tests/bindings.sh [--install]     # --install: asks apt for what it lacks, as root or with sudo; Debian 12 has no Swift
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/bindings
mkdir -p "$work"

# What is missing for Kotlin.
lacking() {
    local tool
    for tool in gcc pkg-config javac kotlinc; do
        command -v $tool >/dev/null || echo "no $tool (Debian: gcc, pkg-config, default-jdk-headless, kotlin)"
    done
}

if [ "${1:-}" = --install ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    if [ -n "$(lacking)" ]; then
        { $sudo apt-get update -qq &&
            $sudo apt-get install -y -qq --no-install-recommends gcc pkg-config default-jdk-headless kotlin >/dev/null; } ||
            echo "apt cannot install all of it"
    fi
    command -v swift >/dev/null || $sudo apt-get install -y -qq --no-install-recommends swiftlang g++ >/dev/null 2>&1 || true
fi
lacks=$(lacking)
[ -z "$lacks" ] || echo "bindings: Kotlin skipped, $lacks"
command -v swift >/dev/null || echo "bindings: Swift skipped, no swift (Debian 13: swiftlang, g++)"
if [ -n "$lacks" ] && ! command -v swift >/dev/null; then exit 77; fi

name=bindings
source tests/c_interface.sh

# The same, of a program that also says what is wrong with a plan that is not there.
same_and_wrong() {
    same "$@"
    if "${@:2}" "$work/nothing.fsp" >/dev/null 2>"$work/error.txt" || ! grep -q 'nothing.fsp: cannot read the plan' "$work/error.txt"; then
        echo "bindings: $1 does not say that there is no plan" && cat "$work/error.txt" && exit 1
    fi
}

kotlin() {
    local jdk shared
    jdk=$(dirname "$(dirname "$(realpath "$(command -v javac)")")")
    read -ra shared < <(pkg-config --cflags --libs fewstep)
    gcc -std=c11 -O2 -Wall -Wextra -Wpedantic -Werror -shared -fPIC -I"$jdk/include" -I"$jdk/include/linux" \
        examples/kotlin/fewstep_jni.c "${shared[@]}" -o "$work/libfewstep_jni.so"
    kotlinc examples/kotlin/*.kt -include-runtime -d "$work/sample.jar"
    # The machine checks what the glue does with its functions.
    same_and_wrong kotlin java -Xcheck:jni -Djava.library.path="$work" -cp "$work/sample.jar" org.fewstep.SampleKt
}

[ -n "$lacks" ] || kotlin
if command -v swift >/dev/null; then
    swift build --package-path examples/swift --scratch-path "$work/swift" -c release
    same_and_wrong swift "$work/swift/release/Sample"
fi
