#!/usr/bin/env python3
"""Trains the seven toy samplers and exports them, with two untrained networks to compare.

    pip install torch numpy onnx onnxruntime
    python recipe.py --out .            all of them, in two processes of one thread each
    python recipe.py --out . ctm imm    some of them
    python measure.py --out .           measures them

Each is trained by its method's own objective. Those that distil have an exact teacher: the data are a mixture of
Gaussians, so the clean sample, the noise and the velocity to be expected at a noisy point are sums in closed form.

Sources
  CM              Song et al., Consistency Models, arXiv 2303.01469
  CTM             Kim et al., Consistency Trajectory Models, arXiv 2310.02279
  sCM             Lu and Song, Simplifying Continuous-Time Consistency Models, arXiv 2410.11081
  MeanFlow        Geng et al., Mean Flows for One-step Generative Modeling, arXiv 2505.13447
  Shortcut        Frans et al., One Step Diffusion via Shortcut Models, arXiv 2410.12557
  IMM             Zhou et al., Inductive Moment Matching, arXiv 2503.07565
  Rectified flow  Liu et al., Flow Straight and Fast, arXiv 2209.03003
  EDM             Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, arXiv 2206.00364
"""

import argparse
import copy
import math
import multiprocessing
from pathlib import Path

import torch
from torch import nn
from torch.func import jvp

SIGMA_MIN, SIGMA_MAX, SIGMA_DATA, RHO = 0.002, 80.0, 0.5, 7.0
QUARTER_TURN = 1.5708  # as the sampler rounds it
WIDTH, FREQUENCIES = 80, 8
BATCH, RATE, DECAY = 1024, 3e-3, 0.999


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(METHODS))
    parser.add_argument("--out", type=Path, default=Path("."))
    args = parser.parse_args()
    torch.set_num_threads(1)
    export_untrained(args.out)
    # Fresh processes, for a forked copy of torch may hang.
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(make, [(name, args.out) for name in args.names or METHODS], chunksize=1)


# ---------------------------------------------------------------- data: three blades

BLADES, BEADS = 3, 12


def blades():
    """Means [36, 2] and deviations [36] of equally likely Gaussians."""
    blade, bead = torch.meshgrid(torch.arange(BLADES), torch.arange(BEADS), indexing="ij")
    radius = 0.41 + 0.56 * bead.flatten() / (BEADS - 1)
    angle = 2 * math.pi * blade.flatten() / BLADES + 2.5 * radius
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), 0.03 + 0.03 * radius


MEANS, DEVIATIONS = blades()


def data(count):
    pick = torch.randint(len(MEANS), (count,))
    return MEANS[pick] + DEVIATIONS[pick, None] * torch.randn(count, 2)


def posterior(x, alpha, sigma):
    """Expected clean sample and noise of `x = alpha * clean + sigma * noise`; x [n, 2], scales [n, 1]."""
    variance = (alpha * DEVIATIONS) ** 2 + sigma**2
    distance = x.square().sum(1, keepdim=True) - 2 * alpha * (x @ MEANS.T) + (alpha * MEANS.norm(dim=1)) ** 2
    share = torch.softmax(-distance / (2 * variance) - variance.log(), 1)

    def residual(weight):
        return weight.sum(1, keepdim=True) * x - alpha * (weight @ MEANS)

    clean = share @ MEANS + residual(share * alpha * DEVIATIONS**2 / variance)
    return clean, residual(share * sigma / variance)


def velocity(x, t):
    """Of the rectified flow `(1 - t) * clean + t * noise`."""
    clean, noise = posterior(x, 1 - t, t)
    return noise - clean


def slope(x, sigma):
    """dx/dsigma of the probability flow between noise levels: the noise."""
    return posterior(x, torch.ones_like(sigma), sigma)[1]


def heun(x, t, s, derivative):
    first = derivative(x, t)
    return x + (s - t) * (first + derivative(x + (s - t) * first, s)) / 2


def karras(position):
    """Noise level at 0 (noise) to 1 (data) of the usual grid."""
    high, low = SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO)
    return (high + position * (low - high)) ** RHO


def solve(x, start, stop, steps):
    """The probability flow between two positions on the Karras grid."""
    positions = [start + (stop - start) * i / steps for i in range(steps + 1)]
    for a, b in zip(positions, positions[1:]):
        x = heun(x, karras(a), karras(b), slope)
    return x


# ---------------------------------------------------------------- network


class Network(nn.Module):
    """A perceptron of a point [n, 2], its time [n], and for flow maps a second time [n]."""

    def __init__(self, times):
        super().__init__()
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(20), FREQUENCIES)))
        widths = [2 + 2 * FREQUENCIES * times] + [WIDTH] * 4
        layers = [part for pair in zip(widths, widths[1:]) for part in (nn.Linear(*pair), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTH, 2))

    def forward(self, x, *times):
        angles = torch.cat([time[:, None] * self.frequencies for time in times], 1)
        return self.layers(torch.cat([x, angles.sin(), angles.cos()], 1))


