#!/usr/bin/env bash
# Builds a target's program and runs it: on the computer that FEWSTEP_HOST names, by ssh, or in the target's emulator, or
# here. Over ssh, arguments that are files or folders here go there, into the folder fewstep-run; what the program writes is
# there too. Of firmware, the first argument is the image's name: digits or toy2d.
#
#     targets/run.sh NAME [CARGO'S ARGUMENT]... -- [ARGUMENT]...
#     FEWSTEP_HOST=pi@board targets/run.sh raspberry-pi-5 -- bench terrain.fsp --budget targets/raspberry-pi-5.toml
set -euo pipefail
here=$PWD
cd "$(dirname "$0")/.."
source targets/target.sh
name=${1:?usage: targets/run.sh NAME [CARGO\'S ARGUMENT]... -- [ARGUMENT]...}
shift
load "$name"
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
done
shift || true
program=$(realpath "$(targets/build.sh "$name" ${options[@]+"${options[@]}"})")

# Packs the program and what it is given, and has the other computer unpack and run it.
remote() {
    local packed=(-C "$(dirname "$program")" "$(basename "$program")") words=("./$(basename "$program")") word
    for word in "$@"; do
        if [ -e "$word" ]; then
            packed+=(-C "$(realpath "$(dirname "$word")")" "$(basename "$word")")
            word=$(basename "$word")
        fi
        words+=("$(printf %q "$word")")
    done
    tar -cf - "${packed[@]}" |
        ssh "$FEWSTEP_HOST" "mkdir -p fewstep-run && cd fewstep-run && tar -xf - && ${run_env[*]} ${words[*]}"
}

case $product in
    firmware)
        program=$program/${1:?an image: digits or toy2d}
        shift
        ;;
    program) ;;
    *)
        echo "$name: nothing to run here, $program is no program; it takes ${run_missing:-another target}"
        exit 77
        ;;
esac
[ "$product" = firmware ] || cd "$here"
if [ -n "${FEWSTEP_HOST:-}" ]; then
    remote "$@"
elif [ -n "$emulator" ]; then
    read -ra emulator <<<"$emulator"
    exec env ${run_env[@]+"${run_env[@]}"} "${emulator[@]}" "$program" "$@"
elif is_host; then
    exec env ${run_env[@]+"${run_env[@]}"} "$program" "$@"
else
    echo "$name: cannot run here; set FEWSTEP_HOST to a computer that can"
    exit 77
fi
