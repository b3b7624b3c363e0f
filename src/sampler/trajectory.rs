//! Flow maps that jump between two noise levels, and may noise the state again on the way: CTM, TCD, IMM.

use super::{Error, Level, Prediction, Process, Row, Setup, Table};

/// CTM's gamma-sampling: jump below the next noise level, to `sqrt(1 - gamma^2)` of it, and noise again up to it. Gamma 0
/// jumps exactly, gamma 1 is multistep consistency sampling.
pub(super) fn ctm_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Exploding { .. }), "a noise level as time")?;
    let (gamma, sigma_min) = (setup.eta, setup.parameterisation.process.end());
    let last = setup.times.len() - 2;
    Ok(setup.numbered_intervals(|i, t, next| {
        let s = libm::sqrt(1.0 - gamma * gamma) * (next - sigma_min) + sigma_min;
        let update = Level { alpha: 1.0, sigma: t }.transfer(Level { alpha: 1.0, sigma: s });
        let noise = (gamma > 0.0 && i < last).then(|| libm::sqrt((next * next - s * s).max(0.0)));
        Row { noise, ..setup.row(setup.parameterisation.inputs(t, s), t, update) }
    }))
}

/// TCD's strategic stochastic sampling: DDIM to a timestep below the next, and noise again up to it. The last step
/// ends at timestep 0, so a little noise stays.
pub(super) fn tcd_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    let process = setup.parameterisation.process;
    let last = setup.times.len() - 2;
    Ok(setup.numbered_intervals(|i, t, next| {
        let next = next.max(0.0);
        let s = libm::floor((1.0 - setup.eta) * next);
        let (low, up) = (process.level(s), process.level(next));
        let mut update = process.level(t).transfer(low);
        let kept = up.alpha / low.alpha;
        let draws = setup.eta > 0.0 && i < last;
        if draws {
            update.x *= kept;
            update.y *= kept;
        }
        let noise = draws.then(|| libm::sqrt((1.0 - kept * kept).max(0.0)));
        Row { noise, ..setup.row(setup.parameterisation.inputs(t, s), t, update) }
    }))
}

/// IMM: DDIM from `t` to `s`, with a network that knows both.
pub(super) fn imm_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_rectified_flow()?;
    let prediction = setup.parameterisation.prediction;
    if !matches!(prediction, Prediction::ScaledVelocity { .. } | Prediction::SimpleEdm { .. }) {
        return Err(setup.unsupported("this prediction", "euler_fm's or simple_edm's"));
    }
    let process = setup.parameterisation.process;
    Ok(setup.intervals(|t, s| {
        let clamp = setup.options.clamp.filter(|_| s == 0.0);
        let update = process.level(t).transfer(process.level(s));
        Row { limit: clamp, ..setup.row(setup.parameterisation.inputs(t, s), t, update) }
    }))
}