# What the outputs mean. Times are [n, 1].


def edm(network, x, sigma, *to):
    """The clean sample, with the consistency models' preconditioning. The network reads `ln(sigma) / 4`."""
    square = sigma**2 + SIGMA_DATA**2
    skip = SIGMA_DATA**2 / ((sigma - SIGMA_MIN) ** 2 + SIGMA_DATA**2)
    out = (sigma - SIGMA_MIN) * SIGMA_DATA / square.sqrt()
    times = [time[:, 0].log() / 4 for time in (sigma, *to)]
    return skip * x + out * network(x / square.sqrt(), *times)


def ctm_jump(network, x, t, s):
    return s / t * x + (1 - s / t) * edm(network, x, t, s)


def trigflow(network, x, t):
    """The clean sample between angles."""
    return t.cos() * x - t.sin() * SIGMA_DATA * network(x / SIGMA_DATA, t[:, 0])


def imm_jump(network, x, t, s):
    """IMM's `euler_fm`."""
    scaled = x / (SIGMA_DATA * torch.hypot(1 - t, t))
    return x - (t - s) * SIGMA_DATA * network(scaled, t[:, 0], s[:, 0])


# ---------------------------------------------------------------- objectives: the loss of one batch
# `average` is the moving average of the network, `progress` runs from 0 to 1.


def noisy():
    """Positions on the Karras grid and noisy points of those levels."""
    position = torch.rand(BATCH, 1)
    return position, data(BATCH) + karras(position) * torch.randn(BATCH, 2)


def cm_loss(network, average, progress, stride=0.3):
    """Consistency distillation. Long strides, since each hand-over blurs the borders between the blades."""
    start, x = noisy()
    stop = (start + stride).clamp(max=1)
    with torch.no_grad():
        target = edm(network, solve(x, start, stop, 8), karras(stop))
    return distance(edm(network, x, karras(start)), target)


def ctm_loss(network, average, progress):
    """Soft consistency, compared where the average takes it at the data; and denoising."""
    start, x = noisy()
    stop = start + (1 - start) * torch.rand_like(start).sqrt()
    between = torch.minimum(start + 0.1 * torch.rand_like(start), stop)
    t, s, end = karras(start), karras(stop), torch.full_like(start, SIGMA_MIN)
    with torch.no_grad():
        y = ctm_jump(network, solve(x, start, between, 2), karras(between), s)
        target = ctm_jump(average, y, s, end)
        clean, _ = posterior(x, torch.ones_like(t), t)
    soft = distance(ctm_jump(average, ctm_jump(network, x, t, s), s, end), target)
    return soft + distance(edm(network, x, t, t), clean)


def scm_loss(network, average, progress, teacher=0.2, warm_up=0.2):
    """A diffusion network first, and then its continuous-time distillation with normalised tangents."""
    t = QUARTER_TURN * torch.rand(BATCH, 1)
    x = t.cos() * data(BATCH) + t.sin() * SIGMA_DATA * torch.randn(BATCH, 2)
    clean, noise = posterior(x, t.cos(), t.sin() * SIGMA_DATA)
    v = t.cos() * noise - t.sin() * clean / SIGMA_DATA
    if progress < teacher:
        return (network(x / SIGMA_DATA, t[:, 0]) - v).square().mean()
    with torch.no_grad():
        raw, change = jvp(network, (x / SIGMA_DATA, t[:, 0]), (v, torch.ones(BATCH)))
        warmth = min(1.0, (progress - teacher) / warm_up)
        tangent = -SIGMA_DATA * t.cos() * (t.cos() * (raw - v) + warmth * t.sin() * (x / SIGMA_DATA + change))
        target = raw + tangent / (tangent.norm(dim=1, keepdim=True) + 0.1)
    return (network(x / SIGMA_DATA, t[:, 0]) - target).square().mean()


def meanflow_loss(network, average, progress):
    t, r = torch.rand(2, BATCH, 1).sort(dim=0, descending=True).values
    r = torch.where(torch.rand(BATCH, 1) < 0.25, t, r)
    x = (1 - t) * data(BATCH) + t * torch.randn(BATCH, 2)
    v, one = velocity(x, t), torch.ones(BATCH)
    inputs = x, t[:, 0], (t - r)[:, 0]
    with torch.no_grad():
        _, change = jvp(network, inputs, (v, one, one))
        target = v - (t - r) * change
    return distance(network(*inputs), target)


