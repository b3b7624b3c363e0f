# For scripts that try the C interface in a language. Sourced, not run, with their own `name`, and a folder `work`: installs the
# library to $work/prefix, where pkg-config finds it, and draws a digit to compare with.

cargo build --release --locked --bin fewstep
targets/c/install.sh "$work/prefix"
export PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig LD_LIBRARY_PATH=$work:$work/prefix/lib
fewstep=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release/fewstep
"$fewstep" compile models/digits -o "$work/digits.fsp"
"$fewstep" sample "$work/digits.fsp" -n 1 --seed 42 --cond label=7 --threads 1 -o "$work/digits.npy"
start=$((10 + $(od -An -j8 -N2 -tu2 "$work/digits.npy")))

# Runs a program, which $1 calls it, and compares what it prints with that digit.
same() {
    "${@:2}" "$work/digits.fsp" label=7 >"$work/$1.txt"
    paste <(tail -c +$((start + 1)) "$work/digits.npy" | od -An -v -tf4 -w4) "$work/$1.txt" |
        awk 'NF != 2 || ($1 - $2) ^ 2 > 1e-12 { exit 1 } END { exit NR != 784 }' ||
        { echo "$name: $1 draws something else" && exit 1; }
    echo "$name: $1 draws what the program draws"
}
