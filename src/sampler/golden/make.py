"""Golden trajectories for conformance.rs, in f64: `python make.py > trajectories.txt`.

diffusers 0.42.1 with its float32 replaced by float64, injected noise and a linear network; straight transcriptions of
the papers' rules where diffusers has no class.
"""
import importlib, math
import numpy as np
import torch
import diffusers

torch.set_default_dtype(torch.float64)
START = torch.tensor([0.5, -1.0, 0.1, 2.0], dtype=torch.float64)


def noise(i):
    return torch.tensor([((i * 4 + j) * 37 % 19) / 9.5 - 1 for j in range(4)], dtype=torch.float64)


def net(x, t, s=0.0):
    return 0.4 * x + 0.25 * t - 0.15 * s - 0.1


class Double:
    def __init__(self, module, double):
        self.__dict__.update(module=module, float32=double)

    def __getattr__(self, name):
        return getattr(self.module, name)


def scheduler(name, module, **config):
    m = importlib.import_module("diffusers.schedulers.scheduling_" + module)
    m.torch, m.np = Double(torch, torch.float64), Double(np, np.float64)
    draws = iter(range(1000))
    m.randn_tensor = lambda *a, **k: noise(next(draws))
    return getattr(m, name)(**config)


def show(label, x):
    print(label, *(repr(v) for v in x.tolist()))


def run(s, scale=1000.0, start=None, **step):
    x = START * s.init_noise_sigma if start is None else start
    for t in s.timesteps:
        x = s.step(net(s.scale_model_input(x, t), float(t) / scale), t, x, **step).prev_sample
    return x


SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
for kind in ["epsilon", "v_prediction", "sample"]:
    for n in [1, 2, 4, 8]:
        s = scheduler("LCMScheduler", "lcm", prediction_type=kind, **SD)
        s.set_timesteps(n)
        show(f"lcm-{kind}-{n}", run(s))
for eta in [0.0, 0.3, 1.0]:
    for n in [1, 4, 8]:
        s = scheduler("TCDScheduler", "tcd", **SD)
        s.set_timesteps(n)
        show(f"tcd-{eta}-{n}", run(s, eta=eta))
for spacing in ["trailing", "leading"]:
    for eta in [0.0, 0.7]:
        for n in [1, 3, 4, 20]:
            s = scheduler("DDIMScheduler", "ddim", clip_sample=False, timestep_spacing=spacing, steps_offset=1 if spacing == "leading" else 0, **SD)
            s.set_timesteps(n)
            show(f"ddim-{spacing}-{eta}-{n}", run(s, eta=eta))
for spacing in ["trailing", "leading", "linspace"]:
    for n in [2, 5, 20]:
        offset = 1 if spacing == "leading" else 0
        for name, cls, module in [("euler", "EulerDiscreteScheduler", "euler_discrete"), ("ancestral", "EulerAncestralDiscreteScheduler", "euler_ancestral_discrete"), ("heun", "HeunDiscreteScheduler", "heun_discrete")]:
            s = scheduler(cls, module, timestep_spacing=spacing, steps_offset=offset, **SD)
            s.set_timesteps(n)
            show(f"{name}-{spacing}-{n}", run(s))
for schedule in ["linear", "squaredcos_cap_v2"]:
    for n in [1, 2, 3, 8, 20]:
        s = scheduler("DPMSolverMultistepScheduler", "dpmsolver_multistep", timestep_spacing="trailing", beta_schedule=schedule)
        s.set_timesteps(n)
        show(f"dpmpp-{schedule}-{n}", run(s))
        s = scheduler("DPMSolverMultistepScheduler", "dpmsolver_multistep", timestep_spacing="trailing", beta_schedule=schedule, algorithm_type="sde-dpmsolver++")
        s.set_timesteps(n)
        show(f"dpmpp-sde-{schedule}-{n}", run(s))
        s = scheduler("UniPCMultistepScheduler", "unipc_multistep", timestep_spacing="trailing", beta_schedule=schedule)
        s.set_timesteps(n)
        show(f"unipc-{schedule}-{n}", run(s, start=START.reshape(1, 4))[0])
        s = scheduler("DDPMScheduler", "ddpm", timestep_spacing="trailing", beta_schedule=schedule, clip_sample=False)
        s.set_timesteps(n)
        show(f"ddpm-{schedule}-{n}", run(s, start=START.reshape(1, 4))[0])
for n in [1, 2, 4]:
    s = scheduler("SCMScheduler", "scm", sigma_data=0.5)
    s.set_timesteps(n, intermediate_timesteps=1.3 if n == 2 else None)
    s.timesteps = torch.tensor([1.5708, 1.3, 0.0] if n == 2 else np.linspace(1.5708, 0, n + 1), dtype=torch.float64)
    x = START * 0.5
    for t in s.timesteps[:-1]:
        # diffusers pipeline_sana_sprint.py
        tau = torch.sin(t) / (torch.sin(t) + torch.cos(t))
        norm = torch.sqrt(tau**2 + (1 - tau) ** 2)
        fed = x / 0.5 * norm
        f = ((1 - 2 * tau) * fed + (1 - 2 * tau + 2 * tau**2) * net(fed, tau)) / norm * 0.5
        x = s.step(f, t, x).prev_sample
    show(f"scm-sana-{n}", x)
    s._step_index = None
    x = START * 0.5
    draws = iter(range(100))
    importlib.import_module("diffusers.schedulers.scheduling_scm").randn_tensor = lambda *a, **k: noise(next(draws))
    for t in s.timesteps[:-1]:
        x = s.step(0.5 * net(x / 0.5, t), t, x).prev_sample
    show(f"scm-trigflow-{n}", x)


