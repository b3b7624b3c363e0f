"""diffusers' scheduler_config.json of published models: runs of the scheduler that the file makes.

A case has the file in place of the `[sampling]` keys; `sampling` is what a user writes beside it. The files are those of the
repositories on huggingface.co that the cases are called after, without what names a version.
"""

import json
import math
import pathlib

import numpy as np
import torch
from common import START, STEPS, Group, Network, Noise, sample, scheduler, toml

group = Group(pathlib.Path(__file__).with_name("schedulers") / "configs.py")

SD = dict(beta_end=0.012, beta_schedule="scaled_linear", beta_start=0.00085, num_train_timesteps=1000)
PNDM = dict(SD, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False, clip_sample=False, trained_betas=None)
XL = dict(SD, clip_sample=False, interpolation_type="linear", prediction_type="epsilon", sample_max_value=1.0,
          set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1, trained_betas=None, use_karras_sigmas=False)
LATENT = dict(SD, clip_sample=False, clip_sample_range=1.0, dynamic_thresholding_ratio=0.995, original_inference_steps=50,
              prediction_type="epsilon", rescale_betas_zero_snr=False, sample_max_value=1.0, set_alpha_to_one=True,
              steps_offset=1, thresholding=False, timestep_scaling=10.0, timestep_spacing="leading", trained_betas=None)
LINEAR = dict(beta_end=0.02, beta_schedule="linear", beta_start=0.0001, num_train_timesteps=1000, clip_sample=True,
              trained_betas=None, variance_type="fixed_small")
SANA = dict(
    algorithm_type="dpmsolver++", beta_end=0.02, beta_schedule="linear", beta_start=0.0001,
    dynamic_thresholding_ratio=0.995, euler_at_final=False, final_sigmas_type="zero", flow_shift=3.0,
    lambda_min_clipped=-math.inf, lower_order_final=True, num_train_timesteps=1000, prediction_type="flow_prediction",
    sample_max_value=1.0, solver_order=2, solver_type="midpoint", steps_offset=0, thresholding=False,
    timestep_spacing="linspace", trained_betas=None, use_beta_sigmas=False, use_exponential_sigmas=False,
    use_flow_sigmas=True, use_karras_sigmas=False, use_lu_lambdas=False, variance_type=None)
WAN = dict(
    beta_end=0.02, beta_schedule="linear", beta_start=0.0001, disable_corrector=[], dynamic_thresholding_ratio=0.995,
    final_sigmas_type="zero", flow_shift=3.0, lower_order_final=True, num_train_timesteps=1000, predict_x0=True,
    prediction_type="flow_prediction", rescale_betas_zero_snr=False, sample_max_value=1.0, solver_order=2, solver_p=None,
    solver_type="bh2", steps_offset=0, thresholding=False, timestep_spacing="linspace", trained_betas=None,
    use_beta_sigmas=False, use_exponential_sigmas=False, use_flow_sigmas=True, use_karras_sigmas=False)
FLUX = dict(base_image_seq_len=256, base_shift=0.5, max_image_seq_len=4096, max_shift=1.15, num_train_timesteps=1000)
LTX = dict(FLUX, max_shift=2.05, base_shift=0.95, base_image_seq_len=1024, invert_sigmas=False, shift=1.0,
           shift_terminal=0.1, use_beta_sigmas=False, use_dynamic_shifting=True, use_exponential_sigmas=False,
           use_karras_sigmas=False)

