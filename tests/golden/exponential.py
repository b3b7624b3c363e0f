"""Exponential integrators: DPM-Solver in all its forms, UniPC, DEIS, SA-Solver, RES."""

import math
import sys

import torch
from common import START, STEPS, Group, sample, scheduler

group = Group(__file__)

SDE = dict(algorithm_type="sde-dpmsolver++")
NOISE = dict(algorithm_type="dpmsolver")
HEUN = dict(solver_type="heun")
# Of each sampler: diffusers' class for it and its settings, the orders that it has, and where its runs can end.
SOLVERS = {
    "dpmpp-2m": ("DPMSolverMultistep", {}, [1, 2, 3], ["data", "sigma-min"]),
    "dpmpp-2m-heun": ("DPMSolverMultistep", HEUN, [2, 3], ["data", "sigma-min"]),
    "dpmpp-2m-sde": ("DPMSolverMultistep", SDE, [1, 2, 3], ["data", "sigma-min"]),
    "dpmpp-2m-sde-heun": ("DPMSolverMultistep", SDE | HEUN, [2, 3], ["data"]),
    "dpm-solver": ("DPMSolverMultistep", NOISE, [1, 2, 3], ["sigma-min"]),
    "dpm-solver-heun": ("DPMSolverMultistep", NOISE | HEUN, [2, 3], ["sigma-min"]),
    "dpm-solver-sde": ("DPMSolverMultistep", dict(algorithm_type="sde-dpmsolver"), [1, 2], ["sigma-min"]),
    "dpmpp-2s": ("DPMSolverSinglestep", {}, [1, 2, 3], ["data", "sigma-min"]),
    "dpm-solver-2s": ("DPMSolverSinglestep", NOISE, [1, 2, 3], ["sigma-min"]),
    "unipc": ("UniPCMultistep", {}, [1, 2, 3], ["data", "sigma-min"]),
    "unipc-bh1": ("UniPCMultistep", dict(solver_type="bh1"), [1, 2, 3], ["sigma-min"]),
    "unipc-noise": ("UniPCMultistep", dict(predict_x0=False), [1, 2, 3], ["sigma-min"]),
    "deis": ("DEISMultistep", {}, [1, 2, 3], ["sigma-min"]),
    "sa-solver": ("SASolver", {}, [1, 2, 3], ["sigma-min"]),
}
BETAS = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
TIMESTEPS = dict(family="diffusion", time="timestep", betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
EDM = dict(family="diffusion", prediction="edm", sigma_data=0.5, time="log-sigma", time_scale=0.25, sigma_min=0.002,
           sigma_max=80.0)
FLOW = dict(family="rectified-flow", prediction="velocity", time="unit", time_scale=1000)


def solver_of(sampler, order, stop, noise, **config):
    """The scheduler for a sampler of some order."""
    name, settings, _, stops = SOLVERS[sampler]
    orders = dict(predictor_order=order, corrector_order=order) if name == "SASolver" else dict(solver_order=order)
    # DEIS and SA-Solver have no choice.
    final = "zero" if stop == "data" else "sigma_min"
    end = {} if name in ("DEISMultistep", "SASolver") else dict(final_sigmas_type=final)
    return scheduler(f"{name}Scheduler", noise, **settings, **orders, **end, **config)


def counts(sampler, order):
    """In single precision diffusers itself is off by up to 4e-4 when one block of three spans most of the noise."""
    return [steps for steps in STEPS if (sampler, order) != ("dpm-solver-2s", 3) or steps not in (3, 4, 5)]


def on_timesteps(sampler, order, stop, label, prediction, predicted, counts):
    single = SOLVERS[sampler][0] == "DPMSolverSinglestep"
    spacing = {} if single else dict(timestep_spacing="trailing")
    for steps in counts:
        def run(net, noise):
            solver = solver_of(sampler, order, stop, noise, **BETAS, **spacing, prediction_type=predicted)
            solver.set_timesteps(steps)
            return sample(solver, net)

        grid = dict(steps=steps)
        if single:
            # It has one spacing of its own.
            probe = solver_of(sampler, order, stop, None, **BETAS)
            probe.set_timesteps(steps)
            grid = dict(times=[float(t) for t in probe.timesteps] + [0.0])
        add(sampler, order, stop, f"{label}-{steps}", run, **TIMESTEPS, prediction=prediction, **grid)


def add(sampler, order, stop, label, run, **sampling):
    ends = dict(stop=stop) if stop != "data" else {}
    group.add(f"{sampler}-{order}-{label}-{stop}", f"diffusers {SOLVERS[sampler][0]}Scheduler", run, sampler=sampler,
              order=order, **ends, **sampling)


def clean(net, x, sigma):
    """EDM's preconditioning."""
    scale = math.hypot(sigma, 0.5)
    return 0.25 / scale**2 * x + 0.5 * sigma / scale * net(x / scale, math.log(sigma) / 4)


def karras(i, steps):
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    return (high + i / steps * (low - high)) ** 7


def on_noise_levels(sampler, order, stop, schedule):
    """The scheduler on a state that is scaled to unit variance, for it knows no other."""
    for steps in counts(sampler, order):
        padded = [karras(i, max(steps - 1, 1)) for i in range(steps)] + [0.0 if stop == "data" else 0.002]
        levels = padded if schedule == "edm" else [karras(i, steps) for i in range(steps + 1)]

        def run(net, noise):
            solver = solver_of(sampler, order, stop, noise, prediction_type="sample")
            solver.set_timesteps(steps)
            solver.sigmas = torch.tensor(levels)
            solver.set_begin_index(0)
            x = START * levels[0] / math.hypot(1, levels[0])
            for t, sigma in zip(solver.timesteps, levels):
                x = solver.step(clean(net, x * math.hypot(1, sigma), sigma), t, x).prev_sample
            return x * math.hypot(1, levels[-1])

        add(sampler, order, stop, f"{schedule}-{steps}", run, **EDM, schedule=schedule, steps=steps)


def on_edm(sampler, order):
    """The scheduler that diffusers has for noise levels."""
    for steps in STEPS:
        def run(net, noise):
            solver = scheduler("EDMDPMSolverMultistepScheduler", noise, **SOLVERS[sampler][1], solver_order=order)
            solver.set_timesteps(steps)
            return sample(solver, net, 80 * START)

        group.add(f"{sampler}-{order}-edm-{steps}", "diffusers EDMDPMSolverMultistepScheduler", run, sampler=sampler,
                  order=order, **EDM, steps=steps)


def on_flow(sampler, order):
    """DPM-Solver++ is finite at pure noise. Others start 1e-6 later, as UniPC does by itself."""
    name = SOLVERS[sampler][0]
    for steps in STEPS:
        if name == "DEISMultistep" and (steps == 1 or steps >= 15):
            # Short of digits from pure noise to none; and long runs keep their order, which is infinite for the data.
            continue
        start = 1.0 if name == "DPMSolverMultistep" else 1 - 1e-6
        # Some have no limit for no noise at all.
        end = 0.0 if "data" in SOLVERS[sampler][3] else 1e-13
        levels = [start] + [1 - i / steps for i in range(1, steps)] + [end]

        def run(net, noise):
            flow = dict(prediction_type="flow_prediction", use_flow_sigmas=True)
            solver = solver_of(sampler, order, "data", noise, **flow)
            solver.set_timesteps(steps)
            solver.sigmas = torch.tensor(levels)
            # Its own are rounded to whole numbers.
            solver.timesteps = solver.sigmas[:-1] * 1000
            return sample(solver, net)

        add(sampler, order, "data", f"flow-{steps}", run, **FLOW, steps=steps)


for sampler, (name, settings, orders, stops) in SOLVERS.items():
    for order in orders:
        for stop in stops:
            on_timesteps(sampler, order, stop, "epsilon", "epsilon", "epsilon", counts(sampler, order))
        if order == 1:
            # DDIM, or the same with noise, whatever the solver.
            continue
        on_timesteps(sampler, order, stops[0], "v", "v", "v_prediction", counts(sampler, order))
        if sampler.startswith("dpmpp-2m") and (order < 3 or "sde" not in sampler):
            on_edm(sampler, order)
        elif name != "SASolver" and not sampler.startswith("dpmpp-2m"):
            on_noise_levels(sampler, order, stops[0], "edm" if stops[0] == "data" else "karras")
        if settings.get("algorithm_type") not in ("dpmsolver", "sde-dpmsolver") and "predict_x0" not in settings:
            on_flow(sampler, order)

# A grid that visits the level at which the run stops: the last step has no length.
for sampler in ["dpmpp-2m", "unipc", "dpm-solver", "deis"]:
    on_noise_levels(sampler, 2, "sigma-min", "edm")

# Where short runs, whose order falls to the end, become long ones.
for sampler in ["dpmpp-2m", "deis"]:
    on_timesteps(sampler, 3, "sigma-min", "length", "v", "v_prediction", [14, 15])

# Stable Audio's scheduler. Its noise levels, divided by the deviation of the state, are angles.
for sampler, order in [("dpmpp-2m-sde", 1), ("dpmpp-2m-sde", 2), ("dpmpp-2m-sde-heun", 2)]:
    for steps in STEPS:
        def cosine(net, noise):
            solver = scheduler("CosineDPMSolverMultistepScheduler", noise, solver_order=order,
                               solver_type="heun" if "heun" in sampler else "midpoint")
            sys.modules[type(solver).__module__].BrownianTreeNoiseSampler = lambda *_, **__: noise
            solver.set_timesteps(steps)
            return sample(solver, net, START * math.hypot(1, solver.sigmas[0]))

        between = [math.exp(math.log(500) + i / max(steps - 1, 1) * math.log(0.3 / 500)) for i in range(steps)]
        angles = [math.atan(sigma) for sigma in (between if steps > 1 else [0.3])]
        group.add(f"{sampler}-{order}-cosine-{steps}", "diffusers CosineDPMSolverMultistepScheduler", cosine,
                  sampler=sampler, order=order, family="diffusion", prediction="v", time="angle",
                  time_scale=2 / math.pi, sigma_data=1.0, times=angles + [0.0])

# RES from the rule in its reference, in the noise level of the state divided by `alpha`, or of a flow's state as it is.
def res(net, noise, eta, levels, clean):
    phi_1 = lambda h: math.expm1(h) / h
    phi_2 = lambda h: (phi_1(h) - 1) / h
    x, before = levels[0] * START, None
    for i, (t, s) in enumerate(zip(levels, levels[1:])):
        data = clean(net, x, t)
        up = min(s, eta * math.sqrt(s**2 * (t**2 - s**2) / t**2))
        down = math.sqrt(s**2 - up**2)
        if s == 0 or before is None:
            x = x + (x - data) / t * (down - t)
        else:
            old, old_down = before
            h = math.log(t / down)
            c2 = math.log(old_down / levels[i - 1]) / h
            b2 = phi_2(-h) / c2
            x = math.exp(-h) * x + h * ((phi_1(-h) - b2) * data + b2 * old)
        if s > 0 and eta > 0:
            x = x + up * noise()
        before = data, down
    return x


for eta in [0.0, 0.7]:
    reference = dict(reference="ComfyUI comfy/k_diffusion/sampling.py res_multistep", sampler="res-2m", eta=eta)
    for steps in STEPS:
        levels = [karras(i, max(steps - 1, 1)) for i in range(steps)] + [0.0]
        flow = [1 - i / steps for i in range(steps + 1)]
        group.add(f"res-2m-edm-{eta}-{steps}", run=lambda net, noise: res(net, noise, eta, levels, clean), **reference,
                  **EDM, steps=steps)
        group.add(f"res-2m-flow-{eta}-{steps}", **reference, **FLOW, steps=steps,
                  run=lambda net, noise: res(net, noise, eta, flow, lambda net, x, t: x - t * net(x, 1000 * t)))

group.write()
