//! Every class, and what the keys of those mean that are neither exponential integrators nor for flows.

use super::{
    config::{Config, Read},
    flows::*,
    multistep::*,
    shared::*,
};

/// Takes the keys of a file and says those of a manifest.
type Reader = fn(&mut Config) -> Read<()>;

/// diffusers' classes that a sampler agrees with, without `Scheduler`.
pub(super) const CLASSES: [(&str, Reader); 26] = [
    ("DDIM", ddim),
    ("DDPM", ddpm),
    ("PNDM", pndm),
    ("LMSDiscrete", lms),
    ("EulerDiscrete", euler),
    ("EulerAncestralDiscrete", euler_ancestral),
    ("HeunDiscrete", heun),
    ("KDPM2Discrete", kdpm2),
    ("KDPM2AncestralDiscrete", kdpm2_ancestral),
    ("DPMSolverMultistep", dpm_multistep),
    ("DPMSolverSinglestep", dpm_singlestep),
    ("DPMSolverSDE", dpm_sde),
    ("UniPCMultistep", unipc),
    ("DEISMultistep", deis),
    ("SASolver", sa),
    ("EDMEuler", edm_euler),
    ("EDMDPMSolverMultistep", edm_dpm),
    ("LCM", lcm),
    ("TCD", tcd),
    ("CMStochasticIterative", consistency),
    ("SCM", scm),
    ("FlowMatchEulerDiscrete", flow_euler),
    ("FlowMatchHeunDiscrete", flow_heun),
    ("FlowMatchLCM", flow_lcm),
    ("FlowMapEulerDiscrete", flow_map),
    ("LTXEulerAncestralRF", flow_ancestral),
];

fn ddim(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "ddim");
    timesteps(config, LINEAR)?;
    rescaled(config)?;
    predicts(config)?;
    not_thresholded(config)?;
    clamp(config, true)?;
    alpha_to_one(config, true)?;
    spacing(config, "leading", Spacing::Whole)?;
    Ok(())
}

fn ddpm(config: &mut Config) -> Read<()> {
    // The logarithm of the small variance is taken back again.
    let words = [("fixed_small", "ddpm"), ("fixed_small_log", "ddpm"), ("fixed_large", "ddpm-large")];
    let sampler = config.one_of("variance_type", "fixed_small", &words)?;
    solver(config, "diffusion", sampler);
    timesteps(config, LINEAR)?;
    rescaled(config)?;
    predicts(config)?;
    not_thresholded(config)?;
    clamp(config, true)?;
    spacing(config, "leading", Spacing::Whole)?;
    Ok(())
}

fn pndm(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "plms");
    if !config.flag("skip_prk_steps", false)? {
        return config.wrong("skip_prk_steps", false, "the Runge-Kutta steps are not supported: try true");
    }
    timesteps(config, LINEAR)?;
    predicts(config)?;
    alpha_to_one(config, false)?;
    spacing(config, "leading", Spacing::Whole)?;
    Ok(())
}

fn lms(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "lms");
    config.say("order", 4);
    timesteps(config, LINEAR)?;
    predicts(config)?;
    levels_within(config, &[])
}

fn euler(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "euler");
    timesteps(config, LINEAR)?;
    rescaled(config)?;
    let kind = config.text("timestep_type", "discrete")?;
    // diffusers looks at it for this prediction only.
    if kind == "continuous" && config.is("prediction_type", "v_prediction") {
        return config.wrong("timestep_type", "continuous", "EDM's v is not supported");
    }
    predicts(config)?;
    config.one_of("interpolation_type", "linear", &[("linear", ())])?;
    config.nothing("sigma_min", ELSEWHERE)?;
    config.nothing("sigma_max", ELSEWHERE)?;
    end(config)?;
    levels_within(config, &[])
}

fn euler_ancestral(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "euler-ancestral");
    timesteps(config, LINEAR)?;
    rescaled(config)?;
    predicts(config)?;
    spacing(config, "linspace", Spacing::Fractional)?;
    Ok(())
}

fn heun(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "heun");
    timesteps(config, NARROW)?;
    predicts(config)?;
    clamp(config, false)?;
    levels_within(config, &[])
}

fn kdpm2(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "dpm-2");
    timesteps(config, NARROW)?;
    predicts(config)?;
    levels_within(config, &[("karras", "nearest")])
}

fn kdpm2_ancestral(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "dpm-2-ancestral");
    timesteps(config, NARROW)?;
    predicts(config)?;
    levels_within(config, &[("karras", "nearest")])
}

