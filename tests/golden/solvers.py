"""Solvers of the probability flow and of the reverse SDE, on timesteps, noise levels and rectified flows."""

import itertools
import math

import torch
from common import START, STEPS, Group, sample, scheduler

group = Group(__file__)

# Keys of a manifest and diffusers' arguments. The cosine leaves so little of the data that only v tells them from the
# noise in single precision, and a single step from the noise of the linear betas has the same trouble.
SCALED = dict(betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
LINEAR = dict(betas="linear", beta_start=0.0001, beta_end=0.02)
NOISES = {
    "scaled": (dict(prediction="epsilon", **SCALED),
               dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)),
    "linear": (dict(prediction="epsilon", **LINEAR), dict(beta_schedule="linear")),
    "cosine": (dict(prediction="v", betas="cosine"),
               dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")),
}
SPACINGS = {
    "trailing": (dict(schedule="trailing"), dict(timestep_spacing="trailing")),
    "leading": (dict(schedule="leading", offset=1), dict(timestep_spacing="leading", steps_offset=1)),
    "linspace": (dict(schedule="linspace"), dict(timestep_spacing="linspace")),
}
ALL = list(SPACINGS)


def timesteps(label, sampler, reference, noises, spacings, eta={}, counts=STEPS, **config):
    """Cases of one scheduler for each kind of betas, spacing and number of steps."""
    for noisy, spacing in itertools.product(noises, spacings):
        (network, betas), (schedule, spaced) = NOISES[noisy], SPACINGS[spacing]
        for steps in counts:
            def run(net, noise):
                solver = scheduler(reference, noise, **betas, **spaced, **config)
                solver.set_timesteps(steps)
                return sample(solver, net, **eta)

            group.add(f"{label}-{noisy}-{spacing}-{steps}", f"diffusers {reference}", run, family="diffusion",
                      sampler=sampler, time="timestep", **network, **schedule, **eta, steps=steps)


for eta in [0.0, 0.7]:
    timesteps(f"ddim-{eta}", "ddim", "DDIMScheduler", ["scaled"], ["trailing", "leading"], dict(eta=eta),
              clip_sample=False)
timesteps("euler", "euler", "EulerDiscreteScheduler", ["scaled"], ALL)
timesteps("euler-ancestral", "euler-ancestral", "EulerAncestralDiscreteScheduler", ["scaled"], ALL)
timesteps("heun", "heun", "HeunDiscreteScheduler", ["scaled"], ALL)
for noises, counts in [("linear", STEPS[1:]), ("cosine", STEPS)]:
    trailing = dict(noises=[noises], spacings=["trailing"], counts=counts)
    timesteps("ddpm", "ddpm", "DDPMScheduler", **trailing, clip_sample=False)
    timesteps("dpmpp-2m", "dpmpp-2m", "DPMSolverMultistepScheduler", **trailing)
    timesteps("dpmpp-2m-sde", "dpmpp-2m-sde", "DPMSolverMultistepScheduler", **trailing,
              algorithm_type="sde-dpmsolver++")
    timesteps("unipc", "unipc", "UniPCMultistepScheduler", **trailing)

# Noise levels, with EDM's preconditioning.
EDM = dict(family="diffusion", prediction="edm", sigma_data=0.5, time="log-sigma", time_scale=0.25, sigma_min=0.002,
           sigma_max=80.0)
for steps in STEPS:
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    levels = [(high + i / max(steps - 1, 1) * (low - high)) ** 7 for i in range(steps)] + [0.0]

    def clean(net, x, sigma):
        scale = math.hypot(sigma, 0.5)
        return 0.25 / scale**2 * x + 0.5 * sigma / scale * net(x / scale, math.log(sigma) / 4)

    def heun(net, noise):
        x = 80 * START
        for t, s in zip(levels, levels[1:]):
            slope = (x - clean(net, x, t)) / t
            arrival = x + (s - t) * slope
            if s > 0:
                arrival = x + (s - t) * (slope + (arrival - clean(net, arrival, s)) / s) / 2
            x = arrival
        return x

    def edm(reference, net, noise):
        solver = scheduler(reference, noise)
        solver.set_timesteps(steps)
        return sample(solver, net, 80 * START)

    group.add(f"heun-edm-{steps}", "NVlabs/edm generate.py", heun, sampler="heun", **EDM, steps=steps)
    for sampler, reference in [("euler", "EDMEulerScheduler"), ("dpmpp-2m", "EDMDPMSolverMultistepScheduler")]:
        group.add(f"{sampler}-edm-{steps}", f"diffusers {reference}", lambda net, noise: edm(reference, net, noise),
                  sampler=sampler, **EDM, steps=steps)

# Rectified flows. diffusers' grid of Heun ends above 0 and its DPM-Solver's starts below 1.
FLOW = dict(family="rectified-flow", prediction="velocity", time="unit", time_scale=1000)
for steps in STEPS:
    even = torch.linspace(1, 0, steps + 1)

    def flow_euler(net, noise):
        solver = scheduler("FlowMatchEulerDiscreteScheduler", noise)
        solver.set_timesteps(sigmas=even[:-1].tolist())
        return sample(solver, net)

    def flow_heun(net, noise):
        solver = scheduler("FlowMatchHeunDiscreteScheduler", noise)
        solver.set_timesteps(steps)
        solver.sigmas = torch.cat([even[:1], even[1:-1].repeat_interleave(2), even[-1:]])
        solver.timesteps = solver.sigmas[:-1] * 1000
        solver.set_begin_index(0)
        return sample(solver, net)

    def flow_dpm(net, noise):
        flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True)
        solver = scheduler("DPMSolverMultistepScheduler", noise, **flow)
        solver.set_timesteps(steps)
        # Its own are rounded to whole numbers.
        solver.timesteps = solver.sigmas[:-1] * 1000
        return sample(solver, net)

    group.add(f"flow-euler-{steps}", "diffusers FlowMatchEulerDiscreteScheduler", flow_euler, sampler="euler", **FLOW,
              steps=steps)
    group.add(f"flow-heun-{steps}", "diffusers FlowMatchHeunDiscreteScheduler", flow_heun, sampler="heun", **FLOW,
              steps=steps)
    group.add(f"flow-dpmpp-2m-{steps}", "diffusers DPMSolverMultistepScheduler", flow_dpm, sampler="dpmpp-2m", **FLOW,
              times=[0.999 * (1 - i / steps) for i in range(steps + 1)])

group.write()
