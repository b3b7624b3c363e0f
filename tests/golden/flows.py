"""Few-step families beyond few_step.py: lists of published models, policies, speech, moment matching, pi-Flow."""

import math

import torch
from common import OBSERVATION, START, STEPS, Group, alpha_bars, sample, scheduler

group = Group(__file__)

BETAS = dict(betas="scaled-linear", beta_start=0.00085, beta_end=0.012)
SD = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
SIGMA_DATA, SIGMA_MIN, SIGMA_MAX = 0.5, 0.002, 80.0
LEVELS = dict(sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX)
UNIT = dict(family="rectified-flow", prediction="velocity", time="unit")


def karras(position, low=SIGMA_MIN):
    """EDM, arXiv 2206.00364, equation 5, with rho 7."""
    high, low = SIGMA_MAX ** (1 / 7), low ** (1 / 7)
    return (high + position * (low - high)) ** 7


def even(steps, start=1.0):
    return [start * (1 - i / steps) for i in range(steps + 1)]


def consistency(net, x, sigma):
    """The consistency models' preconditioning, of a network that is told `ln(sigma) / 4`."""
    above, norm = sigma - SIGMA_MIN, math.hypot(sigma, SIGMA_DATA)
    skip, out = SIGMA_DATA**2 / (above**2 + SIGMA_DATA**2), above * SIGMA_DATA / norm
    return skip * x + out * net(x / norm, math.log(sigma) / 4)


def euler(net, x, times, scale=1.0):
    """`x + (s - t) * v`, the network being told `scale * t`."""
    for t, s in zip(times, times[1:]):
        x = x + (s - t) * net(x, scale * t)
    return x


def jumps(net, x, times, scale=1.0):
    """The same with mean velocities of a network that is told the duration."""
    for t, s in zip(times, times[1:]):
        x = x - (t - s) * net(x, scale * t, scale * (t - s))
    return x


# The `ts` of openai/consistency_models scripts/launch.sh, as CM's own sampler reads them: cm/karras_diffusion.py.
for label, points, ts in [
    ("imagenet-cd", 40, [0, 22, 39]), ("bedroom-cd", 40, [0, 17, 39]), ("imagenet-ct", 201, [0, 106, 200]),
    ("bedroom-ct", 151, [0, 67, 150]), ("1", 40, [0, 39]), ("4", 18, [0, 3, 8, 13, 17]),
]:
    def stochastic(net, noise):
        times = [karras(i / (points - 1)) for i in ts]
        x = SIGMA_MAX * START
        for t, s in zip(times, times[1:]):
            x = consistency(net, x, t).clamp(-1, 1)
            if len(ts) > 2:
                x = x + math.sqrt(max(s**2 - SIGMA_MIN**2, 0)) * noise()
        return x

    group.add(f"ts-{label}", "openai/consistency_models cm/karras_diffusion.py", stochastic, family="consistency",
              sampler="consistency", prediction="edm-consistency", sigma_data=SIGMA_DATA, time="log-sigma",
              time_scale=0.25, clamp=1, **LEVELS, schedule="karras", points=points, ts=ts)


def ctm_jump(net, x, t, s, end=SIGMA_MIN, scale=0.25):
    """CTM's `G`: sony/ctm code/cm/karras_diffusion.py get_denoised_and_G."""
    above, norm = t - end, math.hypot(t, SIGMA_DATA)
    f = net(x / norm, scale * math.log(t), scale * math.log(s))
    inner = SIGMA_DATA**2 / (above**2 + SIGMA_DATA**2) * x + above * SIGMA_DATA / norm * f
    return s / t * x + (1 - s / t) * inner


# CTM: `cm_multistep` and `exact` of sony/ctm code/cm/sample_util.py, on a `ts` and with the outputs clamped.
CTM = dict(family="flow-map", sampler="ctm", prediction="edm-consistency", sigma_data=SIGMA_DATA, time="log-sigma",
           time_scale=0.25, **LEVELS)
for steps in STEPS:
    def multistep(net, noise):
        times = [karras(i / steps) for i in range(steps + 1)]
        x = SIGMA_MAX * START
        for i, (t, s) in enumerate(zip(times, times[1:])):
            x = ctm_jump(net, x, t, SIGMA_MIN).clamp(-1, 1)
            if i + 1 < steps:
                x = x + math.sqrt(s**2 - SIGMA_MIN**2) * noise()
        return x

    group.add(f"ctm-multistep-{steps}", "sony/ctm sample_util.py sample_multistep", multistep, second="target", **CTM,
              eta=1, clamp=1, steps=steps)


