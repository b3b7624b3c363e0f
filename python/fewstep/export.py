"""From a PyTorch module to a folder that fewstep samples: an ONNX file, and the manifest that says how.

    from fewstep import export

    export.export(
        network,  # forward(x, t, label) -> the velocity
        "digits",
        inputs={"x": export.state(1, 28, 28), "t": export.time(), "label": export.condition(default=0, range=(0, 9), integer=True)},
        sampling=export.rectified_flow(steps=4),
    )

The keys of the manifest are those of docs/manifest.md; a recipe is a dictionary of [sampling], to be changed at will. Needs
torch, and what `torch.onnx.export` needs; the parity check runs the program `fewstep`.
"""

import dataclasses
import json
import math
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

__all__ = [
    "Input",
    "condition",
    "consistency",
    "consistency_policy",
    "consistency_trajectory",
    "diffusion_policy",
    "duration",
    "export",
    "latent_consistency",
    "mean_flow",
    "rectified_flow",
    "state",
    "target",
    "time",
]


@dataclasses.dataclass(frozen=True)
class Input:
    """One argument of the module's forward: what it is for, its shape without the batch, and further keys of the manifest."""

    role: str
    shape: tuple[int, ...] = ()
    keys: dict = dataclasses.field(default_factory=dict)

    @property
    def integer(self):
        return self.keys.get("integer", False)


def state(*shape):
    """The noisy sample."""
    return Input("state", shape)


def time():
    """The time of the state, one number for each sample."""
    return Input("time")


def target():
    """The time that a flow map jumps to."""
    return Input("target")


def duration():
    """The difference of the two, or log2 of the number of steps for shortcut models."""
    return Input("duration")


def condition(*shape, default=None, range=None, integer=False):
    """Something the user chooses: one number, or as many as `shape` says. Without a default, samples need a value."""
    keys = {"default": default, "range": range and list(range), "integer": integer or None}
    return Input("condition", shape, {key: value for key, value in keys.items() if value is not None})


def consistency(*, sigma_data=0.5, sigma_min=0.002, sigma_max=80.0, time_scale=250, steps=1):
    """A consistency model with EDM's preconditioning outside of the network (Song et al. 2023, arXiv 2303.01469)."""
    return {"family": "consistency", **_edm(sigma_data, sigma_min, sigma_max, time_scale), "steps": steps}


def latent_consistency(*, beta_start=0.00085, beta_end=0.012, steps=4):
    """A latent consistency model on Stable Diffusion's timesteps (Luo et al. 2023, arXiv 2310.04378)."""
    return {
        "family": "consistency",
        "sampler": "lcm",
        "prediction": "epsilon",
        "time": "timestep",
        "betas": "scaled-linear",
        "beta_start": beta_start,
        "beta_end": beta_end,
        "steps": steps,
    }


def mean_flow(*, steps=1):
    """MeanFlow: the mean velocity from t to t - h, data at 0 (Geng et al. 2025, arXiv 2505.13447). Needs a target or a duration."""
    return {"family": "flow-map", "sampler": "meanflow", "prediction": "velocity", "time": "unit", "steps": steps}


def consistency_trajectory(*, sigma_data=0.5, sigma_min=0.002, sigma_max=80.0, time_scale=250, steps=1):
    """A consistency trajectory model (Kim et al. 2023, arXiv 2310.02279). Needs a target."""
    return {"family": "flow-map", "sampler": "ctm", **_edm(sigma_data, sigma_min, sigma_max, time_scale), "steps": steps}


def consistency_policy(*, steps=1):
    """Consistency Policy's student (Prasad et al. 2024, arXiv 2405.07503), whose runs begin with unit noise. Needs a target."""
    recipe = consistency_trajectory(sigma_min=0.02, steps=steps)
    return {**recipe, "initial_scale": 1.0}


def diffusion_policy(*, steps=4):
    """Diffusion Policy: noise on cosine timesteps, by DDIM (Chi et al. 2023, arXiv 2303.04137)."""
    return {
        "family": "diffusion",
        "sampler": "ddim",
        "prediction": "epsilon",
        "time": "timestep",
        "betas": "cosine",
        "steps": steps,
    }


def _edm(sigma_data, sigma_min, sigma_max, time_scale):
    """EDM's preconditioning outside of the network, which reads the logarithm of the noise level."""
    return {
        "prediction": "edm-consistency",
        "sigma_data": sigma_data,
        "time": "log-sigma",
        "time_scale": time_scale,
        "sigma_min": sigma_min,
        "sigma_max": sigma_max,
    }


def rectified_flow(*, steps=4, noise_at=1):
    """The velocity between data and noise, which is at time 1, or at 0 (Liu et al. 2022, arXiv 2209.03003)."""
    return {"family": "rectified-flow", "prediction": "velocity", "time": "unit", "noise_at": noise_at, "steps": steps}


