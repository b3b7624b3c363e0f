"""Every schedule on every kind of time, through simple solvers."""

import importlib.util
import math
import sys
import types

import numpy as np
import torch
from common import START, STEPS, Group, alpha_bars, sample, scheduler
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule
from diffusers.schedulers import AysSchedules

# k-diffusion's package imports what its samplers do not need.
package = types.ModuleType("k_diffusion")
package.__path__ = list(importlib.util.find_spec("k_diffusion").submodule_search_locations)
sys.modules["k_diffusion"] = package
from k_diffusion import sampling as k  # noqa: E402

group = Group(__file__)

BETAS = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
SD = dict(family="diffusion", prediction="v", time="timestep", betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
EDM = dict(family="diffusion", prediction="edm", sigma_data=0.5, time="log-sigma", time_scale=0.25)
FLOW = dict(family="rectified-flow", prediction="velocity", time="unit", time_scale=1000)
SIGMAS = (lambda bars: np.sqrt((1 - bars) / bars))(alpha_bars(**SD))


def run(name, given, config, step=None):
    """A run of a scheduler with arguments for `set_timesteps`."""

    def run(net, noise):
        solver = scheduler(name, noise, **config)
        solver.set_timesteps(**given)
        if hasattr(solver, "set_begin_index"):
            # Or else it leaves out a moment where the first timestep stands for two.
            solver.set_begin_index(0)
        return sample(solver, net, **step or {})

    return run


def steps_of(label, name, config, counts=STEPS, step=None, **sampling):
    for steps in counts:
        given = dict(num_inference_steps=steps)
        group.add(f"{label}-{steps}", f"diffusers {name}", run(name, given, config, step), steps=steps, **sampling)


# Spacings, and noise levels between their ends.
SPACINGS = {"linspace": {}, "leading": dict(steps_offset=1), "trailing": {}}
LEVELS = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
euler = dict(SD, sampler="euler")
for spacing, more in SPACINGS.items():
    config = dict(BETAS, timestep_spacing=spacing, prediction_type="v_prediction", **more)
    offset = dict(offset=1) if more else {}
    steps_of(f"euler-{spacing}", "EulerDiscreteScheduler", config, **euler, schedule=spacing, **offset)
    for levels, switch in LEVELS.items():
        keys = dict(euler, schedule=levels, within=spacing, **offset)
        # All noise levels are one where linspace starts at the last timestep.
        steps_of(f"euler-{spacing}-{levels}", "EulerDiscreteScheduler", config | {switch: True}, **keys)
sigma_min = dict(BETAS, prediction_type="v_prediction", final_sigmas_type="sigma_min")
steps_of("euler-sigma-min", "EulerDiscreteScheduler", sigma_min, **euler, schedule="linspace", stop="sigma-min",
         counts=STEPS[1:])
steps_of("euler-karras-sigma-min", "EulerDiscreteScheduler", sigma_min | dict(use_karras_sigmas=True), **euler,
         schedule="karras", within="linspace", stop="sigma-min", counts=STEPS[1:])
ddim = dict(BETAS, timestep_spacing="linspace", prediction_type="v_prediction", clip_sample=False)
steps_of("ddim-linspace", "DDIMScheduler", ddim, **SD, sampler="ddim", schedule="linspace", rounding="nearest")
steps_of("ddpm-linspace", "DDPMScheduler", ddim, **SD, sampler="ddpm", schedule="linspace", rounding="nearest",
         counts=STEPS[1:])

# The multistep solvers of diffusers have their own spacings, and round what the network is told.
multistep = dict(BETAS, prediction_type="v_prediction")
dpm = dict(SD, sampler="dpmpp-2m")
for spacing, more in SPACINGS.items():
    keys = dict(schedule=spacing if spacing == "trailing" else f"{spacing}-open", **dict(offset=1) if more else {})
    steps_of(f"dpm-{spacing}", "DPMSolverMultistepScheduler", dict(multistep, timestep_spacing=spacing, **more), **dpm, **keys)
for levels, switch in (LEVELS | {"lu": "use_lu_lambdas"}).items():
    rounding = "nearest" if levels in ("karras", "lu") else "down"
    steps_of(f"dpm-{levels}", "DPMSolverMultistepScheduler", multistep | {switch: True}, **dpm, schedule=levels,
             rounding=rounding)
cosine = dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", use_karras_sigmas=True)
steps_of("dpm-cosine-karras", "DPMSolverMultistepScheduler", cosine, family="diffusion", prediction="v", time="timestep",
         betas="cosine", sampler="dpmpp-2m", schedule="karras", rounding="down")

# Rescaled betas: some samplers start from pure noise, the others from a trace of the data.
rescaled = dict(BETAS, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
plain = dict(clip_sample=False)
zero = dict(SD, zero_terminal_snr=True)
for name, sampler, more in [
    ("DDIM", "ddim", plain), ("DDPM", "ddpm", plain), ("EulerDiscrete", "euler", {}),
    ("EulerAncestralDiscrete", "euler-ancestral", {}), ("DPMSolverMultistep", "dpmpp-2m", {}),
    ("UniPCMultistep", "unipc", {}),
]:
    steps_of(f"rescaled-{sampler}", f"{name}Scheduler", rescaled | more, **zero, sampler=sampler, schedule="trailing")
steps_of("rescaled-karras", "EulerDiscreteScheduler", rescaled | dict(use_karras_sigmas=True), **zero, sampler="euler",
         schedule="karras", within="trailing")
for sampler in ("lcm", "tcd"):
    steps_of(f"rescaled-{sampler}", f"{sampler.upper()}Scheduler", rescaled, **zero | dict(family="consistency"),
             sampler=sampler)


def at_levels(label, reference, sigmas_of, counts=STEPS, config=multistep, **keys):
    """Euler's method on timesteps at noise levels that a function makes."""
    for steps in counts:
        given = dict(sigmas=[float(sigma) for sigma in sigmas_of(steps)])
        group.add(f"euler-{label}-{steps}", reference, run("EulerDiscreteScheduler", given, config), **euler, steps=steps,
                  **keys)


def comfy_sigma(t):
    """ComfyUI's `ModelSamplingDiscrete.sigma`."""
    below = np.minimum(np.floor(t).astype(int), 998)
    logs = np.log(SIGMAS)
    return np.exp(logs[below] + (t - below) * (logs[below + 1] - logs[below]))


def log_linear(levels, steps):
    """NVIDIA's how-to of Align Your Steps: other numbers of steps."""
    positions = np.linspace(0, 1, steps + 1)
    return np.exp(np.interp(positions, np.linspace(0, 1, len(levels)), np.log(levels)))[:-1].tolist() + [0.0]


def kl_optimal(steps, low, high):
    position = np.arange(steps) / max(steps - 1, 1)
    return np.tan(position * np.arctan(low) + (1 - position) * np.arctan(high)).tolist() + [0.0]


def vp(steps):
    # k-diffusion's, whose float32 is not to be seen here.
    t = np.linspace(1, 1e-3, steps)
    return np.sqrt(np.expm1(19.9 * t**2 / 2 + 0.1 * t)).tolist() + [0.0]


assert np.allclose(vp(7), k.get_sigmas_vp(7).numpy(), rtol=1e-12)
for table, name in [("StableDiffusion", "ays-sd15"), ("StableDiffusionXL", "ays-sdxl")]:
    points = AysSchedules[f"{table}Timesteps"]
    group.add(f"euler-{name}", "diffusers AysSchedules", run("EulerDiscreteScheduler", dict(timesteps=points), multistep),
              **euler, steps=10, schedule=name)
    levels = SIGMAS[points].tolist() + [SIGMAS[0]]
    at_levels(name, "research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html", lambda steps: log_linear(levels, steps),
              schedule=name)
at_levels("sgm-uniform", "ComfyUI comfy/samplers.py normal_scheduler",
          lambda steps: comfy_sigma(np.linspace(999, 0, steps + 1)[:-1]).tolist() + [0.0], schedule="sgm-uniform")
at_levels("simple", "ComfyUI comfy/samplers.py simple_scheduler",
          lambda steps: [SIGMAS[-(1 + int(x * 1000 / steps))] for x in range(steps)] + [0.0], schedule="simple")
# It starts as diffusers' leading timesteps do. For other numbers of steps it takes more than asked.
at_levels("ddim-uniform", "ComfyUI comfy/samplers.py ddim_scheduler",
          lambda steps: [0.0, *SIGMAS[1 :: 1000 // steps]][::-1], [2, 4, 5, 8, 20],
          multistep | dict(timestep_spacing="leading"), schedule="ddim-uniform")
at_levels("vp", "k-diffusion get_sigmas_vp", vp, schedule="vp")
at_levels("polyexponential", "k-diffusion get_sigmas_polyexponential",
          lambda steps: k.get_sigmas_polyexponential(steps, SIGMAS[0], SIGMAS[-1], 0.7), schedule="polyexponential", rho=0.7)
at_levels("kl-optimal", "ComfyUI comfy/samplers.py kl_optimal_scheduler",
          lambda steps: kl_optimal(steps, SIGMAS[0], SIGMAS[-1]), schedule="kl-optimal")
listed = [11.0, 4.5, 1.25, 0.3, 0.0]
group.add("euler-sigmas", "diffusers EulerDiscreteScheduler", run("EulerDiscreteScheduler", dict(sigmas=listed), multistep),
          **euler, sigmas=listed)


def on_noise_levels(label, reference, sigmas_of, sigma_max=80.0, **keys):
    """Euler's method in k-diffusion's words."""

    def denoiser(net):
        def clean(x, sigma, **_):
            scale = torch.sqrt(sigma**2 + 0.25)
            return 0.25 / scale**2 * x + 0.5 * sigma / scale * net(x / scale, torch.log(sigma) / 4)
        return lambda x, sigma: clean(x, sigma[0])

    for steps in STEPS:
        sigmas = torch.tensor([float(sigma) for sigma in sigmas_of(steps)])
        group.add(f"edm-{label}-{steps}", reference,
                  lambda net, _: k.sample_euler(denoiser(net), START * sigmas[0], sigmas, disable=True),
                  **EDM, sigma_min=0.002, sigma_max=sigma_max, sampler="euler", steps=steps, **keys)


ends = (0.002, 80.0)
on_noise_levels("karras", "k-diffusion get_sigmas_karras", lambda steps: k.get_sigmas_karras(steps, *ends, 5.0),
                schedule="edm", rho=5.0)
on_noise_levels("exponential", "k-diffusion get_sigmas_exponential", lambda steps: k.get_sigmas_exponential(steps, *ends),
                schedule="exponential")
on_noise_levels("polyexponential", "k-diffusion get_sigmas_polyexponential",
                lambda steps: k.get_sigmas_polyexponential(steps, *ends, 1.5), schedule="polyexponential", rho=1.5)
on_noise_levels("vp", "k-diffusion get_sigmas_vp", vp, 160.0, schedule="vp")
on_noise_levels("kl-optimal", "ComfyUI comfy/samplers.py kl_optimal_scheduler", lambda steps: kl_optimal(steps, *ends),
                schedule="kl-optimal")
svd = AysSchedules["StableDiffusionVideoSigmas"][:-1] + [0.002]
on_noise_levels("ays-svd", "research.nvidia.com/labs/toronto-ai/AlignYourSteps/howto.html",
                lambda steps: log_linear(svd, steps), 700.0, schedule="ays-svd")

# Rectified flows.
flow = dict(FLOW, sampler="euler")
for shift in (1.0, 3.0):
    steps_of(f"flow-linspace-{shift}", "FlowMatchEulerDiscreteScheduler", dict(shift=shift), **flow, schedule="linspace",
             shift=shift)
for levels, switch in LEVELS.items():
    steps_of(f"flow-{levels}", "FlowMatchEulerDiscreteScheduler", {"shift": 3.0, switch: True}, **flow, schedule=levels,
             shift=3.0)
# Without its first step, from which it would have to stretch a single point.
steps_of("flow-terminal", "FlowMatchEulerDiscreteScheduler", dict(shift=2.0, shift_terminal=0.1), STEPS[1:], **flow,
         schedule="linspace", shift=2.0, terminal=0.1)
unipc = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
steps_of("flow-unipc", "UniPCMultistepScheduler", unipc, **FLOW, sampler="unipc", schedule="linspace-open", rounding="down",
         shift=3.0)
steps_of("flow-dpm", "DPMSolverMultistepScheduler", unipc, **FLOW, sampler="dpmpp-2m", schedule="flow-sigmas",
         rounding="down", shift=3.0)


def on_flow(label, reference, times_of, counts=STEPS, config=None, **keys):
    """Euler's method at times that a function makes, without the last."""
    for steps in counts:
        given = dict(sigmas=[float(t) for t in times_of(steps)])
        group.add(f"flow-{label}-{steps}", reference, run("FlowMatchEulerDiscreteScheduler", given, config or {}), **flow,
                  steps=steps, **keys)


def shifted(t, shift=3.0):
    return shift * t / (1 + (shift - 1) * t)


def sway(steps, coefficient):
    t = np.linspace(0, 1, steps + 1)
    return 1 - (t + coefficient * (np.cos(np.pi / 2 * t) - 1 + t))[:-1]


def zipvoice(steps, shift=0.5):
    t = np.linspace(0, 1, steps + 1)
    return 1 - (shift * t / (1 + (shift - 1) * t))[:-1]


on_flow("uniform", "diffusers FlowMatchEulerDiscreteScheduler", lambda steps: np.linspace(1, 1 / steps, steps),
        config=dict(shift=3.0), schedule="uniform", shift=3.0)
mu = 0.5 + (1.15 - 0.5) * (1024 - 256) / (4096 - 256)
for kind, shift in [("exponential", math.exp(mu)), ("linear", mu)]:
    config = dict(use_dynamic_shifting=True, time_shift_type=kind)
    for steps in STEPS:
        given = dict(sigmas=np.linspace(1, 1 / steps, steps).tolist(), mu=mu)
        group.add(f"flow-dynamic-{kind}-{steps}", "diffusers FlowMatchEulerDiscreteScheduler",
                  run("FlowMatchEulerDiscreteScheduler", given, config), **flow, steps=steps, shift=shift)
on_flow("sgm-uniform", "ComfyUI comfy/samplers.py normal_scheduler",
        lambda steps: shifted(np.linspace(1, shifted(0.001), steps + 1)[:-1]), schedule="sgm-uniform", shift=3.0)
on_flow("simple", "ComfyUI comfy/samplers.py simple_scheduler",
        lambda steps: shifted(np.array([1000 - int(x * 1000 / steps) for x in range(steps)]) / 1000), schedule="simple",
        shift=3.0)
on_flow("linear-quadratic", "diffusers MochiPipeline", lambda steps: linear_quadratic_schedule(steps, 0.025), STEPS[1:],
        schedule="linear-quadratic")
on_flow("sway", "SWivid/F5-TTS src/f5_tts/model/cfm.py", lambda steps: sway(steps, -1.0), schedule="sway")
on_flow("sway-up", "SWivid/F5-TTS src/f5_tts/model/cfm.py", lambda steps: sway(steps, 0.5), schedule="sway", sway=0.5)
on_flow("zipvoice", "k2-fsa/ZipVoice zipvoice/models/modules/solver.py", zipvoice, schedule="uniform", shift=2.0)

group.write()
