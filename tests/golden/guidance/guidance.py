"""Writes guidance.toml and control.toml: diffusers' guiders, and the editing of openai/consistency_models.

`python guidance.py`, with torch and diffusers. A case of guidance.toml has a manifest's `[guidance]` table, the two outputs
in each of its steps, and what the guider makes of them. control.toml has one run of `iterative_*` for each edit, on a
network that is a formula, and what diffusers' inpainting and interpolation formulas give.
"""

import math
import pathlib

import numpy as np
import torch
from diffusers import AdaptiveProjectedGuidance, AutoGuidance, ClassifierFreeGuidance, ClassifierFreeZeroStarGuidance
from diffusers.guiders.adaptive_projected_guidance import MomentumBuffer

HERE = pathlib.Path(__file__).parent
STEPS = 5


def wave(draw, count):
    """Values between -1 and 1 that need no generator."""
    return [((draw * count + j) * 37 % 101) / 50.5 - 1 for j in range(count)]


def guided(guider, momentum=None):
    """All steps of a guider, in double precision."""
    results = []
    for step in range(STEPS):
        c, u = (torch.tensor(wave(2 * step + k, 12), dtype=torch.float64).reshape(1, 3, 4) for k in (0, 1))
        guider.set_state(step=step, num_inference_steps=STEPS, timestep=None)
        if step == 0 and momentum is not None:
            guider.momentum_buffer = MomentumBuffer(momentum)
        results.append(guider.forward(c, u).pred.flatten().tolist())
    return results


def cases():
    yield "cfg", "scale = 7.5", guided(ClassifierFreeGuidance(7.5))
    yield "cfg-none", "scale = 1", guided(ClassifierFreeGuidance(1.0))
    yield "cfg-negative", "scale = -0.5", guided(ClassifierFreeGuidance(-0.5))
    original = ClassifierFreeGuidance(2.0, use_original_formulation=True)
    yield "cfg-original", 'scale = 2\nstart = "conditional"', guided(original)
    for rescale in (0.3, 1.0):
        text = f"scale = 5\nrescale = {rescale}"
        yield f"cfg-rescale-{rescale}", text, guided(ClassifierFreeGuidance(5.0, guidance_rescale=rescale))
    for start, stop in ((0.2, 0.8), (0.25, 0.99), (0.0, 0.1)):
        text = f"scale = 3\ninterval = [{start}, {stop}]"
        yield f"cfg-{start}-{stop}", text, guided(ClassifierFreeGuidance(3.0, start=start, stop=stop))
    auto = AutoGuidance(2.5, auto_guidance_layers=0, dropout=1.0)
    yield "autoguidance", "scale = 2.5", guided(auto)
    for zero in (0, 1, 2):
        text = f'scale = 4\nmethod = "zero-star"\nzero_steps = {zero}'
        yield f"zero-star-{zero}", text, guided(ClassifierFreeZeroStarGuidance(4.0, zero_init_steps=zero))
    star = ClassifierFreeZeroStarGuidance(1.5, 0, 0.5, use_original_formulation=True, start=0.2)
    text = 'scale = 1.5\nmethod = "zero-star"\nzero_steps = 0\nrescale = 0.5\nstart = "conditional"\ninterval = [0.2, 1]'
    yield "zero-star-all", text, guided(star)
    star = ClassifierFreeZeroStarGuidance(1.0, 2)
    yield "zero-star-only", 'scale = 1\nmethod = "zero-star"\nzero_steps = 2', guided(star)

    def apg(scale, momentum, norm, eta, **more):
        return guided(AdaptiveProjectedGuidance(scale, momentum, norm, eta=eta, **more), momentum)

    yield "apg", 'scale = 6\nmethod = "apg"\nnorm = 15', apg(6.0, None, 15.0, 1.0)
    text = 'scale = 6\nmethod = "apg"\nmomentum = -0.5\nnorm = 1.5\neta = 0'
    yield "apg-momentum", text, apg(6.0, -0.5, 1.5, 0.0)
    text = 'scale = 3\nmethod = "apg"\neta = 0.25\nstart = "conditional"\nrescale = 0.7'
    yield "apg-original", text, apg(3.0, None, 0.0, 0.25, use_original_formulation=True, guidance_rescale=0.7)
    text = 'scale = 3\nmethod = "apg"\nmomentum = 0.75\ninterval = [0.2, 0.8]'
    yield "apg-late", text, apg(3.0, 0.75, 0.0, 1.0, start=0.2, stop=0.8)


