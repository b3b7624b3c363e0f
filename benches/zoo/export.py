"""Export the model zoo: real architectures at real sizes with random weights, each with a manifest and inputs.

    python benches/zoo/export.py [--to target/zoo] [NAME ...]

Writes NAME/NAME.onnx, NAME/fewstep.toml and NAME/in/INPUT.npy, all the same on every run; skips folders that are there.
Without names: all but sd15, whose weights are 3.4 GB. The committed models, digits and terrain, are copied beside them.
"""

import argparse
import contextlib
import io
import shutil
import subprocess
import tomllib
import warnings
import zlib
from pathlib import Path

import numpy as np
import onnx
import torch
from networks import Diffusers, Dit, FlowHead, PolicyUnet, condition_unet, randomise

ROOT = Path(__file__).resolve().parents[2]
MODELS, LARGE = {}, {"sd15"}


def model(fn):
    """Register a function returning (module, inputs, exporter, manifest without its first table)."""
    MODELS[fn.__name__] = fn
    return fn


def randn(*shape):
    return torch.randn(1, *shape)


def number(value):
    return torch.tensor([value])


# --- the models -----------------------------------------------------------


@model
def policy():
    """Diffusion Policy with a ResNet-18 observation of two frames and the end effector, distilled to few steps."""
    inputs = dict(sample=randn(16, 2), timestep=number(999), observation=randn(132))
    manifest = """
[inputs.sample]
role = "state"
shape = [16, 2]

[inputs.timestep]
role = "time"

[inputs.observation]
role = "condition"
shape = [132]
default = 0

[sampling]
family = "diffusion"
sampler = "ddim"
prediction = "epsilon"
time = "timestep"
betas = "cosine"
steps = 4

[output]
kind = "tensor"
"""
    return PolicyUnet(actions=2, observation=132), inputs, "torchscript", manifest


@model
def ctm_policy():
    """Consistency Policy: the same U-Net with the time it jumps to, for a seven-axis arm."""
    inputs = dict(sample=randn(16, 7), t=number(1095.5), s=number(-978.0), observation=randn(66))
    manifest = """
[inputs.sample]
role = "state"
shape = [16, 7]

[inputs.t]
role = "time"

[inputs.s]
role = "target"

[inputs.observation]
role = "condition"
shape = [66]
default = 0

[sampling]
family = "flow-map"
sampler = "ctm"
prediction = "edm-consistency"
sigma_data = 0.5
time = "log-sigma"
time_scale = 250
sigma_min = 0.02
sigma_max = 80.0

[output]
kind = "tensor"
"""
    return PolicyUnet(actions=7, observation=66, times=2), inputs, "dynamo", manifest


MEANFLOW = """
[inputs.x]
role = "state"
shape = [4, 32, 32]

[inputs.t]
role = "time"

[inputs.h]
role = "duration"

[inputs.label]
role = "condition"
default = 207
range = [0, 1000]
integer = true

[sampling]
family = "flow-map"
sampler = "meanflow"
prediction = "velocity"
time = "unit"

[output]
kind = "tensor"
"""


def meanflow_inputs():
    return dict(x=randn(4, 32, 32), t=number(1.0), h=number(1.0), label=number(207))


@model
def dit_s2():
    """MeanFlow DiT-S/2: 256 tokens of 384."""
    return Dit(width=384, heads=6, patch=2), meanflow_inputs(), "dynamo", MEANFLOW


@model
def dit_b4():
    """MeanFlow DiT-B/4: 64 tokens of 768."""
    return Dit(width=768, heads=12, patch=4), meanflow_inputs(), "torchscript", MEANFLOW


LATENT = """
[inputs.sample]
role = "state"
shape = [4, {size}, {size}]

[inputs.timestep]
role = "time"
{guidance}
[inputs.encoder_hidden_states]
role = "condition"
shape = [77, {width}]
default = 0

[sampling]
family = "consistency"
sampler = "lcm"
prediction = "epsilon"
time = "timestep"
betas = "scaled-linear"
beta_start = 0.00085
beta_end = 0.012
steps = 4

[output]
kind = "tensor"
"""

GUIDANCE = """
[inputs.timestep_cond]
role = "condition"
shape = [256]
default = 0
"""


@model
def latent_unet():
    """A small latent consistency model: LCM's embedding of the guidance scale, cross-attention at two levels."""
    unet = condition_unet(
        sample_size=32,
        block_out_channels=(64, 128, 256),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=256,
        time_cond_proj_dim=256,
    )
    inputs = dict(sample=randn(4, 32, 32), timestep=number(999), timestep_cond=randn(256), encoder_hidden_states=randn(77, 256))
    return Diffusers(unet, *inputs), inputs, "torchscript", LATENT.format(size=32, width=256, guidance=GUIDANCE)


