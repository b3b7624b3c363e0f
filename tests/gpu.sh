#!/usr/bin/env bash
# On a machine with an NVIDIA GPU: whether samples on CUDA are the engine's, also with guidance, whether their state stays on
# the device, whether what is fed is in page-locked memory, and how long they take, against ONNX Runtime alone and PyTorch
# with compiled graphs: the digits, DiT-S/2 and the U-Net of Stable Diffusion 1.5, in half precision. Writes
# benches/records/DATE-GPU.json. About five minutes; elsewhere says what is missing and exits with 77.
#
#     tests/gpu.sh [NAME ...]         digits dit_s2 sd15; sd15 needs diffusers
#
# ORT_CUDA: ONNX Runtime's library with CUDA, or its folder; without it, PyPI's wheel onnxruntime-gpu, installed or fetched.
# FEWSTEP: the program, target/release/fewstep without it, built if there is cargo. PYTHON: a Python with PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    echo "tests/gpu.sh: skipped, $1"
    exit 77
}

python=${PYTHON:-python3}
nvidia-smi -L >/dev/null 2>&1 || skip "there is no NVIDIA GPU"
"$python" -c 'import torch, onnx, numpy; assert torch.cuda.is_available()' 2>/dev/null ||
    skip "$python has no PyTorch that sees the GPU, or no onnx or numpy"

program=${FEWSTEP:-target/release/fewstep}
if [ -z "${FEWSTEP:-}" ]; then
    command -v cargo >/dev/null || [ -x "$program" ] || skip "there is neither cargo nor $program"
    ! command -v cargo >/dev/null || cargo build --release --bin fewstep
fi

# Where Python has ONNX Runtime's library, if that has CUDA.
installed() {
    "$python" - <<'END'
from importlib.util import find_spec
from pathlib import Path

spec = find_spec("onnxruntime")
folder = Path(spec.origin).parent / "capi" if spec else Path("/nowhere")
print(folder if list(folder.glob("*onnxruntime_providers_cuda*")) else "")
END
}
library=${ORT_CUDA:-$(installed)}
if [ -z "$library" ]; then
    fetched=target/onnxruntime/gpu
    [ -d $fetched ] || "$python" -m pip install --quiet --no-deps --target $fetched onnxruntime-gpu 2>/dev/null ||
        skip "ONNX Runtime has no CUDA here, and PyPI's wheel onnxruntime-gpu can not be fetched; name one as ORT_CUDA"
    library=$fetched/onnxruntime/capi
    export PYTHONPATH=$PWD/$fetched${PYTHONPATH:+:$PYTHONPATH}
fi

# CUDA and cuDNN, as PyTorch's wheels bring them.
libraries=$("$python" - <<'END'
import importlib.util
from pathlib import Path

roots = (importlib.util.find_spec("nvidia").submodule_search_locations if importlib.util.find_spec("nvidia") else [])
print(":".join(str(path) for root in roots for path in sorted(Path(root).glob("*/lib"))))
END
)
export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$python" benches/gpu.py --fewstep "$program" --library "$library" "$@"
