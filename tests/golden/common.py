"""What all golden trajectories share: an analytic network, injected noise, diffusers in double precision, the writer.

A group is a script beside this one; `python few_step.py` writes few_step.toml, which tests/conformance.rs reads. A
case says in the words of a manifest's `[sampling]` table how it is sampled, so it needs no Rust:

    from common import STEPS, Group, sample, scheduler

    group = Group(__file__)
    for steps in STEPS:
        def lcm(net, noise):
            solver = scheduler("LCMScheduler", noise, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
            solver.set_timesteps(steps)
            return sample(solver, net)

        group.add(f"lcm-{steps}", "diffusers LCMScheduler", lcm, family="consistency", sampler="lcm",
                  prediction="epsilon", time="timestep", betas="scaled-linear", beta_start=0.00085, beta_end=0.012,
                  steps=steps)
    group.write()

`add(label, reference, run, second=None, **sampling)` calls `run` at once with the case's network and noise; it returns
the final state. `net(x, t)` is what the manifest describes: it reads the scaled input and the time input, and answers
the `prediction`; states are `[1, 4, 2]`, in double precision. Flow maps say `second="target"` or `"duration"`, the role
of the third argument: `net(x, t, second)`. With `observation=True` the state is that of a speech enhancer, and its data the
mixture around OBSERVATION. `noise()` draws; a rule that draws and ignores what it drew has to call it
too, for the number of draws is compared as well. `scheduler` injects the noise in place of `randn_tensor`.

The references never see this file's process: a transcription of a paper converts the network's output by itself. The
f32 kernel has to come within 2e-5 of the result as well, so that epsilon next to pure noise is no good case.
A prediction or time that is new to the manifest is added to `Network` here and to tests/support/mod.rs.
"""

import math
import pathlib
import sys

import diffusers
import numpy as np
import torch

torch.set_default_dtype(torch.float64)

STEPS = [1, 2, 3, 4, 5, 8, 20]

# Four points in two dimensions, spread like unit normals.
START = torch.tensor([[[0.5, -1.0], [0.1, 2.0], [-0.7, 0.3], [-1.6, -0.4]]])

# What speech enhancement is given: the data of a case with an observation are relative to it.
OBSERVATION = torch.tensor([0.4, -0.7])

# The data: a mixture of four round normals.
WEIGHTS = [0.4, 0.3, 0.2, 0.1]
MEANS = [[0.8, 0.4], [-0.7, 0.5], [-0.2, -0.8], [0.5, -0.3]]
SPREADS = [0.3, 0.4, 0.25, 0.15]


def posterior_mean(x, alpha, sigma):
    """E[data | x = alpha * data + sigma * noise] of points `[..., 2]`."""
    weights, means, spreads = (torch.tensor(part, dtype=x.dtype) for part in (WEIGHTS, MEANS, SPREADS))
    variance = (alpha * spreads) ** 2 + sigma**2
    gap = x[..., None, :] - alpha * means
    logits = weights.log() - variance.log() - (gap * gap).sum(-1) / (2 * variance)
    mean = means + (alpha * spreads**2 / variance)[:, None] * gap
    return (logits.softmax(-1)[..., None] * mean).sum(-2)


def alpha_bars(betas, beta_start=None, beta_end=None, zero_terminal_snr=False, **_):
    """Share of the data's variance that is left at each of 1000 timesteps, from a `[sampling]` table's keys."""
    if betas == "cosine":
        share = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
        steps = np.minimum(1 - share[1:] / share[:-1], 0.999)
    elif betas == "linear":
        steps = np.linspace(beta_start, beta_end, 1000)
    else:
        steps = np.linspace(beta_start**0.5, beta_end**0.5, 1000) ** 2
    bars = np.cumprod(1 - steps)
    if zero_terminal_snr:
        roots = np.sqrt(bars)
        bars = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
        # The network itself is told of a trace of the data, whatever the sampler makes of it.
        bars[-1] = 2.0**-24
    return bars