# The editing of openai/consistency_models cm/karras_diffusion.py, whose bases are complete here.

SHAPE = (3, 8, 16)
TIMES = [80.0, 24.4, 5.84, 0.9, 0.002]
EPS, DATA = 0.002, 0.5


def image(draw):
    return np.array(wave(draw, math.prod(SHAPE))).reshape(SHAPE)


def network(x, sigma):
    """What a consistency model gives, with a formula in the place of its network."""
    skip = DATA**2 / ((sigma - EPS) ** 2 + DATA**2)
    out = (sigma - EPS) * DATA / math.sqrt(sigma**2 + DATA**2)
    f = np.sin(3 * x / math.sqrt(sigma**2 + DATA**2)) + 250 * math.log(sigma) / 1000
    return np.clip(skip * x + out * f, -1, 1)


def basis(first):
    matrix = np.eye(len(first))
    matrix[:, 0] = np.asarray(first) / np.linalg.norm(first)
    matrix = np.linalg.qr(matrix)[0]
    return -matrix if matrix[:, 0].sum() < 0 else matrix


def colorize(reference, x):
    q = basis([0.2989, 0.5870, 0.1140])
    old, new = (np.einsum("chw,cd->dhw", image, q) for image in (reference, x))
    return np.einsum("dhw,cd->chw", np.concatenate([old[:1], new[1:]]), q)


def superres(reference, x):
    q = basis([1] * 64)

    def patches(image):
        c, h, w = image.shape
        return image.reshape(c, h // 8, 8, w // 8, 8).transpose(0, 1, 3, 2, 4).reshape(c, h // 8, w // 8, 64)

    old, new = patches(reference) @ q, patches(x) @ q
    mixed = np.concatenate([old[..., :1], new[..., 1:]], axis=-1) @ q.T
    c, h, w = x.shape
    return mixed.reshape(c, h // 8, w // 8, 8, 8).transpose(0, 1, 3, 2, 4).reshape(c, h, w)


def inpaint(reference, x):
    mask = (image(7) > 0.2).astype(float)
    return reference * (1 - mask) + x * mask


def edited(replace):
    reference = image(3)
    x = TIMES[0] * image(0)
    for step, (sigma, following) in enumerate(zip(TIMES, TIMES[1:])):
        clean = replace(reference, network(x, sigma))
        x = clean + image(10 + step) * math.sqrt(following**2 - EPS**2)
    return x.flatten().tolist()


def slerp(z0, z1, a):
    theta = np.arccos((z0 * z1).sum() / np.linalg.norm(z0) / np.linalg.norm(z1))
    return (np.sin((1 - a) * theta) * z0 + np.sin(a * theta) * z1) / np.sin(theta)


def numbers(values):
    return "[" + ", ".join(repr(float(value)) for value in values) + "]"


def main():
    text = []
    for label, table, results in cases():
        rows = ",\n".join(numbers(row) for row in results)
        text.append(f'[[case]]\nlabel = "{label}"\nguidance = """\n{table}\n"""\nresults = [\n{rows},\n]\n')
    (HERE / "guidance.toml").write_text("\n".join(text))
    text = [f"{edit.__name__} = {numbers(edited(edit))}\n" for edit in (inpaint, colorize, superres)]
    text.append(f"slerp = {numbers(slerp(image(0), image(1), 0.3).flatten())}\n")
    (HERE / "control.toml").write_text("\n".join(text))


main()
