//! DPM-Solver++, which is exact for the linear part and looks back at one estimate for the rest.

use super::{Combination, Error, Knot, Process, Row, Setup, Table};

/// Lu et al. 2022, algorithm 2 (2M), of order one in the first and in the last step.
pub(super) fn multistep_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(
        |process| !matches!(process, Process::Trigonometric { .. }),
        "noise levels, timesteps or a flow",
    )?;
    Ok(setup.numbered_intervals(|i, at, _| {
        let [from, to] = setup.levels(i);
        let shrink = to.ratio() / from.ratio();
        second_order(setup, i, at, to.sigma / from.sigma, to.alpha * (1.0 - shrink))
    }))
}

/// The same for the reverse SDE, which draws after every step; the reference's midpoint form.
pub(super) fn stochastic_table(setup: &Setup<'_>) -> Result<Table, Error> {
    let knows = |process| matches!(process, Process::Exploding { .. } | Process::Preserving { .. });
    setup.require(knows, "noise levels or timesteps")?;
    Ok(setup.numbered_intervals(|i, at, _| {
        let [from, to] = setup.levels(i);
        let shrink = to.ratio() / from.ratio();
        let forgotten = 1.0 - shrink * shrink;
        let row = second_order(setup, i, at, shrink * to.sigma / from.sigma, to.alpha * forgotten);
        Row { noise: Some(to.sigma * libm::sqrt(forgotten)), ..row }
    }))
}

/// `x' = keep * x + grow * D`, where `D` draws the estimates out to the middle of the step.
fn second_order(setup: &Setup<'_>, i: usize, at: Knot, keep: f64, grow: f64) -> Row {
    // Half of the step over the one before it, both in lambda = ln(alpha / sigma). It is 0 after pure noise.
    let ahead = if i == 0 || setup.is_last(i) {
        0.0
    } else {
        let ([before, _], [from, to]) = (setup.levels(i - 1), setup.levels(i));
        0.5 * libm::log(to.ratio() / from.ratio()) / libm::log(from.ratio() / before.ratio())
    };
    let update = Combination { x: keep, y: grow * (1.0 + ahead) };
    let mut row = setup.row(setup.here(at), at, update);
    row.earlier[0] = -grow * ahead;
    row
}
