//! What the keys of each class mean.

use std::format;

use super::config::{Config, Read};

/// diffusers' classes that a sampler agrees with, without `Scheduler`.
pub(super) const CLASSES: [(&str, fn(&mut Config) -> Read<()>); 26] = [
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

const LINEAR: (&str, f64, f64) = ("linear", 0.0001, 0.02);
/// The defaults of the classes that come from k-diffusion.
const NARROW: (&str, f64, f64) = ("linear", 0.00085, 0.012);
const LATENT: (&str, f64, f64) = ("scaled_linear", 0.00085, 0.012);

const MORE_OUTPUTS: &str = "networks that predict their variance as well are not supported";
const ELSEWHERE: &str = "this has no counterpart here";

/// The process of timesteps.
fn timesteps(config: &mut Config, (shape, first, last): (&str, f64, f64)) -> Read<()> {
    config.only_number("num_train_timesteps", 1000.0, "a process has 1000 timesteps here")?;
    config.nothing("trained_betas", "betas of one's own are not supported")?;
    config.word("time", "timestep");
    let words = [("linear", "linear"), ("scaled_linear", "scaled-linear"), ("squaredcos_cap_v2", "cosine")];
    let betas = config.one_of("beta_schedule", shape, &words)?;
    config.word("betas", betas);
    let (first, last) = (config.number("beta_start", first)?, config.number("beta_end", last)?);
    if betas != "cosine" {
        config.say("beta_start", first);
        config.say("beta_end", last);
    }
    Ok(())
}

fn rescaled(config: &mut Config) -> Read<()> {
    if config.flag("rescale_betas_zero_snr", false)? {
        config.say("zero_terminal_snr", true);
    }
    Ok(())
}

fn predicts(config: &mut Config) -> Read<()> {
    let words = [("epsilon", "epsilon"), ("v_prediction", "v"), ("sample", "x0")];
    let prediction = config.one_of("prediction_type", "epsilon", &words)?;
    config.word("prediction", prediction);
    Ok(())
}

fn not_thresholded(config: &mut Config) -> Read<()> {
    config.only("thresholding", false, "clean samples are clamped here, and not thresholded")
}

fn clamp(config: &mut Config, default: bool) -> Read<()> {
    let limit = config.number("clip_sample_range", 1.0)?;
    if config.flag("clip_sample", default)? {
        config.say("clamp", limit);
    }
    Ok(())
}

fn solver(config: &mut Config, family: &str, sampler: &str) {
    config.word("family", family);
    config.word("sampler", sampler);
}

/// How a class spaces its timesteps.
#[derive(Clone, Copy, PartialEq)]
enum Spacing {
    /// linspace is not rounded.
    Fractional,
    Whole,
    /// For one step more, without the last.
    Open,
}

fn spacing(config: &mut Config, default: &str, kind: Spacing) -> Read<&'static str> {
    let words = [("linspace", "linspace"), ("leading", "leading"), ("trailing", "trailing")];
    let spacing = config.one_of("timestep_spacing", default, &words)?;
    let offset = config.number("steps_offset", 0.0)?;
    match (spacing, kind) {
        ("trailing", _) | (_, Spacing::Fractional | Spacing::Whole) => config.word("schedule", spacing),
        _ => config.word("schedule", &format!("{spacing}-open")),
    }
    if (spacing, kind) == ("linspace", Spacing::Whole) {
        config.word("rounding", "nearest");
    }
    if spacing == "leading" {
        config.say("offset", offset);
    }
    Ok(spacing)
}

/// The switch for a curve over noise levels that is on, if there is one.
fn levels(config: &mut Config, more: &[(&'static str, &'static str)]) -> Read<Option<&'static str>> {
    let usual = [
        ("use_karras_sigmas", "karras"),
        ("use_exponential_sigmas", "exponential"),
        ("use_beta_sigmas", "beta"),
    ];
    let mut chosen = None;
    for (switch, word) in usual.iter().chain(more) {
        if config.flag(switch, false)? {
            if chosen.is_some() {
                return config.wrong(switch, true, "another curve is switched on as well");
            }
            chosen = Some(*word);
        }
    }
    Ok(chosen)
}

