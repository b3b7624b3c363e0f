#!/usr/bin/env bash
# The digits on ONNX Runtime's providers, compared with the engine in f32: on the CPU, on OpenVINO, and on Qualcomm's HTP,
# of which the wheel has a simulator. On a CPU of Intel's also on OpenVINO as a plugin, where terrain has to open in two
# fifths of the time when it was opened before. On a machine with an NVIDIA GPU also on CUDA, if ORT_CUDA names a library
# that has it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "skipped: the HTP's simulator is for Linux on x86-64"
    exit 77
fi
if ! python3 -m pip --version >/dev/null 2>&1; then
    echo "skipped: there is no pip, which fetches ONNX Runtime"
    exit 77
fi
if ! tests/onnxruntime.sh; then
    echo "skipped: ONNX Runtime can not be fetched"
    exit 77
fi
cargo build --release --bin fewstep

wheels=target/onnxruntime
fewstep() {
    FEWSTEP_CACHE=off target/release/fewstep "$@"
}
fewstep verify digits -n 10 --provider ort --ort-lib $wheels/onnxruntime/onnxruntime/capi --min-psnr 100
fewstep verify digits -n 10 --provider ort:openvino --ort-lib $wheels/openvino/onnxruntime/capi --strict
fewstep verify digits -n 2 --provider ort:qnn --ort-lib $wheels/onnxruntime/onnxruntime/capi \
    --ep-lib $wheels/qnn/onnxruntime_qnn/libonnxruntime_providers_qnn.so --strict \
    --provider-option backend_path=libQnnHtp.so --provider-option enable_htp_fp16_precision=1 \
    --provider-option soc_model=43 --provider-option htp_arch=73

if ! grep -q GenuineIntel /proc/cpuinfo; then
    echo "not run: OpenVINO's plugin, which finds CPUs of Intel only"
else
    cache=$(mktemp -d)
    trap 'rm -rf "$cache"' EXIT
    on=(--provider ort:openvino --ort-lib $wheels/onnxruntime/onnxruntime/capi
        --ep-lib $wheels/openvino-plugin/onnxruntime_ep_openvino/libonnxruntime_providers_openvino_plugin.so)
    fewstep verify digits -n 10 "${on[@]}" --strict
    models/terrain/fetch.sh
    # Milliseconds.
    opened() {
        FEWSTEP_CACHE=$cache target/release/fewstep sample models/terrain -o "$cache/sample.png" "${on[@]}" 2>&1 |
            awk '/opened in/ { print $NF == "s" ? $(NF - 1) * 1000 : $(NF - 1) }'
    }
    first=$(opened)
    second=$(opened)
    echo "terrain on OpenVINO's plugin: opened in $first ms, and in $second ms the second time"
    awk -v first="$first" -v second="$second" 'BEGIN { exit !(second > 0 && second <= 0.4 * first) }'
fi

if ! command -v nvidia-smi >/dev/null; then
    echo "not run: CUDA, as there is no NVIDIA GPU"
elif [ -z "${ORT_CUDA:-}" ]; then
    echo "not run: CUDA, as ORT_CUDA names no library (PyPI's wheel onnxruntime-gpu has one)"
else
    fewstep verify digits -n 10 --provider ort:cuda --ort-lib "$ORT_CUDA"
fi
ORT_DYLIB_PATH=$PWD/$wheels/onnxruntime/onnxruntime/capi cargo test --release --test providers --test no_allocation
