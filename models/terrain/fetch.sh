#!/bin/sh
# Fetches the network of this model, which is not committed: 45 MB out of a Python package, checked by its SHA-256.
# Needs Python 3 with pip, and the package index that pip is set up with. Does nothing if the file is there already.
set -eu

package=adaptive-terrain-diffusion
version=0.4.2
member=terrain_diffusion/weights/terrain_consistency_unet_difficulty100.onnx
sha256=95be54b4a39d58320e187a7ec533351c957f16a00be58773c86074828ee67887

folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
file=$folder/${member##*/}

fail() {
    echo "models/terrain/fetch.sh: $1" >&2
    exit 1
}

python=
for candidate in python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "Python 3 is not here: install it, with pip"

# Whether a file has the right checksum.
is_right() {
    "$python" - "$1" "$sha256" <<'PYTHON'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
sys.exit(digest.hexdigest() != sys.argv[2])
PYTHON
}

if [ -f "$file" ] && is_right "$file"; then
    echo "$file is there already, with the right checksum"
    exit 0
fi

"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: install it (often the package python3-pip)"

# Beside the manifest, so that the last step is a rename within one file system.
work=$(mktemp -d "$folder/.fetch.XXXXXX") || fail "cannot write to $folder"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

echo "fetching $package $version with pip"
if ! "$python" -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: \
    --dest "$work" "$package==$version" 2>"$work/log"; then
    reason=$(grep -i error "$work/log" | tail -n 1 || true)
    fail "pip cannot download $package $version: ${reason:-$(tail -n 1 "$work/log")}; check the network and pip's settings"
fi

set -- "$work"/*.whl
[ -f "$1" ] || fail "pip downloaded no wheel of $package $version"
"$python" - "$1" "$member" "$work/network.onnx" <<'PYTHON' || fail "cannot unpack $member from the package"
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as source, open(sys.argv[3], "wb") as target:
    shutil.copyfileobj(source, target)
PYTHON
is_right "$work/network.onnx" || fail "the network in $package $version has another checksum than $sha256: not kept"
mv -f "$work/network.onnx" "$file"
echo "$file fetched, with the right checksum"
