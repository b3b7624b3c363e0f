"""Samplers of distilled networks: consistency models, flow maps, piecewise flows."""

import math

import numpy as np
import torch
from common import START, STEPS, Group, alpha_bars, sample, scheduler

group = Group(__file__)

BETAS = dict(betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
SD = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
SIGMA_DATA, SIGMA_MIN, SIGMA_MAX = 0.5, 0.002, 80.0
LEVELS = dict(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)


def karras(position):
    """EDM, arXiv 2206.00364, equation 5, with rho 7."""
    high, low = SIGMA_MAX ** (1 / 7), SIGMA_MIN ** (1 / 7)
    return (high + position * (low - high)) ** 7


def even(steps, start=1.0):
    return [start * (1 - i / steps) for i in range(steps + 1)]


def renoise(x, times, clean, level, noise):
    """Jumps to the data and back to less noise: `clean(x, t)`, and `level(t)` the scales of data and noise."""
    for t, s in zip(times, times[1:-1]):
        alpha, sigma = level(s)
        x = alpha * clean(x, t) + sigma * noise()
    return clean(x, times[-2])


def edm(net, x, sigma, boundary, *target):
    """The clean sample of a network with EDM's preconditioning; `boundary` is the noise level that counts as data."""
    scale, above = math.hypot(sigma, SIGMA_DATA), sigma - boundary
    skip, out = SIGMA_DATA**2 / (above**2 + SIGMA_DATA**2), above * SIGMA_DATA / scale
    return skip * x + out * net(x / scale, math.log(sigma) / 4, *target)


# Consistency models, arXiv 2303.01469: equal strides of the training's grid, and the published lists of its points.
CM = dict(family="consistency", sampler="consistency", prediction="edm-consistency", sigma_data=SIGMA_DATA,
          time="log-sigma", time_scale=250, clamp=1, **LEVELS)
LISTS = [("imagenet-cd", 40, [22, 0]), ("bedroom-cd", 40, [17, 0]), ("imagenet-ct", 201, [106, 0]),
         ("bedroom-ct", 151, [67, 0])]
for label, points, indices in [(str(n), 40, n) for n in STEPS] + LISTS:
    def consistency(net, noise):
        cm = scheduler("CMStochasticIterativeScheduler", noise, num_train_timesteps=points)
        if isinstance(indices, int):
            cm.set_timesteps(indices)
        else:
            cm.set_timesteps(timesteps=indices)
        return sample(cm, net)

    visited = [i * (40 // indices) for i in range(indices)] if isinstance(indices, int) else indices[::-1]
    times = [karras(i / (points - 1)) for i in visited] + [SIGMA_MIN]
    group.add(f"consistency-{label}", "diffusers CMStochasticIterativeScheduler", consistency, **CM, times=times)

for prediction, name in PREDICTIONS.items():
    for steps in STEPS:
        def lcm(net, noise):
            lcm = scheduler("LCMScheduler", noise, prediction_type=name, **SD)
            lcm.set_timesteps(steps)
            return sample(lcm, net)

        group.add(f"lcm-{prediction}-{steps}", "diffusers LCMScheduler", lcm, family="consistency", sampler="lcm",
                  prediction=prediction, time="timestep", **BETAS, steps=steps)

for eta in [0.0, 0.3, 1.0]:
    for steps in STEPS:
        def tcd(net, noise):
            tcd = scheduler("TCDScheduler", noise, **SD)
            tcd.set_timesteps(steps)
            return sample(tcd, net, eta=eta)

        group.add(f"tcd-{eta}-{steps}", "diffusers TCDScheduler", tcd, family="consistency", sampler="tcd", eta=eta,
                  prediction="epsilon", time="timestep", **BETAS, steps=steps)

# sCM, arXiv 2410.11081, and SANA-Sprint, whose pipeline turns the output of a rectified flow into TrigFlow's.
for steps in STEPS:
    def angles(net, noise, output):
        scm = scheduler("SCMScheduler", noise, sigma_data=SIGMA_DATA)
        scm.set_timesteps(steps, intermediate_timesteps=1.3 if steps == 2 else None)
        scm.timesteps = torch.tensor([1.5708, 1.3, 0.0] if steps == 2 else np.linspace(1.5708, 0, steps + 1))
        x = SIGMA_DATA * START
        for t in scm.timesteps[:-1]:
            x = scm.step(output(net, x, t), t, x).prev_sample
        return x

    def trigflow(net, x, t):
        return SIGMA_DATA * net(x / SIGMA_DATA, t)

    def sana(net, x, t):
        # diffusers pipelines/sana/pipeline_sana_sprint.py
        share = torch.sin(t) / (torch.sin(t) + torch.cos(t))
        norm = torch.sqrt(share**2 + (1 - share) ** 2)
        fed = x / SIGMA_DATA * norm
        return ((1 - 2 * share) * fed + (1 - 2 * share + 2 * share**2) * net(fed, share)) / norm * SIGMA_DATA

    for label, output, reads in [
        ("trigflow", trigflow, dict(prediction="v", time="angle")),
        ("sana", sana, dict(prediction="velocity", time="angle-share")),
    ]:
        group.add(f"scm-{label}-{steps}", "diffusers SCMScheduler", lambda net, noise: angles(net, noise, output),
                  family="consistency", sampler="scm", sigma_data=SIGMA_DATA, **reads, steps=steps)

# DMD2, arXiv 2405.14867: tianweiy/DMD2; a single step is told timestep 399.
BARS = alpha_bars(**BETAS)
LISTS = {1: [399], 2: [999, 499], 3: [999, 666, 333], 4: [999, 749, 499, 249], 8: list(range(999, 0, -125))}
for steps, timesteps in LISTS.items():
    def level(t):
        return math.sqrt(BARS[t]), math.sqrt(1 - BARS[t])

    def clean(net, x, t):
        alpha, sigma = level(t)
        return (x - sigma * net(x, t)) / alpha

    def dmd2(net, noise):
        return renoise(START, timesteps + [0], lambda x, t: clean(net, x, t), level, noise)

    group.add(f"dmd2-{steps}", "tianweiy/DMD2", dmd2, family="consistency", sampler="dmd2", prediction="epsilon",
              time="timestep", **BETAS, times=timesteps + [0])

# Stochastic phased consistency models, arXiv 2405.18407: diffusers' class has the update of the authors' scheduler,
# which visits points of a grid of 50. Both draw after the last step as well.
for steps in STEPS:
    levels = [1 - i * 50 // steps / 50 for i in range(steps)]

    def pcm(net, noise):
        pcm = scheduler("FlowMatchLCMScheduler", noise)
        pcm.set_timesteps(sigmas=levels)
        return sample(pcm, net)

    group.add(f"pcm-{steps}", "diffusers FlowMatchLCMScheduler", pcm, family="rectified-flow",
              sampler="pcm-stochastic", prediction="velocity", time="unit", time_scale=1000, times=levels + [0.0])

# ECT, arXiv 2406.14548: EDM's preconditioning down to no noise, no root; the second and third lists are FastGen's.
for label, times in [("1", [80, 0]), ("cifar", [80, 0.821, 0]), ("imagenet", [80, 1.526, 0]), ("tcm", [80, 1, 0]),
                     ("4", [80, 20, 3, 0.4, 0])]:
    def ect(net, noise):
        return renoise(80 * START, times, lambda x, t: edm(net, x, t, 0), lambda t: (1, t), noise)

    group.add(f"ect-{label}", "locuslab/ect ct_eval.py", ect, family="consistency", sampler="ect", prediction="edm",
              sigma_data=SIGMA_DATA, time="log-sigma", time_scale=0.25, **LEVELS, times=times)

# CTM, arXiv 2310.02279: gamma sampling.
for gamma in [0.0, 0.5, 1.0]:
    for steps in STEPS:
        def ctm(net, noise):
            x, times = SIGMA_MAX * START, [karras(i / steps) for i in range(steps + 1)]
            for i, (t, end) in enumerate(zip(times, times[1:])):
                s = math.sqrt(1 - gamma**2) * (end - SIGMA_MIN) + SIGMA_MIN
                x = s / t * x + (1 - s / t) * edm(net, x, t, SIGMA_MIN, math.log(s) / 4)
                if gamma > 0 and i + 1 < steps:
                    x = x + math.sqrt(end**2 - s**2) * noise()
            return x

        group.add(f"ctm-{gamma}-{steps}", "sony/ctm sample_util.py", ctm, second="target", family="flow-map",
                  sampler="ctm", eta=gamma, prediction="edm-consistency", sigma_data=SIGMA_DATA, time="log-sigma",
                  time_scale=0.25, **LEVELS, steps=steps)

# IMM, arXiv 2503.07565: both of its forms, each with another of its second times. Noise has the deviation of the data.
for prediction, second in [("scaled-velocity", "target"), ("simple-edm", "duration")]:
    for steps in STEPS:
        times = even(steps, 0.994)

        def imm(net, noise):
            x, d = SIGMA_DATA * START, SIGMA_DATA
            for t, s in zip(times, times[1:]):
                norm = math.hypot(1 - t, t)
                f = net(x / (d * norm), 1000 * t, 1000 * (s if second == "target" else t - s))
                if prediction == "scaled-velocity":
                    x = x - (t - s) * d * f
                else:
                    skip = ((1 - t) * (1 - s) + t * s) / norm**2
                    x = skip * x - ((1 - s) * t - (1 - t) * s) / norm * d * f
            return x

        group.add(f"imm-{prediction}-{steps}", "lumalabs/imm preconds.py", imm, second=second, family="flow-map",
                  sampler="imm", prediction=prediction, sigma_data=SIGMA_DATA, time="unit", time_scale=1000,
                  times=times)

# Shortcut models, arXiv 2410.12557, run from 0 (noise) to 1 and are told log2 of the number of steps.
for steps in [1, 2, 4, 8, 16]:
    def shortcut(net, noise):
        x = START
        for i in range(steps):
            x = x + net(x, i / steps, math.log2(steps)) / steps
        return x

    group.add(f"shortcut-{steps}", "kvfrans/shortcut-models helper_inference.py", shortcut, second="duration",
              family="flow-map", sampler="shortcut", prediction="velocity", time="unit", noise_at=0, steps=steps)

# Mean velocities, arXiv 2505.13447, and the form that jumps to the data and noises again (NVlabs/FastGen).
for steps in STEPS:
    for second in ["target", "duration"]:
        def meanflow(net, noise):
            flow = scheduler("FlowMapEulerDiscreteScheduler", noise)
            flow.set_timesteps(steps)
            x, times = START, [*flow.timesteps, torch.tensor(0.0)]
            for t, r in zip(times, times[1:]):
                x = flow.step(net(x, t, r if second == "target" else t - r), t, x, r_timestep=r).prev_sample
            return x

        group.add(f"meanflow-{second}-{steps}", "diffusers FlowMapEulerDiscreteScheduler", meanflow, second=second,
                  family="flow-map", sampler="meanflow", prediction="velocity", time="unit", time_scale=1000,
                  steps=steps)

    def meanflow_sde(net, noise):
        return renoise(START, even(steps), lambda x, t: x - t * net(x, t, 0.0), lambda t: (1 - t, t), noise)

    group.add(f"meanflow-sde-{steps}", "NVlabs/FastGen MeanFlow", meanflow_sde, second="target", family="flow-map",
              sampler="meanflow-sde", prediction="velocity", time="unit", steps=steps)

for steps in STEPS:
    def instaflow(net, noise):
        x = START
        for i in range(steps):
            x = x + net(x, (1 - i / steps) * 1000) / steps
        return x

    group.add(f"instaflow-{steps}", "gnobitab/InstaFlow pipeline_rf.py", instaflow, family="rectified-flow",
              sampler="instaflow", prediction="data-velocity", time="unit", time_scale=1000, steps=steps)

# PeRFlow, arXiv 2405.07510: magic-research/piecewise-rectified-flow scheduler_perflow.py, ddim_eps.
for steps in [4, 5, 6, 8, 20]:
    def perflow(net, noise):
        ends = [0.75, 0.5, 0.25, 0.0]
        shares = [steps // 4 + (window < steps % 4) for window in range(4)]
        times = [int(1000 * t) for end, n in zip(ends, shares) for t in np.linspace(end + 0.25, end, n, endpoint=False)]
        x = START
        for now, then in zip(times, times[1:] + [0]):
            t = now / 1000
            end = next(end for end in ends if t - 1e-4 > end)
            start = end + 0.25
            from_bar, to_bar = BARS[int(1000 * start) - 1], BARS[max(int(1000 * end) - 1, 0)]
            grow = math.sqrt(to_bar / from_bar)
            spread = math.sqrt(1 - to_bar) - math.sqrt(to_bar / from_bar * (1 - from_bar))
            norm = grow * (t - start) + (end - t)
            arrival = (grow * (end - start) * x + spread * (end - t) * net(x, now)) / norm
            x = x + (then - now) / 1000 * (arrival - x) / (end - t)
        return x

    group.add(f"perflow-{steps}", "piecewise-rectified-flow scheduler_perflow.py", perflow, family="rectified-flow",
              sampler="perflow", prediction="windowed-noise", time="unit", time_scale=1000, **BETAS, steps=steps)

group.write()
