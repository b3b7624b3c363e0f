"""Runs every component of the pipelines of make.py in fewstep and in ONNX Runtime, and compares the outputs.

`python tests/pipelines/operators.py FOLDER...`: each a pipeline's folder. `FEWSTEP` is the program, else
target/release/fewstep. It fails if an operator has no native kernel, or an output's relative L2 is above `BOUND`
(`HALF_BOUND` for files in half precision, which fewstep computes in f32).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

HERE = Path(__file__).resolve().parent
FEWSTEP = os.environ.get("FEWSTEP", str(HERE.parents[1] / "target/release/fewstep"))
BOUND, HALF_BOUND = 1e-5, 2e-3
# Its outputs are drawn within the graph, so that no two runs agree.
RANDOM = "RandomNormalLike"


def main():
    failed = [path for folder in sys.argv[1:] for path in sorted(Path(folder).glob("*/model.onnx")) if not agrees(path)]
    sys.exit(f"{len(failed)} differ: {', '.join(map(str, failed))}" if failed else 0)


def agrees(path):
    model = onnx.load(path, load_external_data=False)
    if any(node.op_type == RANDOM for node in model.graph.node):
        print(f"{path}: left out, it draws random numbers")
        return True
    inputs = {i.name: given(path, i) for i in model.graph.input}
    host = json.loads(fewstep("inspect", path, "--json", *shapes(inputs)))["operators"]["imported"].get("Host", 0)
    off = distances(path, inputs)
    print(f"{path}: {host} without a native kernel, " + ", ".join(f"{name} {d:.1e}" for name, d in off.items()))
    half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
    return host == 0 and max(off.values()) < (HALF_BOUND if half else BOUND)


def given(path, value):
    """What the first run of the folder gave this input, in the declared type and rank."""
    expected, component = path.parents[1] / "expected", path.parent.name
    files = json.loads((expected / "case.json").read_text())["cases"][0]["files"]
    kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if component == "vae_encoder":
        return np.random.default_rng(1).uniform(-1, 1, (1, 3, 32, 32)).astype(kind)
    if component.startswith("text_encoder"):
        ids = np.load(expected / files[f"{component}_ids_0"])
        return (ids if value.name == "input_ids" else ids != 0).astype(kind)
    key = "decoder_input" if component == "vae_decoder" else f"network_{value.name}"
    array = np.load(expected / files[key]).astype(kind)
    rank = len(value.type.tensor_type.shape.dim)
    return array if array.ndim == rank else array.reshape(-1)[:1].reshape([1] * rank)


def shapes(inputs):
    return [f"--shape={name}={'x'.join(map(str, array.shape))}" for name, array in inputs.items() if array.ndim]


def distances(path, inputs):
    """Relative L2 of each output."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = []
        for name, array in inputs.items():
            np.save(f"{folder}/{name}.npy", array.astype({"f": np.float32, "i": np.int64}.get(array.dtype.kind, bool)))
            arguments += ["--input", f"{name}={folder}/{name}.npy"]
        fewstep("run", path, *arguments, "-o", f"{folder}/out", "--no-cache")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        off = {}
        for output, wanted in zip(session.get_outputs(), session.run(None, inputs)):
            found, wanted = np.load(f"{folder}/out/{output.name}.npy"), wanted.astype(np.float64)
            off[output.name] = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        return off


def fewstep(*arguments):
    return subprocess.run([FEWSTEP, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
