"""The solvers of k-diffusion, and those of diffusers that are neither exponential integrators nor few-step rules."""

import importlib.util
import math
import sys
import types

import numpy as np
import torch
from common import START, STEPS, Group, alpha_bars, sample, scheduler

group = Group(__file__)


def k_diffusion():
    """k-diffusion's samplers, without what the package imports for training."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
    sys.modules["k_diffusion"] = package
    from k_diffusion import sampling

    return sampling


K = k_diffusion()


def ancestral_step(high, low, eta=1.0):
    """k-diffusion's get_ancestral_step, without the difference that loses half of the digits in a long step."""
    kept = low / high
    return low * (1 - eta**2 + (eta * kept) ** 2) ** 0.5, eta * low * (1 - kept**2) ** 0.5


K.get_ancestral_step = ancestral_step

SCALED = dict(betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
TIMESTEPS = {
    "epsilon": (dict(prediction="epsilon"), dict()),
    "v": (dict(prediction="v"), dict(prediction_type="v_prediction")),
}
SPACINGS = {
    "trailing": (dict(schedule="trailing"), dict(timestep_spacing="trailing")),
    "leading": (dict(schedule="leading", offset=1), dict(timestep_spacing="leading", steps_offset=1)),
    "linspace": (dict(schedule="linspace"), dict(timestep_spacing="linspace")),
}
ALL = list(SPACINGS)


def timesteps(label, sampler, reference, spacings=ALL, counts=STEPS, start=None, kinds=TIMESTEPS, keys=None, step=None,
              prepare=None, **config):
    """Cases of one scheduler of diffusers for each prediction, spacing and number of steps."""
    keys, step = keys or {}, step or {}
    for kind, spacing in [(kind, spacing) for kind in kinds for spacing in spacings]:
        (predicts, predicted), (schedule, spaced) = TIMESTEPS[kind], SPACINGS[spacing]
        for steps in counts:
            def run(net, noise):
                solver = scheduler(reference, noise, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                   **predicted, **spaced, **config)
                solver.set_timesteps(steps)
                if prepare:
                    prepare(solver, noise)
                return sample(solver, net, start, **step)

            group.add(f"{label}-{kind}-{spacing}-{steps}", f"diffusers {reference}", run, family="diffusion",
                      sampler=sampler, time="timestep", **predicts, **SCALED, **schedule, **keys, steps=steps)


timesteps("dpm-2", "dpm-2", "KDPM2DiscreteScheduler")
timesteps("dpm-2-ancestral", "dpm-2-ancestral", "KDPM2AncestralDiscreteScheduler")
timesteps("lms", "lms", "LMSDiscreteScheduler")
for order in [1, 2, 3]:
    timesteps(f"lms-{order}", "lms", "LMSDiscreteScheduler", ["trailing"], [5, 20], keys=dict(order=order),
              step=dict(order=order))
for stop, to_one in [("data", True), ("sigma-min", False)]:
    timesteps(f"plms-{stop}", "plms", "PNDMScheduler", ["leading", "trailing"], keys=dict(stop=stop),
              skip_prk_steps=True, set_alpha_to_one=to_one)
    timesteps(f"ddim-inverse-{stop}", "ddim-inverse", "DDIMInverseScheduler", ["leading", "trailing"], start=START,
              keys=dict(stop=stop), clip_sample=False, set_alpha_to_one=to_one)
timesteps("ddim-sigma-min", "ddim", "DDIMScheduler", ["leading", "trailing"], keys=dict(stop="sigma-min"),
          clip_sample=False, set_alpha_to_one=False)
for eta in [0.0, 0.7]:
    timesteps(f"ddim-clamped-{eta}", "ddim", "DDIMScheduler", ["leading", "trailing"],
              keys=dict(eta=eta, clamp=0.6), step=dict(eta=eta), clip_sample_range=0.6)
timesteps("ddim-inverse-clamped", "ddim-inverse", "DDIMInverseScheduler", ["leading"], start=START,
          keys=dict(clamp=0.6), clip_sample_range=0.6)
for variance, sampler in [("small", "ddpm"), ("large", "ddpm-large")]:
    timesteps(f"ddpm-{variance}-clamped", sampler, "DDPMScheduler", ["leading", "trailing"], keys=dict(clamp=0.6),
              clip_sample_range=0.6, variance_type=f"fixed_{variance}")
    timesteps(f"ddpm-{variance}", sampler, "DDPMScheduler", ["trailing"], clip_sample=False,
              variance_type=f"fixed_{variance}")


class Brownian:
    """Both draws of a step from one Brownian motion, as the references' tree has it, made of injected normals."""

    def __init__(self, noise):
        self.noise, self.first = noise, None

    def __call__(self, high, low):
        if self.first is None or self.first[0] != high:
            self.first = high, low, self.noise()
            return self.first[2]
        _, middle, normal = self.first
        share = (high - middle) / (high - low)
        return share**0.5 * normal + (1 - share) ** 0.5 * self.noise()


def brownian(solver, noise):
    solver.noise_sampler = Brownian(noise)


timesteps("dpmpp-sde", "dpmpp-sde", "DPMSolverSDEScheduler", prepare=brownian)

# k-diffusion, on noise levels with EDM's preconditioning and on timesteps as its own wrappers have them.
EDM = dict(family="diffusion", prediction="edm", sigma_data=0.5, time="log-sigma", time_scale=0.25, sigma_min=0.002,
           sigma_max=80.0)
STABLE = dict(family="diffusion", prediction="epsilon", time="timestep", schedule="trailing", **SCALED)
RATIOS = torch.tensor(np.sqrt(1 / alpha_bars(**SCALED) - 1))


def edm(net):
    def clean(x, sigma):
        scale = torch.sqrt(sigma**2 + 0.25)
        return 0.25 / scale**2 * x + 0.5 * sigma / scale * net(x / scale, sigma.log() / 4)

    return clean


def stable(net):
    """k_diffusion.external.DiscreteEpsDDPMDenoiser, whose timesteps are linear in the logarithm of the noise level."""
    logs = RATIOS.log()

    def clean(x, sigma):
        below = (logs <= sigma.log()).sum().clamp(1, 999) - 1
        part = ((sigma.log() - logs[below]) / (logs[below + 1] - logs[below])).clamp(0, 1)
        return x - sigma * net(x / torch.sqrt(sigma**2 + 1), below + part)

    return clean


def k_levels(process, steps):
    if process == "edm":
        return K.get_sigmas_karras(steps, 0.002, 80.0)
    return K.append_zero(RATIOS[[round(1000 - i * 1000 / steps) - 1 for i in range(steps)]])


def k(label, sampler, reference, keys=None, correlated=False, counts=STEPS, **arguments):
    """Cases of one of k-diffusion's functions on both processes."""
    for process, model, sampling in [("edm", edm, EDM), ("stable", stable, STABLE)]:
        for steps in counts:
            def run(net, noise):
                levels = k_levels(process, steps)
                more = dict(arguments)
                if "ancestral" in reference or "sde" in reference:
                    more["noise_sampler"] = Brownian(noise) if correlated else noise
                K.torch.randn_like, random = noise, torch.randn_like
                x = getattr(K, reference)(model(net), START * levels[0], levels, disable=True, **more)
                K.torch.randn_like = random
                return x

            group.add(f"k-{label}-{process}-{steps}", f"k-diffusion {reference}", run, sampler=sampler, **sampling,
                      **(keys or {}), steps=steps)


for sampler, reference in [("euler", "sample_euler"), ("heun", "sample_heun"), ("dpm-2", "sample_dpm_2")]:
    k(f"{sampler}-churn", sampler, reference, dict(churn=1.5, noise_scale=1.007), s_churn=1.5, s_noise=1.007)
    k(f"{sampler}-churn-range", sampler, reference, dict(churn=40.0, churn_range=[0.05, 14.0]), s_churn=40.0,
      s_tmin=0.05, s_tmax=14.0)
for eta in [0.6, 1.0]:
    keys = dict(eta=eta, noise_scale=0.9)
    k(f"dpm-2-ancestral-{eta}", "dpm-2-ancestral", "sample_dpm_2_ancestral", keys, eta=eta, s_noise=0.9)
    k(f"dpmpp-2s-ancestral-{eta}", "dpmpp-2s-ancestral", "sample_dpmpp_2s_ancestral", keys, eta=eta, s_noise=0.9)
    k(f"dpmpp-sde-{eta}", "dpmpp-sde", "sample_dpmpp_sde", keys, correlated=True, eta=eta, s_noise=0.9)
    # These fail in a single step.
    k(f"dpmpp-3m-sde-{eta}", "dpmpp-3m-sde", "sample_dpmpp_3m_sde", keys, eta=eta, s_noise=0.9, counts=STEPS[1:])
    k(f"dpmpp-2m-sde-heun-{eta}", "dpmpp-3m-sde", "sample_dpmpp_2m_sde", dict(order=2, **keys), eta=eta, s_noise=0.9,
      solver_type="heun", counts=STEPS[1:])
k("lms", "lms", "sample_lms")


# iPNDM: diffusers on angles, zju-pi/diff-sampler on noise levels.
def ipndm_angles(steps):
    share = torch.sin(torch.linspace(1, 0, steps + 1) * math.pi / 2) ** 2
    return torch.atan2(share, torch.sqrt(1 - share**2)).tolist()


WEIGHTS = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
for steps in STEPS:
    def angles(net, noise):
        solver = scheduler("IPNDMScheduler", noise)
        solver.set_timesteps(steps)
        return sample(solver, net)

    def levels(net, noise):
        clean, x, slopes, sigmas = edm(net), 80 * START, [], k_levels("edm", steps)
        for t, s in zip(sigmas, sigmas[1:]):
            slopes = [(x - clean(x, t)) / t] + slopes[:3]
            x = x + (s - t) * sum(weight * slope for weight, slope in zip(WEIGHTS[len(slopes) - 1], slopes))
        return x

    # In a single step from pure noise diffusers returns nothing but zeros.
    if steps > 1:
        group.add(f"ipndm-angles-{steps}", "diffusers IPNDMScheduler", angles, family="diffusion", sampler="ipndm",
                  prediction="v", time="angle", sigma_data=1.0, time_scale=2 / math.pi, times=ipndm_angles(steps))
    group.add(f"ipndm-edm-{steps}", "zju-pi/diff-sampler solvers.py ipndm_sampler", levels, sampler="ipndm", **EDM,
              steps=steps)

# Rectified flows.
FLOW = dict(family="rectified-flow", prediction="velocity", time="unit", time_scale=1000)
for steps in STEPS:
    even = torch.linspace(1, 0, steps + 1).tolist()

    def stochastic(net, noise):
        solver = scheduler("FlowMatchEulerDiscreteScheduler", noise, stochastic_sampling=True)
        solver.set_timesteps(sigmas=even[:-1])
        return sample(solver, net)

    group.add(f"flow-stochastic-{steps}", "diffusers FlowMatchEulerDiscreteScheduler", stochastic, sampler="renoise",
              **FLOW, steps=steps)
    for eta in [0.5, 1.0]:
        def ancestral(net, noise):
            solver = scheduler("LTXEulerAncestralRFScheduler", noise, eta=eta, s_noise=0.9)
            solver.set_timesteps(sigmas=even)
            # `sample` takes a step from each of its timesteps, the last of which is the data.
            solver.timesteps = solver.timesteps[:-1]
            return sample(solver, net)

        group.add(f"flow-euler-ancestral-{eta}-{steps}", "diffusers LTXEulerAncestralRFScheduler", ancestral,
                  sampler="euler-ancestral", **FLOW, eta=eta, noise_scale=0.9, steps=steps)

group.write()
