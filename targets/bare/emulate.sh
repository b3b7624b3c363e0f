#!/usr/bin/env bash
# Runs an image on a board in QEMU: cargo calls it, see .cargo/config.toml. What the program writes is standard output, how
# it exits is the exit status.
#
#     emulate.sh virt|an547 IMAGE [ARGUMENT]...
set -euo pipefail

case $1 in
    virt) machine=(qemu-system-aarch64 -M virt -cpu cortex-a53 -nic none) ;;
    an547) machine=(qemu-system-arm -M mps3-an547) ;;
    *) echo "emulate: no board $1" >&2 && exit 2 ;;
esac
image=$2
shift 2
arguments=$(printf ',arg=%s' "$(basename "$image")" "$@")
exec "${machine[@]}" -device "loader,file=$image,cpu-num=0" -display none -monitor none -serial none -chardev stdio,id=console \
    -semihosting-config "enable=on,target=native,chardev=console$arguments" </dev/null
