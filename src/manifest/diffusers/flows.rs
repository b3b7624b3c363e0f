//! Classes of rectified flows and flow maps.

use super::{
    config::{Config, Read},
    shared::*,
};

/// What a rectified flow is shifted by.
pub(super) fn shift(config: &mut Config, key: &'static str) -> Read<()> {
    let shift = config.number(key, 1.0)?;
    if !config.flag("use_dynamic_shifting", false)? {
        config.say("shift", shift);
        return Ok(());
    }
    config.lacks_shift();
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

pub(super) fn terminal(config: &mut Config) -> Read<()> {
    let terminal = config.number("shift_terminal", 0.0)?;
    // 0 and null switch it off.
    if terminal != 0.0 {
        config.say("terminal", terminal);
    }
    Ok(())
}

pub(super) fn flow_euler(config: &mut Config) -> Read<()> {
    let sampler = if config.flag("stochastic_sampling", false)? { "renoise" } else { "euler" };
    flow_matching(config, sampler)
}

pub(super) fn flow_heun(config: &mut Config) -> Read<()> {
    flow(config, "rectified-flow", "heun")?;
    config.word("schedule", "linspace");
    let shift = config.number("shift", 1.0)?;
    config.say("shift", shift);
    Ok(())
}

pub(super) fn flow_lcm(config: &mut Config) -> Read<()> {
    config.nothing("scale_factors", "samples keep their size here")?;
    config.text("upscale_mode", "")?;
    flow_matching(config, "renoise")
}

pub(super) fn flow_map(config: &mut Config) -> Read<()> {
    flow(config, "flow-map", "meanflow")?;
    config.word("schedule", "uniform");
    let shift = config.number("shift", 1.0)?;
    config.say("shift", shift);
    Ok(())
}

/// It has its times from `FlowMatchEulerDiscreteScheduler`.
pub(super) fn flow_ancestral(config: &mut Config) -> Read<()> {
    for (key, word) in [("eta", "eta"), ("s_noise", "noise_scale")] {
        let value = config.number(key, 1.0)?;
        config.say(word, value);
    }
    flow_matching(config, "euler-ancestral")
}