# What the network is, in the words of a manifest.
BETAS = dict(betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
TIMESTEPS = dict(time="timestep", prediction="epsilon", **BETAS)
V = TIMESTEPS | dict(prediction="v")
DATA = dict(time="timestep", prediction="epsilon", betas="linear", beta_start=0.0001, beta_end=0.02)
COSINE = dict(time="timestep", prediction="v", betas="cosine")
FLOW = dict(time="unit", prediction="velocity", time_scale=1000)
CM = dict(time="log-sigma", time_scale=250, prediction="edm-consistency", sigma_data=0.5, sigma_min=0.002)
EDM = dict(time="log-sigma", time_scale=0.25, prediction="edm", sigma_data=0.5)


def even(steps, mu=None):
    """The times that pipelines give whose shift depends on the size of the sample."""
    return dict(sigmas=np.linspace(1, 1 / steps, steps).tolist(), **({} if mu is None else dict(mu=mu)))


def add(label, name, config, network, counts=STEPS, given=lambda steps: dict(num_inference_steps=steps), beside=None,
        loop=sample):
    """Runs the scheduler of a file. The draws of a case are not counted: classes that noise the clean sample again also
    draw after the last step."""
    for steps in counts:
        noise, net = Noise(), Network(**network)
        # From a file, so that keys of other classes are passed over.
        solver = type(scheduler(f"{name}Scheduler", noise)).from_config(config)
        solver.set_timesteps(**given(steps))
        result = loop(solver, net).flatten().tolist()
        assert all(map(math.isfinite, result)), (label, result)
        text = json.dumps(dict(_class_name=f"{name}Scheduler", _diffusers_version="0.42.1", **config), indent=2)
        keys = "".join(f"{key} = {toml(value)}\n" for key, value in dict(beside or {}, steps=steps).items())
        words = "".join(f"{key} = {toml(value)}\n" for key, value in network.items())
        group.text.append(
            f'[[case]]\nlabel = {toml(f"{label}-{steps}")}\nscheduler_config = """\n{text}\n"""\n'
            f'sampling = """\n{keys}"""\nnetwork = """\n{words}"""\nresult = {toml(result)}\n')


several = STEPS[1:]
# Epsilon next to pure noise is no good case for single precision, so no single steps.
add("stable-diffusion-v1-5", "PNDM", PNDM, TIMESTEPS, [4, 8, 20])
add("stable-diffusion-2-1", "DDIM", dict(PNDM, prediction_type="v_prediction"), V)
add("stable-diffusion-xl-base-1.0", "EulerDiscrete", dict(XL, timestep_spacing="leading"), TIMESTEPS, several)
karras = dict(XL, timestep_spacing="leading", use_karras_sigmas=True)
add("playground-v2-1024px-aesthetic", "EulerDiscrete", karras, TIMESTEPS, several)
add("sdxl-turbo", "EulerAncestralDiscrete", dict(XL, timestep_spacing="trailing"), TIMESTEPS)
add("sd-turbo", "EulerDiscrete", dict(XL, timestep_spacing="trailing"), TIMESTEPS)
add("sdxl-lightning", "EulerDiscrete", dict(XL, timestep_spacing="trailing"), TIMESTEPS)
add("lcm-dreamshaper-v7", "LCM", LATENT, TIMESTEPS)
add("tcd-sdxl-lora", "TCD", LATENT, TIMESTEPS)
add("hyper-sdxl", "DDIM", dict(SD, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing"), TIMESTEPS)
zero = dict(SD, rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False)
add("zero-terminal-snr", "DDIM", zero, V | dict(zero_terminal_snr=True))
add("ddpm-cifar10-32", "DDPM", dict(LINEAR, prediction_type="epsilon"), DATA, [4, 8, 20])
add("ddpm-church-256", "DDIM", {key: value for key, value in LINEAR.items() if key != "variance_type"}, DATA, [4, 8, 20])
add("cosine-karras", "DPMSolverMultistep", dict(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
    use_karras_sigmas=True), COSINE)
dpm = dict(PNDM, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", prediction_type="v_prediction")
for key, change in {
    "": {}, "-karras": dict(use_karras_sigmas=True), "-lu": dict(use_lu_lambdas=True), "-order-3": dict(solver_order=3),
    "-leading": dict(timestep_spacing="leading"), "-sde": dict(algorithm_type="sde-dpmsolver++", use_karras_sigmas=True),
    "-noise": dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
}.items():
    add(f"dpm{key}", "DPMSolverMultistep", dpm | change, V)
add("dpm-singlestep", "DPMSolverSinglestep", dpm | dict(lower_order_final=True), V, several)
add("unipc", "UniPCMultistep", PNDM | dict(solver_order=3, prediction_type="v_prediction"), V)
add("deis", "DEISMultistep", PNDM | dict(solver_order=3, prediction_type="v_prediction"), V)
add("sa-solver", "SASolver", PNDM | dict(prediction_type="v_prediction"), V)
add("heun", "HeunDiscrete", XL | dict(prediction_type="v_prediction", timestep_spacing="leading"), V)
add("lms", "LMSDiscrete", XL | dict(prediction_type="v_prediction", use_karras_sigmas=True), V, several)
add("kdpm2", "KDPM2Discrete", XL | dict(prediction_type="v_prediction", use_karras_sigmas=True), V, [4, 8, 20])
add("kdpm2-ancestral", "KDPM2AncestralDiscrete", XL | dict(prediction_type="v_prediction"), V, [4, 8])

# Noise levels.
playground = dict(num_train_timesteps=1000, prediction_type="epsilon", rho=7.0, sigma_data=0.5, sigma_max=80.0, sigma_min=0.002)
add("edm-euler", "EDMEuler", playground, EDM | dict(sigma_min=0.002, sigma_max=80.0))
dpm = dict(playground, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint", lower_order_final=True,
           euler_at_final=False, final_sigmas_type="zero", sigma_schedule="exponential")
# Its exponential levels of a single step are the smallest one.
add("playground-v2.5", "EDMDPMSolverMultistep", dpm, EDM | dict(sigma_min=0.002, sigma_max=80.0), several)
cd = dict(clip_denoised=True, num_train_timesteps=40, rho=7.0, s_noise=1.0, sigma_data=0.5, sigma_max=80.0, sigma_min=0.002)
add("diffusers-cd_imagenet64_l2", "CMStochasticIterative", cd, CM | dict(sigma_max=80.0))



def sprint(solver, net):
    """diffusers pipelines/sana/pipeline_sana_sprint.py."""
    deviation, x = solver.config.sigma_data, START * solver.config.sigma_data
    # The class has its times in single precision.
    steps = len(solver.timesteps) - 1
    solver.timesteps = torch.tensor([1.5708, 1.3, 0.0]) if steps == 2 else torch.linspace(1.5708, 0, steps + 1)
    for t in solver.timesteps[:-1]:
        share = torch.sin(t) / (torch.sin(t) + torch.cos(t))
        norm = torch.sqrt(share**2 + (1 - share) ** 2)
        fed = x / deviation * norm
        output = ((1 - 2 * share) * fed + (1 - 2 * share + 2 * share**2) * net(fed, share)) / norm * deviation
        x = solver.step(output, t, x).prev_sample
    return x


add("Sana_Sprint_1.6B_1024px", "SCM", dict(num_train_timesteps=1000, prediction_type="trigflow", sigma_data=0.5),
    dict(time="angle-share", prediction="velocity", sigma_data=0.5), loop=sprint,
    given=lambda steps: dict(num_inference_steps=steps, intermediate_timesteps=1.3 if steps == 2 else None))

# Rectified flows.
add("stable-diffusion-3-medium", "FlowMatchEulerDiscrete", dict(num_train_timesteps=1000, shift=3.0), FLOW)
schnell = dict(FLUX, shift=1.0, use_dynamic_shifting=False)
add("FLUX.1-schnell", "FlowMatchEulerDiscrete", schnell, FLOW, given=even, beside=dict(schedule="uniform"))
mu = 0.5 + (1.15 - 0.5) * (1024 - 256) / (4096 - 256)
add("FLUX.1-dev", "FlowMatchEulerDiscrete", dict(FLUX, shift=3.0, use_dynamic_shifting=True), FLOW,
    given=lambda steps: even(steps, mu), beside=dict(shift=math.exp(mu)))
add("LTX-Video", "FlowMatchEulerDiscrete", LTX, FLOW, several, given=lambda steps: even(steps, 1.5), beside=dict(shift=math.exp(1.5)))
add("flow-karras", "FlowMatchEulerDiscrete", dict(num_train_timesteps=1000, shift=3.0, use_karras_sigmas=True), FLOW)
add("flow-heun", "FlowMatchHeunDiscrete", dict(num_train_timesteps=1000, shift=3.0), FLOW)
add("flow-lcm", "FlowMatchLCM", dict(num_train_timesteps=1000, shift=3.0, scale_factors=None), FLOW)
add("flow-stochastic", "FlowMatchEulerDiscrete", dict(num_train_timesteps=1000, stochastic_sampling=True), FLOW)
add("ltx-ancestral", "LTXEulerAncestralRF", dict(num_train_timesteps=1000, eta=0.7, s_noise=0.9), FLOW, several)
add("Wan2.1-T2V-1.3B", "UniPCMultistep", WAN, FLOW)
add("Sana_1600M_1024px", "DPMSolverMultistep", SANA, FLOW)

group.write()