def export(
    module,
    folder,
    *,
    inputs,
    sampling,
    name=None,
    output=None,
    summary=None,
    license=None,
    dynamic_batch=True,
    program="fewstep",
    tolerance=1e-4,
):
    """Write NAME.onnx and fewstep.toml into a folder, and compare the program's evaluation with the module's.

    inputs: an Input for each argument of the module's forward, in its order; their names become those of the network.
    sampling: [sampling] of the manifest, such as a recipe of this file gives.
    output: [output] of the manifest [default: {"kind": "tensor"}].
    dynamic_batch: leave the batch open, so that guidance may evaluate two samples at once.
    program: the program `fewstep`, or None not to compare.
    tolerance: the largest relative L2 distance of an output.

    The module is evaluated on the CPU, where its parameters have to be.
    Raises ValueError if the manifest is refused or an evaluation differs, with the numbers. Returns the folder.
    """
    folder = Path(folder)
    name = name or folder.name
    if program is not None and shutil.which(program) is None:
        raise ValueError(f"there is no program {program} to compare with; name it, or give program=None")
    folder.mkdir(parents=True, exist_ok=True)
    network = folder / f"{name}.onnx"
    manifest = _manifest(name, network.name, summary, license, inputs, sampling, output or {"kind": "tensor"})
    (folder / "fewstep.toml").write_text(manifest)
    _onnx(module, network, inputs, dynamic_batch)
    if program is not None:
        _compare(module, folder, inputs, program, tolerance)
    return folder


def _examples(inputs, batch, seed):
    """Random values of each input: unit normal, for times between 0 and 1, and what a range allows."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    examples = []
    for own in inputs.values():
        size = (batch, *own.shape)
        low, high = own.keys.get("range") or ((0, 1) if own.role in ("time", "target", "duration") or own.integer else (None, None))
        if own.integer:
            examples.append(torch.randint(int(low), int(high) + 1, size, generator=generator))
        elif low is None:
            examples.append(torch.randn(size, generator=generator))
        else:
            examples.append(low + (high - low) * torch.rand(size, generator=generator))
    return tuple(examples)


def _onnx(module, path, inputs, dynamic_batch):
    import torch

    class Positional(torch.nn.Module):
        """The module with arguments that have no names, whatever its forward calls them."""

        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, *values):
            return self.module(*values)

    # A batch of one would be taken for a constant.
    examples = _examples(inputs, 2 if dynamic_batch else 1, 0)
    shapes = (tuple({0: torch.export.Dim.DYNAMIC} for _ in examples),) if dynamic_batch else None
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            torch.onnx.export(
                Positional(),
                examples,
                path,
                input_names=list(inputs),
                dynamic_shapes=shapes,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        module.train(training)


def _compare(module, folder, inputs, program, tolerance):
    import torch

    examples = _examples(inputs, 1, 1)
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            wanted = module(*examples)
    finally:
        module.train(training)
    wanted = [wanted] if isinstance(wanted, torch.Tensor) else list(wanted)
    with tempfile.TemporaryDirectory() as work:
        arguments = []
        for name, example in zip(inputs, examples):
            file = Path(work) / f"{len(arguments)}.npy"
            np.save(file, example.numpy())
            arguments += ["--input", f"{name}={file}"]
        _run(program, "run", folder, *arguments, "--no-cache", "-o", Path(work) / "out")
        report = json.loads(_run(program, "inspect", folder, "--json"))
        names = [output["name"] for output in report["outputs"]]
        for output, value in zip(names, wanted, strict=True):
            found = np.load(Path(work) / "out" / f"{output}.npy")
            value = value.numpy()
            if found.shape != value.shape:
                raise ValueError(f"output {output} is {list(found.shape)}, the module's is {list(value.shape)}")
            distance = float(np.linalg.norm((found - value).ravel()) / max(np.linalg.norm(value.ravel()), 1e-30))
            if not distance <= tolerance:
                raise ValueError(f"output {output} differs by {distance:.1e} (relative L2), more than {tolerance:.0e}: report the model")


def _run(program, *arguments):
    result = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        raise ValueError(result.stderr.strip() or f"{program} {arguments[0]} fails")
    return result.stdout


def _manifest(name, network, summary, license, inputs, sampling, output):
    model = {"name": name, "network": network, "summary": summary, "license": license}
    tables = [("model", model)]
    for input_name, own in inputs.items():
        shape = {"shape": list(own.shape)} if own.shape else {}
        tables.append((f"inputs.{json.dumps(input_name)}", {"role": own.role, **shape, **own.keys}))
    tables += [("sampling", sampling), ("output", output)]
    lines = ["# How this network is sampled. Keys: docs/manifest.md of fewstep"]
    for title, table in tables:
        lines += [f"[{title}]"] + [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None] + [""]
    return "\n".join(lines)


def _toml(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, str)):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, np.ndarray):
        return _toml(value.tolist())
    raise ValueError(f"{value!r} is nothing that a manifest holds; give numbers, texts, truth values or lists of them")
