#!/usr/bin/env bash
# Installs the package into an environment of its own, as `pip install .` does, and tests it against the program. Exits with
# 77 where there is no Python 3.11 or later with venv.
#
#     python/test.sh [--torch]     # --torch: installs PyTorch there, which fewstep.export is tested with, several gigabytes
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/python

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "python: skipped, there is no Python 3.11" && exit 77; }
mkdir -p "$work"
[ -x "$work/venv/bin/pip" ] || python3 -m venv "$work/venv" || { echo "python: skipped, venv is not installed" && exit 77; }

cargo build --release --locked --bin fewstep
CARGO_TARGET_DIR=$work "$work/venv/bin/pip" install --quiet .
[ "${1:-}" != --torch ] || "$work/venv/bin/pip" install --quiet torch onnxscript
FEWSTEP=$target_dir/release/fewstep FEWSTEP_WORK=$work "$work/venv/bin/python" -m unittest discover -v -s python/tests
