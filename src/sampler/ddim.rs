//! DDIM, from the trajectory of the probability flow (eta 0) to ancestral sampling (eta 1).

use super::{Combination, Curve, Error, Level, Process, Row, Setup, Table, process::TIMESTEPS};

/// Song et al. 2020, equation 12.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    table_to(setup, stride_below)
}

/// Ho et al. 2020, algorithm 2, between the timesteps of the grid: DDIM with the posterior's variance.
pub(super) fn ancestral_table(setup: &Setup<'_>) -> Result<Table, Error> {
    table_to(setup, |setup, i| setup.levels(i)[1])
}

fn table_to(setup: &Setup<'_>, target: fn(&Setup<'_>, usize) -> Level) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    Ok(setup.numbered_intervals(|i, at, _| {
        let (from, to) = (at.level, target(setup, i));
        let variance = (to.sigma / from.sigma)
            * (to.sigma / from.sigma)
            * (1.0 - (from.alpha / to.alpha) * (from.alpha / to.alpha));
        let deviation = setup.eta * libm::sqrt(variance.max(0.0));
        // What stays of the predicted noise; the rest is drawn anew.
        let kept = libm::sqrt((to.sigma * to.sigma - deviation * deviation).max(0.0)) / from.sigma;
        let update = Combination { x: kept, y: to.alpha - kept * from.alpha };
        let noise = (setup.eta > 0.0).then_some(deviation);
        Row { noise, ..setup.row(setup.here(at), at, update) }
    }))
}

/// diffusers' DDIM steps down by whole strides, and so not always to the next timestep of the grid.
fn stride_below(setup: &Setup<'_>, i: usize) -> Level {
    let steps = setup.steps();
    match setup.grid.curve {
        Curve::Usual | Curve::Leading { .. } | Curve::Trailing => {
            setup.parameterisation.process.level(setup.knots[i].t - (TIMESTEPS / steps) as f64)
        }
        _ => setup.levels(i)[1],
    }
}
