#!/usr/bin/env python3
"""Measures the toy networks in ONNX Runtime, with the samplers' rules written down again.

    python measure.py --out .

The energy distance (Szekely and Rizzo, Energy Statistics, doi 10.1016/j.jspi.2013.03.018) of 4,096 samples to fresh
data, for every network and for the untrained one of its shape. All start from the same noise.
"""

import argparse
import math
from pathlib import Path

import onnxruntime
import torch

from recipe import METHODS, QUARTER_TURN, SIGMA_DATA, SIGMA_MAX, SIGMA_MIN
from recipe import ctm_jump, data, edm, imm_jump, karras, trigflow

SAMPLES = 4096


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the networks")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    print(f"{'':<16}{'1 step':>9}{'2':>9}{'4':>9}   untrained")
    for name, sample in SAMPLERS.items():
        times = METHODS[name][0]
        files = [out / name / f"{name}.onnx", out / f"untrained-{'ts'[: len(times)]}.onnx"]
        row = "  ".join(cells(load(file), sample) for file in files)
        print(f"{name:<16}{row}", flush=True)
    noise = [energy_distance(data(SAMPLES), data(SAMPLES)) for _ in range(8)]
    print(f"data again, eight times: {min(noise):.4f} to {max(noise):.4f}")


def cells(network, sample):
    torch.manual_seed(7)
    found = [sample(network, torch.randn(SAMPLES, 2), steps) for steps in (1, 2, 4)]
    return "".join(f"{energy_distance(x, data(SAMPLES)):9.4f}" for x in found)


def load(file):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *inputs: torch.from_numpy(session.run(None, {n: v.numpy() for n, v in zip(names, inputs)})[0])


def energy_distance(a, b):
    """`2 E|A - B| - E|A - A'| - E|B - B'|`, unbiased, so that it may be a little below 0."""

    def total(a, b):
        return torch.cdist(a.double(), b.double()).sum().item()

    m, n = len(a), len(b)
    return 2 * total(a, b) / (m * n) - total(a, a) / (m * (m - 1)) - total(b, b) / (n * (n - 1))


# ---------------------------------------------------------------- sampling from unit noise [n, 2]


def levels(steps):
    return [karras(i / steps) for i in range(steps)] + [SIGMA_MIN]


def sample_cm(network, x, steps):
    times = levels(steps)
    x = SIGMA_MAX * x
    for t, s in zip(times, times[1:]):
        clean = edm(network, x, column(x, t))
        x = clean + math.sqrt(s * s - SIGMA_MIN**2) * torch.randn_like(x)
    return x


def sample_ctm(network, x, steps):
    times = levels(steps)
    x = SIGMA_MAX * x
    for t, s in zip(times, times[1:]):
        x = ctm_jump(network, x, column(x, t), column(x, s))
    return x


def sample_scm(network, x, steps):
    times = [QUARTER_TURN, 1.3, 0] if steps == 2 else [QUARTER_TURN * (1 - i / steps) for i in range(steps + 1)]
    x = SIGMA_DATA * x
    for t, s in zip(times, times[1:]):
        clean = trigflow(network, x, column(x, t))
        x = math.cos(s) * clean + math.sin(s) * SIGMA_DATA * torch.randn_like(x)
    return x


def sample_flow(jump):
    def sample(network, x, steps):
        for i in range(steps):
            x = jump(network, x, column(x, 1 - i / steps), column(x, 1 - (i + 1) / steps), steps)
        return x

    return sample


def meanflow_jump(network, x, t, s, steps):
    return x - (t - s) * network(x, t[:, 0], (t - s)[:, 0])


def shortcut_jump(network, x, t, s, steps):
    return x + network(x, 1 - t[:, 0], column(x, math.log2(steps))[:, 0]) / steps


def euler_jump(network, x, t, s, steps):
    return x - (t - s) * network(x, t[:, 0])


def column(x, value):
    return torch.full((len(x), 1), float(value))


SAMPLERS = {
    "cm": sample_cm,
    "ctm": sample_ctm,
    "scm": sample_scm,
    "meanflow": sample_flow(meanflow_jump),
    "shortcut": sample_flow(shortcut_jump),
    "imm": sample_flow(lambda network, x, t, s, _: imm_jump(network, x, t, s)),
    "rectified-flow": sample_flow(euler_jump),
}

if __name__ == "__main__":
    main()
