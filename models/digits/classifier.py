#!/usr/bin/env python3
"""Measures digits.onnx with a digit reader that shares no data with it.

    python classifier.py --digits package/src/digits --out .

Trains a small CNN on real digits which the generator never saw, writes it as
classifier.onnx, and prints a table: the reader on further unseen real digits,
on 1,000 one-step samples and on 1,000 two-step samples of digits.onnx (100 of
each digit, fixed seeds, ONNX Runtime). An existing classifier.onnx is reused.

    python classifier.py --digits ... --samples x.npy --labels y.npy

measures samples that another program made: x [n,1,28,28] in [-1,1], y [n].

Columns of the table
  read right  share of images read as the digit asked for
  spread      mean distance of two images of the same digit; much less than
              that of real digits would be mode collapse
  nearest     mean distance to the nearest image the generator was trained on;
              much less than that of real unseen digits would be copying
  haze        share of pixels that are neither paper nor ink nor next to a
              stroke: greyer than -0.9 with nothing above 0 in their 5x5
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train import CLASSES, augment, load_split, step_rng

SAMPLES_PER_DIGIT = 100
SAMPLE_SEED = 7
SCHEDULES = {"one step": [1.0, 0.0], "two steps": [1.0, 0.5, 0.0]}


def main():
    args = parse_args()
    torch.set_num_threads(args.threads)
    split = load_split(args.digits)
    reader_file = args.out / "classifier.onnx"
    if not reader_file.exists():
        export(train_reader(split["reader"], args.steps), reader_file)
    reader = open_session(reader_file)

    known = split["generator"][0].numpy()
    print(f"{'images':<22}{'n':>6}{'read right':>12}{'spread':>9}{'nearest':>9}{'haze':>8}")
    report("real, unseen", reader, *(part.numpy() for part in split["test"]), known)
    if args.samples:
        report(args.samples.name, reader, np.load(args.samples), np.load(args.labels), known)
        return
    sampler = open_session(args.out / "digits.onnx")
    for name, schedule in SCHEDULES.items():
        images, labels = sample(sampler, schedule)
        report(name, reader, images, labels, known)
        if args.sheet:
            draw_sheet(images, args.sheet / f"{name.replace(' ', '-')}.png")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", type=Path, required=True, help="folder with 0.json .. 9.json")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of digits.onnx")
    parser.add_argument("--samples", type=Path, help="measure these instead of digits.onnx")
    parser.add_argument("--labels", type=Path, help="the digits that --samples should show")
    parser.add_argument("--sheet", type=Path, help="folder for contact sheets (needs Pillow)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    if bool(args.samples) != bool(args.labels):
        parser.error("--samples and --labels go together")
    return args


# ---------------------------------------------------------------- reader


class Reader(nn.Module):
    """Built of the operators that digits.onnx uses too, and no others."""

    def __init__(self):
        super().__init__()
        widths = [(1, 16, 1), (16, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
                    nn.GroupNorm(8, outputs),
                ]
            )
            for inputs, outputs, stride in widths
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(48 * 49, CLASSES)

    def forward(self, x):
        for convolution, norm in self.layers:
            x = F.silu(norm(convolution(x)))
        return self.head(self.dropout(x.flatten(1)))


def train_reader(digits, steps, batch=64):
    torch.manual_seed(11)
    images, labels = digits
    reader = Reader()
    adam = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=1e-2)
    decay = torch.optim.lr_scheduler.OneCycleLR(adam, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        rng = step_rng(11, step)
        index = torch.randint(len(images), (batch,), generator=rng)
        seen = augment(images[index], rng, share=0.8)
        loss = F.cross_entropy(reader(seen), labels[index], label_smoothing=0.05)
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        if (step + 1) % 500 == 0:
            print(f"reader {step + 1}/{steps} loss {loss.item():.4f}", flush=True)
    return reader.eval()


def export(reader, file):
    torch.onnx.export(
        reader,
        (torch.zeros(2, 1, 28, 28),),
        str(file),
        input_names=["x"],
        output_names=["logits"],
        dynamic_axes={"x": {0: "batch"}, "logits": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


# ---------------------------------------------------------------- samples


def open_session(file):
    import onnxruntime

    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def sample(session, schedule):
    """Walks z_r = z_t - (t - r) * u(z_t, t, t - r, label) down the schedule."""
    labels = np.repeat(np.arange(CLASSES, dtype=np.int64), SAMPLES_PER_DIGIT)
    rng = np.random.default_rng(SAMPLE_SEED)
    z = rng.standard_normal((len(labels), 1, 28, 28), dtype=np.float32)
    for t, r in zip(schedule, schedule[1:]):
        times = np.full(len(labels), t, np.float32)
        spans = np.full(len(labels), t - r, np.float32)
        (u,) = session.run(None, {"x": z, "t": times, "h": spans, "label": labels})
        z = z - np.float32(t - r) * u
    return z, labels


def draw_sheet(images, file, columns=20):
    """The first samples of every digit, a row of `columns` a digit."""
    from PIL import Image

    rows = images.reshape(CLASSES, -1, 28, 28)[:, :columns]
    sheet = rows.transpose(0, 2, 1, 3).reshape(CLASSES * 28, columns * 28)
    pixels = ((sheet.clip(-1, 1) + 1) * 127.5).round().astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize((columns * 56, CLASSES * 56), Image.NEAREST).save(file)


# ---------------------------------------------------------------- measures


def report(name, reader, images, labels, known):
    images = images.astype(np.float32).reshape(-1, 1, 28, 28).clip(-1, 1)
    right = reader.run(None, {"x": images})[0].argmax(1) == labels
    print(
        f"{name:<22}{len(images):>6}{right.mean():>11.1%} {spread(images, labels):>9.2f}"
        f"{nearest(images, known):>9.2f}{haze(images):>8.2%}"
    )
    shares = [f"{digit}: {right[labels == digit].mean():.0%}" for digit in range(CLASSES)]
    print(f"  {'by digit':<20}" + "  ".join(shares))


def spread(images, labels):
    means = []
    for digit in np.unique(labels):
        apart = distances(images[labels == digit], images[labels == digit])
        count = len(apart)
        means.append(apart.sum() / (count * (count - 1)))
    return np.mean(means)


def nearest(images, known):
    return distances(images, known).min(axis=1).mean()


def distances(a, b):
    a, b = (torch.from_numpy(part.reshape(len(part), -1)) for part in (a, b))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").numpy()


def haze(images):
    x = torch.from_numpy(images)
    far_from_ink = F.max_pool2d(x, 5, stride=1, padding=2) < 0
    return ((x > -0.9) & far_from_ink).float().mean().item()


if __name__ == "__main__":
    main()
