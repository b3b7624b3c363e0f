# For the scripts here, called in the package's folder: what targets/NAME.toml says, as variables, and a compiler for its
# triple. Sourced, not run.
source tests/aarch64.sh

# Sets target (the triple), plan, product, packages, emulator, build_missing and run_missing of a device class, and its environments.
load() {
    local file=targets/$1.toml
    if [ ! -e "$file" ]; then
        echo "no target $1; there are $(names)" >&2
        return 2
    fi
    eval "$(python3 - "$file" <<'PY'
import shlex, sys, tomllib

with open(sys.argv[1], "rb") as file:
    target = tomllib.load(file)
build, run = target["build"], target["run"]
variables = {
    "target": target["triple"],
    "plan": target["plan"],
    "product": build["product"],
    "emulator": run.get("emulator", ""),
    "build_missing": build.get("missing", ""),
    "run_missing": run.get("missing", ""),
}
lists = {
    "packages": build.get("packages", []),
    "build_env": [f"{name}={value}" for name, value in build.get("env", {}).items()],
    "run_env": [f"{name}={value}" for name, value in run.get("env", {}).items()],
}
for name, value in variables.items():
    print(f"{name}={shlex.quote(value)}")
for name, values in lists.items():
    print(f"{name}=({shlex.join(values)})")
PY
    )"
}

# All device classes.
names() {
    basename -s .toml targets/*.toml | paste -sd' '
}

# Whether the target is this computer's.
is_host() {
    [ "$target" = "$(rustc -vV | sed -n 's/^host: //p')" ]
}

# Calls cargo for a target with core alone, built of its sources: those of the same compiler, or Debian's compiler with
# its own. Stable compilers contain what builds it, but call it unstable.
cargo_core() {
    local compiler
    for compiler in rustc /usr/bin/rustc; do
        if [ -e "$("$compiler" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core" ]; then
            RUSTC=$compiler RUSTC_BOOTSTRAP=1 cargo "$@" -Zbuild-std=core
            return
        fi
    done
    echo "no Rust compiler for $target: rustup cannot add it here, and there are no sources to build it from" \
        "(rustup component add rust-src; or Debian's packages rustc-web and rust-web-src)" >&2
    return 77
}