/// The spacing, or noise levels between its ends.
fn levels_within(config: &mut Config, rounding: &[(&str, &str)]) -> Read<()> {
    let Some(levels) = levels(config, &[])? else {
        spacing(config, "linspace", Spacing::Fractional)?;
        return Ok(());
    };
    let words = [("linspace", "linspace"), ("leading", "leading"), ("trailing", "trailing")];
    let within = config.one_of("timestep_spacing", "linspace", &words)?;
    let offset = config.number("steps_offset", 0.0)?;
    config.word("schedule", levels);
    config.word("within", within);
    if within == "leading" {
        config.say("offset", offset);
    }
    if let Some((_, rounding)) = rounding.iter().find(|(curve, _)| *curve == levels) {
        config.word("rounding", rounding);
    }
    Ok(())
}

fn end(config: &mut Config) -> Read<bool> {
    let data = config.one_of("final_sigmas_type", "zero", &[("zero", true), ("sigma_min", false)])?;
    if !data {
        config.word("stop", "sigma-min");
    }
    Ok(data)
}

fn alpha_to_one(config: &mut Config, default: bool) -> Read<()> {
    if !config.flag("set_alpha_to_one", default)? {
        config.word("stop", "sigma-min");
    }
    Ok(())
}

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

/// What the multistep solvers of diffusers share: their own spacings, all noise levels, and times of rectified flows.
struct Multistep {
    family: &'static str,
    /// Of a rectified flow.
    flow: &'static str,
    karras_rounds: bool,
    spaced: bool,
    ends_with_data: bool,
}

impl Multistep {
    fn read(&self, config: &mut Config) -> Read<()> {
        not_thresholded(config)?;
        config.word("family", self.family);
        if self.family == "rectified-flow" {
            return self.flow(config);
        }
        config.number("flow_shift", 1.0)?;
        let cosine = config.is("beta_schedule", "squaredcos_cap_v2");
        timesteps(config, LINEAR)?;
        rescaled(config)?;
        predicts(config)?;
        match levels(config, &[("use_lu_lambdas", "lu")])? {
            Some(levels) => {
                let rounds = matches!(levels, "karras" | "lu") && (self.karras_rounds || !cosine);
                config.word("schedule", levels);
                config.word("rounding", if rounds { "nearest" } else { "down" });
            }
            None if self.spaced => {
                spacing(config, "linspace", Spacing::Open)?;
            }
            None => config.word("schedule", "linspace-open"),
        }
        if self.ends_with_data {
            end(config)?;
        } else {
            config.word("stop", "sigma-min");
        }
        Ok(())
    }

    fn flow(&self, config: &mut Config) -> Read<()> {
        if levels(config, &[("use_lu_lambdas", "lu")])?.is_some() {
            let why = "the curve that is switched on as well takes the noise levels of another process";
            return config.wrong("use_flow_sigmas", true, why);
        }
        config.one_of("prediction_type", "epsilon", &[("flow_prediction", ())])?;
        config.only_number("num_train_timesteps", 1000.0, "a process has 1000 timesteps here")?;
        config.word("prediction", "velocity");
        config.word("time", "unit");
        config.say("time_scale", 1000);
        config.word("schedule", self.flow);
        config.word("rounding", "down");
        shift(config, "flow_shift")?;
        terminal(config)?;
        config.one_of("final_sigmas_type", "zero", &[("zero", ())])?;
        Ok(())
    }
}

/// What a rectified flow is shifted by.
fn shift(config: &mut Config, key: &'static str) -> Read<()> {
    let shift = config.number(key, 1.0)?;
    if !config.flag("use_dynamic_shifting", false)? {
        config.say("shift", shift);
        return Ok(());
    }
    config.lacks_shift();
    Ok(())
}

fn family_of(config: &mut Config) -> Read<&'static str> {
    Ok(if config.flag("use_flow_sigmas", false)? { "rectified-flow" } else { "diffusion" })
}

fn order(config: &mut Config, key: &'static str, default: f64) -> Read<f64> {
    let order = config.number(key, default)?;
    config.say("order", order);
    Ok(order)
}

/// Steps of lower order at the end of a short run.
fn lower_at_the_end(config: &mut Config, order: f64) -> Read<()> {
    if config.flag("lower_order_final", true)? || order == 1.0 {
        return Ok(());
    }
    config.wrong("lower_order_final", false, "short runs end with steps of lower order here")
}

