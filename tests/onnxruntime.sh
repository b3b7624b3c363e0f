#!/usr/bin/env bash
# Fetches ONNX Runtime for the tests, and its OpenVINO and QNN providers, from PyPI into target/onnxruntime: 210 MB, 570
# unpacked, and 50 more on a CPU of Intel's. Needs Python's pip, version 3.11 or later for QNN.
set -euo pipefail
cd "$(dirname "$0")/.."

fetch() {
    local name=$1 wheel=$2
    local folder=target/onnxruntime/$name
    [ -e "$folder/.whole" ] && return
    rm -rf "$folder"
    python3 -m pip install --quiet --root-user-action ignore --no-deps --target "$folder" "$wheel"
    touch "$folder/.whole"
}

fetch onnxruntime onnxruntime==1.31.1
fetch openvino onnxruntime-openvino==1.24.1
fetch qnn onnxruntime-qnn==2.7.0
# It finds no other CPUs.
! grep -q GenuineIntel /proc/cpuinfo || fetch openvino-plugin onnxruntime-ep-openvino==1.8.1
