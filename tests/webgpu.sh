#!/usr/bin/env bash
# Samples whose state stays in a device's memory, where there is no device: ONNX Runtime's WebGPU provider, out of PyPI's wheel
# onnxruntime-webgpu, on SwiftShader, a Vulkan driver in software, out of Debian's package chromium-common. They have to be the
# engine's. What is not there is fetched into target/onnxruntime (57 MB); with --install, apt installs the Vulkan loader.
#
#     tests/webgpu.sh [--install]
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/onnxruntime
loader() {
    ldconfig -p | grep -q 'libvulkan\.so\.1'
}
if [ "${1:-}" = --install ] && ! loader; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends libvulkan1 >/dev/null || true
fi
skip() {
    echo "tests/webgpu.sh: skipped, $1"
    exit 77
}
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the wheel and the driver are for Linux on x86-64"
loader || skip "no libvulkan.so.1 (Debian: libvulkan1)"
if [ ! -e "$folder/webgpu/.whole" ]; then
    python3 -m pip install --quiet --root-user-action ignore --no-deps --target "$folder/webgpu" onnxruntime-webgpu==1.27.0 ||
        skip "PyPI's wheel onnxruntime-webgpu can not be fetched"
    touch "$folder/webgpu/.whole"
fi
driver=$folder/swiftshader/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -e "$driver" ]; then
    mkdir -p "$folder/swiftshader"
    (cd "$folder/swiftshader" && apt-get download -qq chromium-common && dpkg-deb --fsys-tarfile chromium-common_*.deb |
        tar -x --wildcards '*swiftshader*' && rm chromium-common_*.deb) || skip "Debian's chromium-common can not be fetched"
fi
cargo build --release --bin fewstep

export VK_DRIVER_FILES=$driver VK_ICD_FILENAMES=$driver FEWSTEP_CACHE=off
on=(--provider ort:webgpu --ort-lib "$folder/webgpu/onnxruntime/capi")
found=$(mktemp)
trap 'rm -f "$found"' EXIT
for model in models/toy2d/cm models/toy2d/imm digits; do
    target/release/fewstep verify $model -n 2 "${on[@]}" --min-psnr 80
done
target/release/fewstep bench models/toy2d/cm --runs 1 --json "$found" "${on[@]}"
if ! grep -q '"state_on_device": *true' "$found"; then
    echo "the state does not stay on the device"
    exit 1
fi
