//! Classes of exponential integrators.

use super::{
    config::{Config, Read},
    flows::{shift, terminal},
    shared::*,
};

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

fn family_of(config: &mut Config) -> Read<&'static str> {
    Ok(if config.flag("use_flow_sigmas", false)? { "rectified-flow" } else { "diffusion" })
}

pub(super) fn order(config: &mut Config, key: &'static str, default: f64) -> Read<f64> {
    let order = config.number(key, default)?;
    config.say("order", order);
    Ok(order)
}

/// Steps of lower order at the end of a short run.
pub(super) fn lower_at_the_end(config: &mut Config, order: f64) -> Read<()> {
    if config.flag("lower_order_final", true)? || order == 1.0 {
        return Ok(());
    }
    config.wrong("lower_order_final", false, "short runs end with steps of lower order here")
}

pub(super) fn dpm_multistep(config: &mut Config) -> Read<()> {
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

pub(super) fn heun_type(config: &mut Config) -> Read<bool> {
    // Those of other solvers mean the default.
    let words = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
    config.one_of("solver_type", "midpoint", &words)
}

pub(super) fn dpm_singlestep(config: &mut Config) -> Read<()> {
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

pub(super) fn unipc(config: &mut Config) -> Read<()> {
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

pub(super) fn deis(config: &mut Config) -> Read<()> {
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

pub(super) fn sa(config: &mut Config) -> Read<()> {
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
