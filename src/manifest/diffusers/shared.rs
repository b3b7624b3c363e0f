//! Keys that several classes have.

use std::format;

use super::config::{Config, Read};

pub(super) const LINEAR: (&str, f64, f64) = ("linear", 0.0001, 0.02);
/// The defaults of the classes that come from k-diffusion.
pub(super) const NARROW: (&str, f64, f64) = ("linear", 0.00085, 0.012);
pub(super) const LATENT: (&str, f64, f64) = ("scaled_linear", 0.00085, 0.012);

pub(super) const MORE_OUTPUTS: &str = "networks that predict their variance as well are not supported";
pub(super) const ELSEWHERE: &str = "this has no counterpart here";

/// The process of timesteps.
pub(super) fn timesteps(config: &mut Config, (shape, first, last): (&str, f64, f64)) -> Read<()> {
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

pub(super) fn rescaled(config: &mut Config) -> Read<()> {
    if config.flag("rescale_betas_zero_snr", false)? {
        config.say("zero_terminal_snr", true);
    }
    Ok(())
}

pub(super) fn predicts(config: &mut Config) -> Read<()> {
    let words = [("epsilon", "epsilon"), ("v_prediction", "v"), ("sample", "x0")];
    let prediction = config.one_of("prediction_type", "epsilon", &words)?;
    config.word("prediction", prediction);
    Ok(())
}

pub(super) fn not_thresholded(config: &mut Config) -> Read<()> {
    config.only("thresholding", false, "clean samples are clamped here, and not thresholded")
}

pub(super) fn clamp(config: &mut Config, default: bool) -> Read<()> {
    let limit = config.number("clip_sample_range", 1.0)?;
    if config.flag("clip_sample", default)? {
        config.say("clamp", limit);
    }
    Ok(())
}

pub(super) fn solver(config: &mut Config, family: &str, sampler: &str) {
    config.word("family", family);
    config.word("sampler", sampler);
}

/// How a class spaces its timesteps.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Spacing {
    /// linspace is not rounded.
    Fractional,
    Whole,
    /// For one step more, without the last.
    Open,
}

pub(super) fn spacing(config: &mut Config, default: &str, kind: Spacing) -> Read<&'static str> {
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
pub(super) fn levels(
    config: &mut Config,
    more: &[(&'static str, &'static str)],
) -> Read<Option<&'static str>> {
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
pub(super) fn levels_within(config: &mut Config, rounding: &[(&str, &str)]) -> Read<()> {
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

pub(super) fn end(config: &mut Config) -> Read<bool> {
    let data = config.one_of("final_sigmas_type", "zero", &[("zero", true), ("sigma_min", false)])?;
    if !data {
        config.word("stop", "sigma-min");
    }
    Ok(data)
}

pub(super) fn alpha_to_one(config: &mut Config, default: bool) -> Read<()> {
    if !config.flag("set_alpha_to_one", default)? {
        config.word("stop", "sigma-min");
    }
    Ok(())
}