def ctm_exact(net, noise):
    x, times = SIGMA_MAX * START, [karras(i / 39) for i in (0, 22, 39)]
    for t, s in zip(times, times[1:]):
        x = ctm_jump(net, x, t, s)
    return x.clamp(-1, 1)


group.add("ctm-exact-ts", "sony/ctm sample_util.py sample_exact", ctm_exact, second="target", **CTM, clamp=1,
          schedule="karras", ts=[0, 22, 39])

# Consistency Policy: bins of a Karras grid of 80, or noise levels; the initial noise is left as it is.
POLICY = dict(family="flow-map", sampler="consistency-policy", prediction="edm-consistency", sigma_data=SIGMA_DATA,
              time="log-sigma", time_scale=250, sigma_min=0.02, sigma_max=80.0, clamp=1, initial_scale=1)
for label, times, keys in [
    ("one", [80.0, 0.02], dict(max_steps=1)),
    ("levels", [80.0, 54.0, 27.0, 0.02], dict(times=[80.0, 54.0, 27.0, 0.02])),
    ("bins", [karras(i / 79, 0.02) for i in (0, 27, 54, 79)], dict(schedule="karras", points=80, ts=[0, 27, 54, 79])),
    ("many", [80.0, 40.0, 20.0, 10.0, 4.0, 0.5, 0.02], dict(times=[80.0, 40.0, 20.0, 10.0, 4.0, 0.5, 0.0])),
]:
    def chained(net, noise):
        x = ctm_jump(net, START, times[0], 0.02, 0.02, 250).clamp(-1, 1)
        for t in times[1:-1]:
            x = ctm_jump(net, x + t * noise(), t, 0.02, 0.02, 250).clamp(-1, 1)
        return x

    group.add(f"consistency-policy-{label}", "Aaditya-Prasad/consistency-policy student/ctm_policy.py", chained,
              second="target", **POLICY, **keys)

