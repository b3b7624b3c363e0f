//! Flow maps that jump between two noise levels, and may noise the state again on the way: CTM, TCD, IMM.

use super::{Error, Knot, Level, Prediction, Process, Row, Setup, Table};

/// CTM's gamma-sampling: jump below the next noise level, to `sqrt(1 - gamma^2)` of it, and noise again up to it. Gamma 0
/// jumps exactly, gamma 1 is multistep consistency sampling.
pub(super) fn ctm_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Exploding { .. }), "a noise level as time")?;
    let (gamma, sigma_min) = (setup.eta, setup.parameterisation.process.end());
    Ok(setup.numbered_intervals(|i, at, Knot { t: next, .. }| {
        let s = libm::sqrt(1.0 - gamma * gamma) * (next - sigma_min) + sigma_min;
        let update = at.level.transfer(Level { alpha: 1.0, sigma: s });
        let noise = (gamma > 0.0 && !setup.is_last(i)).then(|| libm::sqrt((next * next - s * s).max(0.0)));
        Row { noise, ..setup.row(setup.parameterisation.inputs(at.t, s), at, update) }
    }))
}

/// TCD's strategic stochastic sampling: DDIM to a timestep below the next, and noise again up to it. The last step
/// ends at timestep 0, so a little noise stays.
pub(super) fn tcd_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    let process = setup.parameterisation.process;
    Ok(setup.numbered_intervals(|i, at, to| {
        let next = to.t.max(0.0);
        let s = libm::floor((1.0 - setup.eta) * next);
        let (low, up) = (process.level(s), process.level(next));
        let mut update = at.level.transfer(low);
        let kept = up.alpha / low.alpha;
        let draws = setup.eta > 0.0 && !setup.is_last(i);
        if draws {
            update.x *= kept;
            update.y *= kept;
        }
        let noise = draws.then(|| libm::sqrt((1.0 - kept * kept).max(0.0)));
        Row { noise, ..setup.row(setup.parameterisation.inputs(at.t, s), at, update) }
    }))
}

/// IMM: DDIM from `t` to `s`, with a network that knows both.
pub(super) fn imm_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_rectified_flow()?;
    let prediction = setup.parameterisation.prediction;
    if !matches!(prediction, Prediction::ScaledVelocity { .. } | Prediction::SimpleEdm { .. }) {
        return Err(setup.unsupported("this prediction", "euler_fm's or simple_edm's"));
    }
    Ok(setup.intervals(|at, to| {
        let clamp = setup.options.clamp.filter(|_| to.t == 0.0);
        let update = at.level.transfer(to.level);
        Row { limit: clamp, ..setup.row(setup.parameterisation.inputs(at.t, to.t), at, update) }
    }))
}
