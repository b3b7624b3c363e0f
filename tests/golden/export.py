"""Writes the analytic network as ONNX files, which tests/mixture.rs samples: `python export.py`."""

import pathlib
import sys

import onnx
import torch
from common import START, Network

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "ops"))
from generate import strip  # noqa: E402

SCALED = dict(time="timestep", betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
NETWORKS = {
    "epsilon": Network(prediction="epsilon", **SCALED),
    "x0": Network(prediction="x0", **SCALED),
    "v": Network(prediction="v", time="timestep", betas="cosine"),
    "velocity": Network(prediction="velocity", time="unit", time_scale=1000),
    "mean_velocity": Network(prediction="velocity", time="unit", time_scale=1000, second="target"),
}

for name, network in NETWORKS.items():
    names = ["x", "t", "second"] if network.second else ["x", "t"]
    inputs = (START.float(), torch.tensor([500.0]).float(), torch.tensor([250.0]).float())[: len(names)]
    path = HERE / f"{name}.onnx"
    torch.onnx.export(network.float(), inputs, path, input_names=names, output_names=["f"], dynamo=False)
    model = onnx.load(path)
    strip(model)
    onnx.save(model, path)