fn dpm_multistep(config: &mut Config) -> Read<()> {
    let heun = heun_type(config)?;
    let words = [
        ("dpmsolver++", ["dpmpp-2m", "dpmpp-2m-heun"]),
        ("deis", ["dpmpp-2m", "dpmpp-2m-heun"]),
        ("sde-dpmsolver++", ["dpmpp-2m-sde", "dpmpp-2m-sde-heun"]),
        ("dpmsolver", ["dpm-solver", "dpm-solver-heun"]),
        ("sde-dpmsolver", ["dpm-solver-sde", ""]),
    ];
    let sampler = config.one_of("algorithm_type", "dpmsolver++", &words)?[usize::from(heun)];
    if sampler.is_empty() {
        return config.wrong("solver_type", "\"heun\"", "the noise's own SDE has only midpoint");
    }
    config.word("sampler", sampler);
    not_noise_to_the_data(config, sampler)?;
    let order = order(config, "solver_order", 2.0)?;
    lower_at_the_end(config, order)?;
    config.only("euler_at_final", false, "the last step of a long run is not Euler's here")?;
    config.nothing("variance_type", MORE_OUTPUTS)?;
    config.nothing("lambda_min_clipped", "the first timestep is the last of the training here")?;
    let family = family_of(config)?;
    Multistep { family, flow: "flow-sigmas", karras_rounds: false, spaced: true, ends_with_data: true }
        .read(config)
}

/// diffusers refuses it as well.
fn not_noise_to_the_data(config: &mut Config, sampler: &str) -> Read<()> {
    if sampler.starts_with("dpm-solver") && !config.is("final_sigmas_type", "sigma_min") {
        return config.wrong(
            "final_sigmas_type",
            "\"zero\"",
            "an integral of the noise ends at \"sigma_min\"",
        );
    }
    Ok(())
}

fn heun_type(config: &mut Config) -> Read<bool> {
    // Those of other solvers mean the default.
    let words = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
    config.one_of("solver_type", "midpoint", &words)
}

fn dpm_singlestep(config: &mut Config) -> Read<()> {
    if heun_type(config)? {
        return config.wrong("solver_type", "\"heun\"", "singlestep solvers have only midpoint here");
    }
    let words = [("dpmsolver++", "dpmpp-2s"), ("deis", "dpmpp-2s"), ("dpmsolver", "dpm-solver-2s")];
    let sampler = config.one_of("algorithm_type", "dpmsolver++", &words)?;
    config.word("sampler", sampler);
    not_noise_to_the_data(config, sampler)?;
    order(config, "solver_order", 2.0)?;
    // diffusers switches it on where the steps do not fill their blocks, and for runs that end with the data.
    config.flag("lower_order_final", false)?;
    config.nothing("variance_type", MORE_OUTPUTS)?;
    config.nothing("lambda_min_clipped", "the first timestep is the last of the training here")?;
    let family = family_of(config)?;
    Multistep { family, flow: "flow-sigmas", karras_rounds: true, spaced: false, ends_with_data: true }
        .read(config)
}

fn unipc(config: &mut Config) -> Read<()> {
    // Those of other solvers mean the default.
    let types = [("bh1", false), ("bh2", true), ("midpoint", true), ("heun", true), ("logrho", true)];
    let second = config.one_of("solver_type", "bh2", &types)?;
    let sampler = match (config.flag("predict_x0", true)?, second) {
        (true, true) => "unipc",
        (true, false) => "unipc-bh1",
        (false, true) => "unipc-noise",
        (false, false) => return config.wrong("predict_x0", false, "the noise has only bh2 here"),
    };
    config.word("sampler", sampler);
    let order = order(config, "solver_order", 2.0)?;
    lower_at_the_end(config, order)?;
    config.nothing("disable_corrector", "every step is corrected here")?;
    config.nothing("solver_p", "a predictor of one's own is not supported")?;
    config.nothing("sigma_min", ELSEWHERE)?;
    config.nothing("sigma_max", ELSEWHERE)?;
    let family = family_of(config)?;
    Multistep { family, flow: "linspace-open", karras_rounds: true, spaced: true, ends_with_data: true }
        .read(config)
}