class Network(torch.nn.Module):
    """The exact network of the mixture, in the words of a `[sampling]` table."""

    def __init__(self, second=None, observation=False, **sampling):
        super().__init__()
        self.second, self.sampling = second, sampling
        self.origin = OBSERVATION if observation else 0
        self.kind, self.prediction = sampling["time"], sampling["prediction"]
        self.angles, self.deviation = self.kind.startswith("angle"), sampling.get("sigma_data")
        # The velocity of a network that runs from noise to data points the other way.
        self.direction = -1 if sampling.get("noise_at") == 0 else 1
        if "betas" in sampling:
            bars = torch.tensor(alpha_bars(**sampling))
            self.register_buffer("log_ratios", (torch.log1p(-bars) - bars.log()) / 2, persistent=False)

    def forward(self, fed, t, second=None):
        """`F` from the scaled state, the time, and the second time of a flow map."""
        level = self.level(torch.as_tensor(t, dtype=fed.dtype) / self.sampling.get("time_scale", 1.0))
        x = fed / self.scale(*level) - self.origin
        f = self.output(x, posterior_mean(x, *level), *level)
        if self.second is None:
            return f
        fed = fed - self.origin
        return f + 0.3 * second / self.sampling.get("time_scale", 1.0) * fed

    def level(self, t):
        """Scales of data and noise in the state at a time."""
        if self.direction < 0:
            t = 1 - t
        if self.kind == "timestep":
            return self.timestep(t)
        if self.prediction == "windowed-noise":
            # A piecewise rectified flow counts timesteps from 1.
            return self.timestep(1000 * t - 1)
        if self.angles:
            angle = torch.atan2(t, 1 - t) if self.kind == "angle-share" else t
            return torch.cos(angle), self.deviation * torch.sin(angle)
        if self.kind == "unit":
            return 1 - t, t
        if self.kind == "mean-reverting":
            # Richter et al. 2022, arXiv 2208.05830; sp-uhh/sgmse sdes.py OUVESDE.
            low, high, theta = (self.sampling[key] for key in ("sigma_min", "sigma_max", "theta"))
            growth = math.log(high / low)
            variance = low**2 * ((high / low) ** (2 * t) - torch.exp(-2 * theta * t)) * growth / (theta + growth)
            return torch.exp(-theta * t), torch.sqrt(variance)
        return torch.ones_like(t), t if self.kind == "sigma" else torch.exp(t)

    def timestep(self, t):
        """The level of a timestep; between two, `ln(sigma / alpha)` is linear."""
        t = t.clamp(0, 999)
        below = t.floor().clamp(max=998)
        low, high = self.log_ratios[below.long()], self.log_ratios[below.long() + 1]
        ratio = torch.exp(low + (t - below) * (high - low))
        alpha = 1 / torch.sqrt(1 + ratio**2)
        return alpha, ratio * alpha

    def scale(self, alpha, sigma):
        """What the state is multiplied by before the network reads it."""
        d = self.deviation
        if self.prediction in ("edm", "edm-consistency"):
            return 1 / torch.sqrt(sigma**2 + d**2)
        if self.prediction in ("scaled-velocity", "simple-edm"):
            return 1 / (d * torch.sqrt(alpha**2 + sigma**2))
        if self.angles and self.prediction == "velocity":
            return 1 / (d * alpha + sigma)
        return 1 / d if self.angles and self.prediction == "v" else 1

    def output(self, x, clean, alpha, sigma):
        """The output that stands for a clean sample."""
        d, noise = self.deviation, (x - alpha * clean) / sigma
        if self.prediction in ("edm", "edm-consistency"):
            above = sigma - (self.sampling["sigma_min"] if self.prediction == "edm-consistency" else 0)
            skip = d**2 / (above**2 + d**2)
            return (clean - skip * x) * torch.sqrt(sigma**2 + d**2) / (above * d)
        if self.prediction == "simple-edm":
            norm = torch.sqrt(alpha**2 + sigma**2)
            return (alpha / norm * x - norm * clean) / (sigma * d)
        if self.prediction == "scaled-velocity":
            return self.direction * (noise - clean) / d
        if self.prediction == "velocity":
            # Between angles that of a rectified flow of the data divided by their deviation.
            return self.direction * (noise - (clean / d if self.angles else clean))
        if self.prediction == "v":
            return (alpha * x - clean) / sigma
        if self.prediction == "data-velocity":
            return clean - noise
        if self.prediction == "velocity-grid":
            # Channels last, as in diffusers: the velocities of a state one after the other.
            places = torch.linspace(0, 1, self.sampling["points"])
            return torch.cat([noise - clean + 0.2 * place * x for place in places], dim=-1)
        if self.prediction == "next-state":
            return x - (noise - clean) / self.sampling["steps"]
        if self.prediction == "score":
            return -noise / sigma
        return {"x0": clean, "epsilon": noise, "windowed-noise": noise}[self.prediction]


class Noise:
    """Fresh noise of one run, always the same. Counts its draws."""

    def __init__(self):
        self.draws = 0

    def __call__(self, *_, **__):
        first = 8 * self.draws
        self.draws += 1
        values = [(first + j) * 37 % 19 / 9.5 - 1 for j in range(8)]
        return torch.tensor(values).reshape(START.shape)


class Double:
    """A module in which single precision means double precision."""

    def __init__(self, module):
        self.__dict__.update(module=module, float32=module.float64)

    def __getattr__(self, name):
        return getattr(self.module, name)


def scheduler(name, noise, **config):
    """A scheduler of diffusers, in double precision and with injected noise."""
    scheduler_class = getattr(diffusers, name)
    module = sys.modules[scheduler_class.__module__]
    module.torch, module.np, module.randn_tensor = Double(torch), Double(np), noise
    return scheduler_class(**config)


def sample(scheduler, net, start=None, **step):
    """The loop of diffusers' pipelines."""
    x = START * getattr(scheduler, "init_noise_sigma", 1.0) if start is None else start
    for t in scheduler.timesteps:
        fed = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        x = scheduler.step(net(fed, t), t, x, **step).prev_sample
    return x


class Group:
    """The cases of one script."""

    def __init__(self, script):
        self.path, self.labels, self.text = pathlib.Path(script).with_suffix(".toml"), set(), []

    def add(self, label, reference, run, second=None, observation=False, **sampling):
        """Runs the reference: `run(net, noise)` returns the final state."""
        assert label not in self.labels, label
        self.labels.add(label)
        noise = Noise()
        result = run(Network(second, observation, **sampling), noise).flatten().tolist()
        assert len(result) == 8 and all(map(math.isfinite, result)), (label, result)
        keys = "".join(f"{key} = {toml(value)}\n" for key, value in sampling.items())
        second = f"second = {toml(second)}\n" if second else ""
        second += "observation = true\n" if observation else ""
        self.text.append(
            f"[[case]]\nlabel = {toml(label)}\nreference = {toml(reference)}\n{second}"
            f'sampling = """\n{keys}"""\ndraws = {noise.draws}\nresult = {toml(result)}\n'
        )

    def write(self):
        self.path.write_text("\n".join(self.text))


def toml(value):
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)
