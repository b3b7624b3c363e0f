"""Write noise.npy and denoised.npy of the terrain consistency UNet.

Run as `python tests/terrain/golden.py WEIGHTS.onnx`, the file inside an unpacked
adaptive-terrain-diffusion 0.4.2.  noise.npy is the unit noise; the network gets
noise * 80 with sigma 80 and difficulty 0.5 (the package's 50.5 of 1..100).
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

VERSION = "0.4.2"
SHA256 = "95be54b4a39d58320e187a7ec533351c957f16a00be58773c86074828ee67887"
SIGMA, DIFFICULTY = 80.0, 0.5
HERE = Path(__file__).resolve().parent


def check(path):
    """Assert the weights' hash and the version of the package around them."""
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256, "other weights"
    found = [p.name for p in path.resolve().parents[2].glob("adaptive_terrain_diffusion-*.dist-info")]
    assert found == [f"adaptive_terrain_diffusion-{VERSION}.dist-info"], f"expected version {VERSION}, found {found}"


def main():
    """Run the network once on the CPU without graph optimisations."""
    path = Path(sys.argv[1])
    check(path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    noise = np.random.default_rng(0).standard_normal((1, 1, 128, 128), dtype=np.float32)
    feeds = dict(
        noisy=noise * np.float32(SIGMA),
        sigma=np.array([SIGMA], np.float32),
        difficulty=np.array([DIFFICULTY], np.float32),
    )
    (denoised,) = session.run(["denoised"], feeds)
    np.save(HERE / "noise.npy", noise)
    np.save(HERE / "denoised.npy", denoised)
    print(denoised.shape, denoised.dtype, float(denoised.min()), float(denoised.max()), float(denoised.std()))


if __name__ == "__main__":
    main()