# Deterministic phased consistency models: Euler on points of a grid of 50, shifted by 3 in Stable Diffusion 3.
for steps in STEPS:
    times = [3 * t / (1 + 2 * t) for t in (1 - i * 50 // steps / 50 for i in range(steps))] + [0.0]
    group.add(f"pcm-deterministic-{steps}", "G-U-N/Phased-Consistency-Model pcm_fm_deterministic_scheduler.py",
              lambda net, noise: euler(net, START, times, 1000), **UNIT, sampler="pcm-deterministic", time_scale=1000,
              times=times)


# One-step networks on timesteps: Hyper-SD's UNet is told 800, that of SDXL-Lightning predicts the sample.
def hyper(net, noise):
    lcm = scheduler("LCMScheduler", noise, **SD)
    lcm.set_timesteps(timesteps=[800])
    return sample(lcm, net)


def lightning(net, noise):
    bar = alpha_bars(**BETAS)[999]
    ratio = math.sqrt((1 - bar) / bar)
    return net(START * ratio / math.sqrt(ratio**2 + 1), 999)


group.add("hyper-sd-1", "diffusers LCMScheduler", hyper, family="consistency", sampler="lcm", prediction="epsilon",
          time="timestep", **BETAS, times=[800, 0])
group.add("sdxl-lightning-1", "diffusers EulerDiscreteScheduler, prediction_type sample", lightning,
          family="diffusion", sampler="euler", prediction="x0", time="timestep", **BETAS, max_steps=1)

# FastGen's students of Wan: the noise is scaled by the first time, and drawn anew (sde) or taken from the state (ode).
LISTS = {1: [0.999, 0], 2: [0.999, 0.833, 0], 4: [0.999, 0.937, 0.833, 0.624, 0]}
for steps, times in LISTS.items():
    def sde(net, noise):
        x = 0.999 * START
        for t, s in zip(times, times[1:]):
            clean, z = x - t * net(x, 1000 * t), noise()
            x = (1 - s) * clean + s * z
        return x

    keys = dict(**UNIT, time_scale=1000, initial_scale=0.999, times=times)
    # The last draw is that of diffusers' schedulers; FastGen leaves it out.
    group.add(f"fastgen-sde-{steps}", "NVlabs/FastGen methods/model.py", sde, sampler="renoise", **keys)
    group.add(f"fastgen-ode-{steps}", "NVlabs/FastGen methods/model.py",
              lambda net, noise: euler(net, 0.999 * START, times, 1000), sampler="euler", **keys)

# AnyFlow, with the shift of Wan 2.1, told the target or the duration.
for steps in STEPS:
    for second in ["target", "duration"]:
        def anyflow(net, noise):
            flow = scheduler("FlowMapEulerDiscreteScheduler", noise, shift=5.0)
            flow.set_timesteps(steps)
            x, times = START, [*flow.timesteps, torch.tensor(0.0)]
            for t, r in zip(times, times[1:]):
                x = flow.step(net(x, t, r if second == "target" else t - r), t, x, r_timestep=r).prev_sample
            return x

        group.add(f"anyflow-{second}-{steps}", "diffusers FlowMapEulerDiscreteScheduler", anyflow, second=second,
                  family="flow-map", sampler="anyflow", prediction="velocity", time="unit", time_scale=1000, shift=5,
                  steps=steps)

# pMF: iMF's steps from noise of another deviation. LSD heads run from 0 to 1, from noise of a root of a temperature.
for steps in STEPS:
    group.add(f"pmf-{steps}", "Lyy-iiis/pMF pmf.py", lambda net, noise: jumps(net, 2 * START, even(steps)),
              second="duration", family="flow-map", sampler="meanflow", prediction="velocity", time="unit",
              initial_scale=2, steps=steps)

    def lsd(net, noise):
        x = math.sqrt(0.3) * START
        for i in range(steps):
            x = x + net(x, i / steps, (i + 1) / steps) / steps
        return x

    group.add(f"lsd-{steps}", "pocket-tts 4.0.1 models/flow_lm.py lsd_decode", lsd, second="target", family="flow-map",
              sampler="lsd", prediction="velocity", time="unit", noise_at=0, temperature=math.sqrt(0.3), steps=steps)

group.add("drifting", "pocket-tts 4.0.1 models/flow_lm.py drifting_decode", lambda net, noise: net(START, 1.0),
          family="rectified-flow", sampler="euler", prediction="x0", time="unit", max_steps=1)
group.add("pointwise", "pocket-tts 4.0.1 models/flow_lm.py pointwise_decode",
          lambda net, noise: START + net(START, 1.0), family="rectified-flow", sampler="euler",
          prediction="data-velocity", time="unit", max_steps=1)

# The update is inside the graph: supertone-inc/supertonic py/helper.py.
for steps in STEPS:
    def supertonic(net, noise):
        x = START
        for step in range(steps):
            x = net(x, 1 - step / steps)
        return x

    group.add(f"next-state-{steps}", "supertone-inc/supertonic py/helper.py", supertonic, family="rectified-flow",
              sampler="next-state", prediction="next-state", time="unit", steps=steps)

# pi-Flow, with the last step half as long as the others, before the shift.
for steps in STEPS:
    for points, shift in [(10, 5.0), (2, 1.0)]:
        def piflow(net, noise):
            flow = scheduler("PiflowScheduler", noise, n_grid=points, shift=shift)
            flow.set_timesteps(steps)
            return sample(flow, net)

        group.add(f"pi-flow-{points}-{steps}", "diffusers PiflowScheduler", piflow, family="rectified-flow",
                  sampler="pi-flow", prediction="velocity-grid", points=points, time="unit", time_scale=1000,
                  shift=shift, steps=steps)


# Inductive moment matching, lumalabs/imm: noise has the deviation of the data.
def imm(net, noise, times, prediction, restart, second):
    d, x = SIGMA_DATA, SIGMA_DATA * START
    end = times[-1]
    for i, (t, s) in enumerate(zip(times, times[1:])):
        to = end if restart else s
        norm = math.hypot(1 - t, t)
        f = net(x / (d * norm), 1000 * t, 1000 * (to if second == "target" else t - to))
        if prediction == "scaled-velocity":
            x = x - (t - to) * d * f
        else:
            x = ((1 - t) * (1 - to) + t * to) / norm**2 * x - ((1 - to) * t - (1 - t) * to) / norm * d * f
        if restart and i + 2 < len(times):
            x = (1 - s) * x + s * d * noise()
    return x


CIFAR = {1: [0.994, 0.006], 2: [0.994, 1.4 / 2.4, 0.006], 3: [0.994, 0.8, 1.4 / 2.4, 0.006]}
KINDS = [("scaled-velocity", "duration", {n: even(n, 0.994) for n in STEPS}), ("simple-edm", "target", CIFAR)]
for prediction, second, lists in KINDS:
    for steps, times in lists.items():
        for name, restart in [("imm", False), ("imm-restart", True)]:
            def matched(net, noise):
                return imm(net, noise, times, prediction, restart, second)

            stop = dict(stop="sigma-min") if lists is CIFAR else {}
            data = "cifar" if lists is CIFAR else "imagenet"
            group.add(f"{name}-{data}-{steps}", "lumalabs/imm generate_images.py", matched, second=second,
                      family="flow-map", sampler=name, prediction=prediction, sigma_data=SIGMA_DATA, time="unit",
                      time_scale=1000, times=times, **stop)


# Speech from text: times run from 0, noise, to 1.
def speech(net, x, times):
    for t, s in zip(times, times[1:]):
        x = x + (s - t) * net(x, t)
    return x


for steps in STEPS:
    ahead = [i / steps for i in range(steps + 1)]
    swayed = [t - (math.cos(math.pi / 2 * t) - 1 + t) for t in ahead]
    late = [0.5 * t / (1 - 0.5 * t) for t in ahead]
    keys = dict(**UNIT, sampler="euler", noise_at=0, steps=steps)
    group.add(f"matcha-{steps}", "shivammehta25/Matcha-TTS flow_matching.py",
              lambda net, noise: speech(net, 0.667 * START, ahead), **keys, temperature=0.667)
    group.add(f"f5-{steps}", "SWivid/F5-TTS model/cfm.py", lambda net, noise: speech(net, START, swayed), **keys,
              schedule="sway", sway=-1)
    group.add(f"zipvoice-{steps}", "k2-fsa/ZipVoice models/modules/solver.py",
              lambda net, noise: speech(net, START, late), **keys, shift=2)

# Enhancement: SGMSE's reverse SDE around an observation, sp-uhh/sgmse sdes.py and sampling/, without and with a corrector.
THETA, LOW, HIGH = 1.5, 0.05, 0.5
GROWTH = math.log(HIGH / LOW)


def deviation(t):
    return math.sqrt(LOW**2 * math.exp(-2 * THETA * t) * (math.exp(2 * (THETA + GROWTH) * t) - 1) * GROWTH
                     / (THETA + GROWTH))


def enhance(net, noise, steps, snr):
    y = OBSERVATION
    x = y + deviation(1) * START
    times = torch.linspace(1, 0.03, steps).tolist()
    for i, t in enumerate(times):
        dt = t - times[i + 1] if i + 1 < steps else times[-1]
        if snr:
            length = 2 * (snr * deviation(t)) ** 2
            x = x + length * net(x, t) + math.sqrt(2 * length) * noise()
        diffusion = LOW * (HIGH / LOW) ** t * math.sqrt(2 * GROWTH)
        forward, spread = THETA * (y - x) * dt, diffusion * math.sqrt(dt)
        mean = x - (forward - spread**2 * net(x, t))
        x = mean + spread * noise()
    return mean


for steps in STEPS + [30]:
    keys = dict(family="diffusion", prediction="score", time="mean-reverting", theta=THETA, sigma_min=LOW,
                sigma_max=HIGH, steps=steps)
    for sampler, snr in [("reverse-diffusion", 0), ("predictor-corrector", 0.5), ("predictor-corrector", 0.33)]:
        eta = {} if snr in (0, 0.5) else dict(eta=snr)
        group.add(f"{sampler}-{snr}-{steps}", "sp-uhh/sgmse sampling/__init__.py get_pc_sampler",
                  lambda net, noise: enhance(net, noise, steps, snr), observation=True, **keys, sampler=sampler, **eta)

# FlowSE goes straight from noise around the observation, and MeanFlowSE in jumps, to 0.03 unless it is told otherwise.
for steps in STEPS:
    times = torch.linspace(1, 0.03, steps).tolist() + [0.0]
    group.add(f"flowse-{steps}", "seongq/flowmse sampling/__init__.py get_white_box_solver",
              lambda net, noise: euler(net, OBSERVATION + 0.487 * START, times), observation=True, **UNIT,
              sampler="euler", initial_scale=0.487, times=times)
    times = torch.linspace(1, 0.03, steps + 1).tolist()

    def displaced(net, noise):
        x = OBSERVATION + 0.487 * START
        for t, r in zip(times, times[1:]):
            x = x - (t - r) * net(x, t, r)
        return x

    group.add(f"meanflowse-{steps}", "liduojia1/MeanFlowSE sampling/odesolvers.py euler_mf", displaced,
              second="target", observation=True, family="flow-map", sampler="meanflow", prediction="velocity",
              time="unit", initial_scale=0.487, times=times, stop="sigma-min")

group.write()
