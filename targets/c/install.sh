#!/usr/bin/env bash
# Builds the C library, shared and static, and installs it with its headers, for pkg-config and for CMake.
#
#     targets/c/install.sh PREFIX [CARGO OPTION...]     # such as --target aarch64-unknown-linux-gnu
set -euo pipefail
cd "$(dirname "$0")/../.."

[ $# -ge 1 ] || { echo "give the folder to install to, such as /usr/local" >&2 && exit 2; }
mkdir -p "$1"
prefix=$(realpath "$1")
shift
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
abi=$(sed -n 's/^#define FEWSTEP_ABI_VERSION \([0-9]*\)/\1/p' include/fewstep.h)
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")/c

# In one piece: the library is as small as its functions need, and its own functions are all that it shows.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo rustc --release --locked --lib --no-default-features --features capi --crate-type cdylib,staticlib \
    --target-dir "$target_dir" --config profile.release.lto=true --config profile.release.codegen-units=1 "$@" -- \
    -C link-arg=-Wl,-soname,libfewstep.so."$abi" --print native-static-libs 2>&1 | tee "$log"
needed=$(sed -n 's/^note: native-static-libs: //p' "$log" | tail -1)
built=$target_dir/release
for ((i = 1; i < $#; i++)); do
    next=$((i + 1))
    if [ "${!i}" = --target ]; then built=$target_dir/${!next}/release; fi
done

install -Dm644 -t "$prefix/include" include/fewstep.h include/fewstep.hpp
install -Dm644 -t "$prefix/lib" "$built/libfewstep.a"
install -Dm755 "$built/libfewstep.so" "$prefix/lib/libfewstep.so.$version"
ln -sf "libfewstep.so.$version" "$prefix/lib/libfewstep.so.$abi"
ln -sf "libfewstep.so.$abi" "$prefix/lib/libfewstep.so"

mkdir -p "$prefix/lib/pkgconfig" "$prefix/lib/cmake/fewstep"
cat >"$prefix/lib/pkgconfig/fewstep.pc" <<PC
prefix=\${pcfiledir}/../..
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: fewstep
Description: Inference runtime for few-step generative samplers
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lfewstep
Libs.private: $needed
PC
cat >"$prefix/lib/cmake/fewstep/fewstep-config.cmake" <<'CMAKE'
# fewstep::fewstep is the shared library, fewstep::static the static one.
get_filename_component(fewstep_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET fewstep::fewstep)
  add_library(fewstep::fewstep SHARED IMPORTED)
  set_target_properties(fewstep::fewstep PROPERTIES
    IMPORTED_LOCATION "${fewstep_prefix}/lib/libfewstep.so"
    INTERFACE_INCLUDE_DIRECTORIES "${fewstep_prefix}/include")
  add_library(fewstep::static STATIC IMPORTED)
  set_target_properties(fewstep::static PROPERTIES
    IMPORTED_LOCATION "${fewstep_prefix}/lib/libfewstep.a"
    INTERFACE_LINK_LIBRARIES "@needed@"
    INTERFACE_INCLUDE_DIRECTORIES "${fewstep_prefix}/include")
endif()
CMAKE
sed -i "s/@needed@/${needed// /;}/" "$prefix/lib/cmake/fewstep/fewstep-config.cmake"
cat >"$prefix/lib/cmake/fewstep/fewstep-config-version.cmake" <<CMAKE
set(PACKAGE_VERSION $version)
if(PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
CMAKE
echo "installed fewstep $version, interface $abi, in $prefix"