@model
def flow_head():
    """The flow head of a streaming text-to-speech model, called for each frame of 80 ms."""
    inputs = dict(x=randn(32), s=number(0.0), t=number(1.0), condition=randn(1024))
    manifest = """
[inputs.x]
role = "state"
shape = [32]

[inputs.s]
role = "time"

[inputs.t]
role = "target"

[inputs.condition]
role = "condition"
shape = [1024]
default = 0

[sampling]
family = "flow-map"
sampler = "meanflow"
prediction = "velocity"
time = "unit"
noise_at = 0

[output]
kind = "tensor"
"""
    return FlowHead(), inputs, "dynamo", manifest


@model
def sd15():
    """Stable Diffusion 1.5 at 512x512."""
    unet = condition_unet(sample_size=64, cross_attention_dim=768)
    inputs = dict(sample=randn(4, 64, 64), timestep=number(999), encoder_hidden_states=randn(77, 768))
    return Diffusers(unet, *inputs), inputs, "torchscript", LATENT.format(size=64, width=768, guidance="")


# --- exporting ------------------------------------------------------------


def export(module, inputs, exporter, path):
    """Write an ONNX file with a symbolic batch; weights of 2 GB or more lie beside it in one file."""
    args, names = tuple(inputs.values()), dict(input_names=list(inputs), output_names=["output"])
    work = path.parent / "work"
    work.mkdir()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        if exporter == "dynamo":
            batch = {0: torch.export.Dim("batch")}
            # What a module takes by *args is one argument to torch.export.
            variadic = isinstance(module, PolicyUnet)
            shapes = (batch, (batch,) * (len(args) - 1)) if variadic else (batch,) * len(args)
            program = torch.onnx.export(module, args, dynamo=True, verbose=False, dynamic_shapes=shapes, **names)
            program.save(work / path.name)
        else:
            axes = {name: {0: "batch"} for name in (*inputs, "output")}
            torch.onnx.export(module, args, str(work / path.name), dynamo=False, opset_version=17, dynamic_axes=axes, **names)
    proto = onnx.load(work / path.name)
    strip(proto)
    large = sum(len(tensor.raw_data) for tensor in proto.graph.initializer) >= 2**31 - 2**20
    onnx.save(proto, path, save_as_external_data=large, location=f"{path.name}.data")
    shutil.rmtree(work)


def strip(proto):
    """Drop traces, which say where a file was made and differ from run to run."""
    graph = proto.graph
    for message in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        for field in ("metadata_props", "doc_string"):
            message.ClearField(field)
    # Shapes of intermediate values in terms of the batch: tract does not let go of them when the batch is fixed.
    graph.ClearField("value_info")


def write_inputs(folder, inputs):
    (folder / "in").mkdir()
    for name, value in inputs.items():
        np.save(folder / "in" / f"{name}.npy", value.numpy())


def make(name, folder):
    torch.manual_seed(zlib.crc32(name.encode()))
    module, inputs, exporter, manifest = MODELS[name]()
    export(randomise(module), inputs, exporter, folder / f"{name}.onnx")
    header = f'[model]\nname = "{name}"\nnetwork = "{name}.onnx"\nlicense = "CC0-1.0"\n'
    (folder / "fewstep.toml").write_text(header + manifest)
    write_inputs(folder, inputs)
    return sum(p.numel() for p in module.parameters())


COMMITTED = {
    "digits": dict(x=(1, 28, 28), t=1.0, h=1.0, label=7),
    "terrain": dict(noisy=(1, 128, 128), sigma=80.0, difficulty=0.5),
}


def copy(name, folder):
    source = ROOT / "models" / name
    if name == "terrain":
        subprocess.run(["sh", source / "fetch.sh"], check=True, stdout=subprocess.DEVNULL)
    text = (source / "fewstep.toml").read_text()
    shutil.copy(source / tomllib.loads(text)["model"]["network"], folder)
    (folder / "fewstep.toml").write_text(text)
    torch.manual_seed(zlib.crc32(name.encode()))
    value = lambda v: randn(*v) if isinstance(v, tuple) else number(v)  # noqa: E731
    inputs = {k: value(v) for k, v in COMMITTED[name].items()}
    # From noise of the level that the network is told.
    if name == "terrain":
        inputs["noisy"] *= inputs["sigma"]
    write_inputs(folder, inputs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, default=ROOT / "target" / "zoo")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*MODELS, *COMMITTED, []])
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in args.names or [*COMMITTED, *(name for name in MODELS if name not in LARGE)]:
        folder = args.to / name
        if folder.exists():
            print(f"{name}: is there already")
            continue
        # Complete or not there at all.
        unfinished = args.to / f".{name}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        parameters = copy(name, unfinished) if name in COMMITTED else make(name, unfinished)
        unfinished.rename(folder)
        print(f"{name}: {parameters / 1e6:.1f} M parameters" if parameters else f"{name}: copied", flush=True)


if __name__ == "__main__":
    main()