fn deis(config: &mut Config) -> Read<()> {
    config.word("sampler", "deis");
    let words = [("deis", ()), ("dpmsolver", ()), ("dpmsolver++", ())];
    config.one_of("algorithm_type", "deis", &words)?;
    let words = [("logrho", ()), ("midpoint", ()), ("heun", ()), ("bh1", ()), ("bh2", ())];
    config.one_of("solver_type", "logrho", &words)?;
    let order = order(config, "solver_order", 2.0)?;
    lower_at_the_end(config, order)?;
    config.only("use_flow_sigmas", false, "diffusers' DEIS does not reach the data of a flow")?;
    Multistep { family: "diffusion", flow: "", karras_rounds: true, spaced: true, ends_with_data: false }
        .read(config)
}

fn sa(config: &mut Config) -> Read<()> {
    config.word("sampler", "sa-solver");
    config.one_of("algorithm_type", "data_prediction", &[("data_prediction", ())])?;
    let predictor = order(config, "predictor_order", 2.0)?;
    let corrector = config.number("corrector_order", 2.0)?;
    if corrector != predictor {
        return config.wrong("corrector_order", corrector, "it is the predictor's here");
    }
    lower_at_the_end(config, 2.0)?;
    config.nothing("tau_func", "how much noise is drawn anew is told by `eta` here")?;
    config.nothing("variance_type", MORE_OUTPUTS)?;
    config.nothing("lambda_min_clipped", "the first timestep is the last of the training here")?;
    config.only("use_flow_sigmas", false, "diffusers' SA-Solver does not reach the data of a flow")?;
    Multistep { family: "diffusion", flow: "", karras_rounds: true, spaced: true, ends_with_data: false }
        .read(config)
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

/// A rectified flow in thousandths.
fn flow(config: &mut Config, family: &str, sampler: &str) -> Read<()> {
    solver(config, family, sampler);
    config.word("prediction", "velocity");
    config.word("time", "unit");
    config.say("time_scale", 1000);
    config.only_number("num_train_timesteps", 1000.0, "a process has 1000 timesteps here")
}

/// Times as the class makes them when it is given none; pipelines whose shift depends on the size of the sample give even ones.
fn flow_matching(config: &mut Config, sampler: &str) -> Read<()> {
    flow(config, "rectified-flow", sampler)?;
    config.only("invert_sigmas", false, "times fall from noise to data here")?;
    for key in ["base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len"] {
        // What pipelines make a shift of.
        config.number(key, 0.0)?;
    }
    config.text("time_shift_type", "exponential")?;
    let levels = levels(config, &[])?;
    let dynamic = config.is_on("use_dynamic_shifting");
    shift(config, "shift")?;
    match levels {
        Some(_) if dynamic => {
            return config.wrong(
                "use_dynamic_shifting",
                true,
                "noise levels between shifted ends are not supported",
            );
        }
        Some(levels) => config.word("schedule", levels),
        None => config.word("schedule", if dynamic { "uniform" } else { "linspace" }),
    }
    terminal(config)
}

fn terminal(config: &mut Config) -> Read<()> {
    let terminal = config.number("shift_terminal", 0.0)?;
    // 0 and null switch it off.
    if terminal != 0.0 {
        config.say("terminal", terminal);
    }
    Ok(())
}

fn flow_euler(config: &mut Config) -> Read<()> {
    let sampler = if config.flag("stochastic_sampling", false)? { "renoise" } else { "euler" };
    flow_matching(config, sampler)
}

fn flow_heun(config: &mut Config) -> Read<()> {
    flow(config, "rectified-flow", "heun")?;
    config.word("schedule", "linspace");
    let shift = config.number("shift", 1.0)?;
    config.say("shift", shift);
    Ok(())
}

fn flow_lcm(config: &mut Config) -> Read<()> {
    config.nothing("scale_factors", "samples keep their size here")?;
    config.text("upscale_mode", "")?;
    flow_matching(config, "renoise")
}

fn flow_map(config: &mut Config) -> Read<()> {
    flow(config, "flow-map", "meanflow")?;
    config.word("schedule", "uniform");
    let shift = config.number("shift", 1.0)?;
    config.say("shift", shift);
    Ok(())
}

/// It has its times from `FlowMatchEulerDiscreteScheduler`.
fn flow_ancestral(config: &mut Config) -> Read<()> {
    for (key, word) in [("eta", "eta"), ("s_noise", "noise_scale")] {
        let value = config.number(key, 1.0)?;
        config.say(word, value);
    }
    flow_matching(config, "euler-ancestral")
}