fn dpm_sde(config: &mut Config) -> Read<()> {
    solver(config, "diffusion", "dpmpp-sde");
    timesteps(config, NARROW)?;
    predicts(config)?;
    config.nothing("noise_sampler_seed", "the noise has one seed, that of the run")?;
    levels_within(config, &[])
}

/// Noise levels with EDM's preconditioning.
fn edm(config: &mut Config) -> Read<()> {
    config.word("family", "diffusion");
    config.one_of("prediction_type", "epsilon", &[("epsilon", ())])?;
    config.word("prediction", "edm");
    config.word("time", "log-sigma");
    config.say("time_scale", 0.25);
    let sigma_max = config.number("sigma_max", 80.0)?;
    config.say("sigma_max", sigma_max);
    // The initial state is made as if it had data of deviation 1 as well.
    config.say("temperature", (1.0 + sigma_max.powi(-2)).sqrt());
    for (key, default) in [("sigma_min", 0.002), ("sigma_data", 0.5)] {
        let value = config.number(key, default)?;
        config.say(key, value);
    }
    // The number of timesteps it is made with is not that of a run.
    config.number("num_train_timesteps", 1000.0)?;
    let words = [("karras", "edm"), ("exponential", "exponential")];
    let schedule = config.one_of("sigma_schedule", "karras", &words)?;
    config.word("schedule", schedule);
    let rho = config.number("rho", 7.0)?;
    if schedule == "edm" {
        config.say("rho", rho);
    }
    end(config)?;
    Ok(())
}

fn edm_euler(config: &mut Config) -> Read<()> {
    config.word("sampler", "euler");
    edm(config)
}

fn edm_dpm(config: &mut Config) -> Read<()> {
    let heun = heun_type(config)?;
    let words = [
        ("dpmsolver++", ["dpmpp-2m", "dpmpp-2m-heun"]),
        ("deis", ["dpmpp-2m", "dpmpp-2m-heun"]),
        ("sde-dpmsolver++", ["dpmpp-2m-sde", "dpmpp-2m-sde-heun"]),
    ];
    let sampler = config.one_of("algorithm_type", "dpmsolver++", &words)?[usize::from(heun)];
    config.word("sampler", sampler);
    let order = order(config, "solver_order", 2.0)?;
    lower_at_the_end(config, order)?;
    config.only("euler_at_final", false, "the last step of a long run is not Euler's here")?;
    not_thresholded(config)?;
    edm(config)
}

/// Latent consistency models. The last step is the clean sample, whatever the data's alpha.
fn latent_consistency(config: &mut Config, sampler: &str) -> Read<()> {
    solver(config, "consistency", sampler);
    timesteps(config, LATENT)?;
    rescaled(config)?;
    predicts(config)?;
    not_thresholded(config)?;
    clamp(config, false)?;
    let points = config.number("original_inference_steps", 50.0)?;
    config.word("schedule", "origin");
    config.say("points", points);
    Ok(())
}

fn lcm(config: &mut Config) -> Read<()> {
    config.only_number("timestep_scaling", 10.0, "LCM counts timesteps in tenths here")?;
    latent_consistency(config, "lcm")
}

fn tcd(config: &mut Config) -> Read<()> {
    latent_consistency(config, "tcd")
}

fn consistency(config: &mut Config) -> Read<()> {
    solver(config, "consistency", "consistency");
    config.word("prediction", "edm-consistency");
    config.word("time", "log-sigma");
    config.say("time_scale", 250);
    for (key, default) in [("sigma_min", 0.002), ("sigma_max", 80.0), ("sigma_data", 0.5), ("rho", 7.0)] {
        let value = config.number(key, default)?;
        config.say(key, value);
    }
    config.word("schedule", "karras-strides");
    let points = config.number("num_train_timesteps", 40.0)?;
    config.say("points", points);
    let noise = config.number("s_noise", 1.0)?;
    config.say("noise_scale", noise);
    if config.flag("clip_denoised", true)? {
        config.say("clamp", 1);
    }
    Ok(())
}

/// SANA-Sprint, whose pipeline turns the output of a rectified flow's network into TrigFlow's.
fn scm(config: &mut Config) -> Read<()> {
    solver(config, "consistency", "scm");
    config.one_of("prediction_type", "trigflow", &[("trigflow", ())])?;
    config.word("prediction", "velocity");
    config.word("time", "angle-share");
    let sigma_data = config.number("sigma_data", 0.5)?;
    config.say("sigma_data", sigma_data);
    config.number("num_train_timesteps", 1000.0)?;
    Ok(())
}