def shortcut_loss(network, average, progress, finest=6):
    """Flow matching at the finest level, and each coarser jump as two of the next finer. Time runs to the data."""
    half = BATCH // 2
    level = torch.randint(finest, (half,)).float()
    length = 0.5 ** level[:, None]
    start = torch.floor(torch.rand(half, 1) / length) * length
    t = torch.cat([torch.rand(half, 1), start])
    x = t * data(BATCH) + (1 - t) * torch.randn(BATCH, 2)
    with torch.no_grad():
        first = average(x[half:], start[:, 0], level + 1)
        second = average(x[half:] + length / 2 * first, (start + length / 2)[:, 0], level + 1)
        target = torch.cat([-velocity(x[:half], 1 - t[:half]), (first + second) / 2])
    levels = torch.cat([torch.full((half,), float(finest)), level])
    return distance(network(x, t[:, 0], levels), target)


def imm_loss(network, average, progress, particles=32, gap=0.25):
    """Discrepancy of jumps to `s` from `t` and from `r` below it, between groups that share the times. From data."""
    groups = BATCH // particles
    t = torch.rand(groups, 1, 1)
    s = t * torch.rand_like(t)
    r = torch.maximum(t - gap, s)
    clean, noise = data(BATCH), torch.randn(BATCH, 2)

    def jumps_from(time):
        time, to = (value.expand(groups, particles, 1).reshape(-1, 1) for value in (time, s))
        return imm_jump(network, (1 - time) * clean + time * noise, time, to).view(groups, particles, 2)

    def kernel(a, b):
        apart = ((a[:, :, None] - b[:, None]).square().sum(3) + 1e-12).sqrt()
        return torch.exp(-apart / (2 * SIGMA_DATA * (t - s).clamp(min=2e-3)))

    with torch.no_grad():
        target = jumps_from(r)
    jumps = jumps_from(t)
    return (kernel(jumps, jumps) - 2 * kernel(jumps, target)).mean()


class ReflowLoss:
    """Flow matching on straight lines from noise to where the exact rectified flow takes it."""

    pairs = None

    def __call__(self, network, average, progress):
        if self.pairs is None:
            self.pairs = trace(1 << 17, 64)
        pick = torch.randint(len(self.pairs[0]), (BATCH,))
        noise, clean = (side[pick] for side in self.pairs)
        t = torch.rand(BATCH, 1)
        t[: BATCH // 4] = 1  # where one step starts
        return distance(network((1 - t) * clean + t * noise, t[:, 0]), noise - clean)


def trace(count, steps):
    noise = torch.randn(count, 2)
    times = torch.linspace(1, 0, steps + 1)[:, None, None] ** 2
    x = noise
    for t, s in zip(times, times[1:]):
        x = heun(x, t, s, velocity)
    return noise, x


def distance(a, b, knee=0.03):
    """Mean of the pseudo-Huber distances."""
    return (((a - b).square().sum(1) + knee**2).sqrt() - knee).mean()


# ---------------------------------------------------------------- training and export

# name: names of the network's times, objective, training steps
METHODS = {
    "cm": (["t"], cm_loss, 6000),
    "ctm": (["t", "s"], ctm_loss, 10000),
    "scm": (["t"], scm_loss, 12000),
    "meanflow": (["t", "h"], meanflow_loss, 10000),
    "shortcut": (["t", "h"], shortcut_loss, 10000),
    "imm": (["t", "s"], imm_loss, 10000),
    "rectified-flow": (["t"], ReflowLoss(), 10000),
}
UNTRAINED = {"untrained-t": ["t"], "untrained-ts": ["t", "s"]}


def make(name, out):
    times, loss_of, steps = METHODS[name]
    torch.set_num_threads(1)
    torch.manual_seed(list(METHODS).index(name))
    export(train(name, Network(len(times)), loss_of, steps), times, out / name / f"{name}.onnx")


def train(name, network, loss_of, steps):
    """Adam with cosine decay; returns the moving average."""
    average = copy.deepcopy(network).requires_grad_(False)
    adam = torch.optim.Adam(network.parameters(), RATE, betas=(0.9, 0.99))
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        loss = loss_of(network, average, step / steps)
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        with torch.no_grad():
            share = 1 - min(DECAY, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
        if (step + 1) % 1000 == 0:
            print(f"{name} {step + 1}/{steps} loss {loss.item():.4f}", flush=True)
    return average


def export_untrained(out):
    torch.manual_seed(99)
    for name, times in UNTRAINED.items():
        export(Network(len(times)), times, out / f"{name}.onnx")


def export(network, times, file):
    file.parent.mkdir(parents=True, exist_ok=True)
    names = ["x", *times]
    inputs = (torch.randn(2, 2), *(torch.rand(2) for _ in times))
    torch.onnx.export(
        network,
        inputs,
        str(file),
        input_names=names,
        output_names=["y"],
        dynamic_axes={name: {0: "batch"} for name in [*names, "y"]},
        opset_version=17,
        dynamo=False,
    )


if __name__ == "__main__":
    main()
