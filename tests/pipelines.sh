#!/usr/bin/env bash
# Tiny text-to-image pipelines, made by diffusers and exported to ONNX, and drawn by both: latents and pictures have to be
# the same. Exits with 77 where there is no Python with venv, or what is in pipelines/requirements.txt can not be installed.
#
#     tests/pipelines.sh [--install]      # --install: makes an environment of its own, with PyTorch in it, some gigabytes
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target_dir/pipelines-python
python=${PYTHON:-$work/bin/python}

if [ "${1:-}" = --install ] && [ ! -x "$python" ]; then
    python3 -m venv "$work" && "$work/bin/pip" install --quiet -r tests/pipelines/requirements.txt ||
        { rm -rf "$work" && echo "pipelines: skipped, PyTorch can not be installed" && exit 77; }
fi
if ! "$python" -c 'import diffusers, onnx, torch, transformers' 2>/dev/null; then
    echo "pipelines: skipped, $python has no diffusers, onnx, torch and transformers; use --install"
    exit 77
fi

"$python" tests/pipelines/make.py -o "$target_dir/pipelines"
FEWSTEP_PIPELINES=$target_dir/pipelines cargo test --release --test pipelines -- --nocapture