def renoise(label, times, init, clean, level):
    x = init
    for i, t in enumerate(times):
        x = clean(x, t)
        if i + 1 < len(times):
            alpha, sigma = level(times[i + 1])
            x = alpha * x + sigma * noise(i)
    show(label, x)


# tianweiy/DMD2: x0 of the noise prediction, add_noise to the next timestep.
abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
vp = lambda t: (abar[t].sqrt(), (1 - abar[t]).sqrt())
renoise("dmd2", [999, 749, 499, 249], START, lambda x, t: (x - vp(t)[1] * net(x, t / 1000)) / vp(t)[0], vp)
# PCM's pcm_fm_stochastic_scheduler.py.
renoise("pcm", [1.0, 0.75, 0.4], START, lambda x, t: x - t * net(x, t), lambda t: (1 - t, t))


# locuslab/ect: EDM preconditioning, no root.
def edm(x, sigma, sd=0.5, s=None, eps=0.0):
    c_in, c_noise = 1 / math.hypot(sigma, sd), math.log(sigma) / 4
    f = net(c_in * x, c_noise, 0.0 if s is None else math.log(s) / 4)
    return sd * sd / ((sigma - eps) ** 2 + sd * sd) * x + (sigma - eps) * sd * c_in * f


renoise("ect", [80.0, 0.821], 80 * START, edm, lambda t: (1.0, t))

# sony/ctm sample_util.py, gamma_multistep.
for gamma in [0.0, 0.5, 1.0]:
    x, e, times = 80 * START, 0.002, [80.0, 10.0, 1.5, 0.002]
    for i, (t, n) in enumerate(zip(times, times[1:])):
        s = math.sqrt(1 - gamma**2) * (n - e) + e
        x = s / t * x + (1 - s / t) * edm(x, t, s=s, eps=e)
        if gamma > 0 and i < 2:
            x = x + math.sqrt(n * n - s * s) * noise(i)
    show(f"ctm-{gamma}", x)

# lumalabs/imm preconds.py.
for form in ["euler_fm", "simple_edm"]:
    x, times = START, [0.994, 0.6, 0.2, 0.0]
    for t, s in zip(times, times[1:]):
        a, b, sd = 1 - t, t, 0.5
        f = net(x / (sd * math.hypot(a, b)), t, s)
        if form == "euler_fm":
            x = x - (t - s) * sd * f
        else:
            c, d, q = 1 - s, s, a * a + b * b
            x = (a * c + b * d) / q * x - (c * b - a * d) / math.sqrt(q) * sd * f
    show(f"imm-{form}", x)

# kvfrans/shortcut-models helper_inference.py; the step size is fed as log2 N.
for n in [1, 4, 8]:
    x = START
    for i in range(n):
        x = x + net(x, i / n, math.log2(n)) / n
    show(f"shortcut-{n}", x)

# InstaFlow pipeline_rf.py.
for n in [1, 3]:
    x = START
    for i in range(n):
        x = x + net(x, 1 - i / n) / n
    show(f"instaflow-{n}", x)

# NVlabs/edm generate.py edm_sampler, without churn; EDM preconditioning; and diffusers' EDM solvers.
for n in [1, 2, 5, 18]:
    t = [(80 ** (1 / 7) + i / max(n - 1, 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(n)] + [0.0]
    x = 80 * START
    for i in range(n):
        d = (x - edm(x, t[i])) / t[i]
        y = x + (t[i + 1] - t[i]) * d
        if i < n - 1:
            y = x + (t[i + 1] - t[i]) * 0.5 * (d + (y - edm(y, t[i + 1])) / t[i + 1])
        x = y
    show(f"edm-heun-{n}", x)
    for name, cls, module in [("euler", "EDMEulerScheduler", "edm_euler"), ("dpmpp", "EDMDPMSolverMultistepScheduler", "edm_dpmsolver_multistep")]:
        s = scheduler(cls, module)
        s.set_timesteps(n)
        s.sigmas = torch.tensor(t, dtype=torch.float64)
        x = 80 * START
        for i, step in enumerate(s.timesteps):
            x = s.step(net(x / math.hypot(t[i], 0.5), math.log(t[i]) / 4), step, x).prev_sample
        show(f"edm-{name}-{n}", x)
for n in [1, 4]:
    s = scheduler("FlowMatchHeunDiscreteScheduler", "flow_match_heun_discrete")
    s.set_timesteps(n)
    sigmas = torch.linspace(1, 0, n + 1, dtype=torch.float64)
    s.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    s.timesteps = s.sigmas[:-1] * 1000
    x = START
    s._step_index = 0
    for t in s.timesteps:
        x = s.step(net(x, float(t) / 1000), t, x).prev_sample
    show(f"flow-heun-{n}", x)

# magic-research/piecewise-rectified-flow scheduler_perflow.py, ddim_eps.
for n in [4, 6, 8]:
    ends = [0.75, 0.5, 0.25, 0.0]
    per = [n // 4 + (w < n % 4) for w in range(4)]
    steps = [int(v * 1000) for w in range(4) for v in np.linspace(ends[w] + 0.25, ends[w], per[w], endpoint=False)] + [0]
    x = START
    for a, b in zip(steps, steps[1:]):
        t, e = a / 1000, next(e for e in ends if a / 1000 - 1e-4 > e)
        s = e + 0.25
        ab_s, ab_e = abar[int(s * 1000) - 1], abar[max(int(e * 1000) - 1, 0)]
        l = (ab_e / ab_s).sqrt()
        h = (1 - ab_e).sqrt() - (ab_e / ab_s * (1 - ab_s)).sqrt()
        d = l * (t - s) + (e - t)
        end = (l * (e - s) * x + h * (e - t) * net(x, t)) / d
        x = x + (b - a) / 1000 * (end - x) / (e - t)
    show(f"perflow-{n}", x)
