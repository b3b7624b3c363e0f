//! DPM-Solver++(3M) for the reverse SDE.

use super::{Combination, Error, Row, Setup, Table};

/// k-diffusion's `sample_dpmpp_3m_sde`, of order one in the first step and two in the second; of order two throughout it is
/// `sample_dpmpp_2m_sde` with `solver_type` heun. `eta` 0 is the probability flow.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_noise_levels()?;
    let table = setup.numbered_intervals(|i, at, _| {
        let [from, to] = setup.levels(i);
        if to.sigma == 0.0 {
            return setup.row(setup.here(at), at, Combination::OTHER);
        }
        let (eta, shrink) = (setup.eta, to.ratio() / from.ratio());
        let left = libm::pow(shrink, 1.0 + eta);
        let mut weights = slopes(setup, i).map(|weight| to.alpha * weight);
        weights[0] += to.alpha * (1.0 - left);
        let [newest, one, two] = weights;
        let update = Combination { x: left * to.alpha / from.alpha, y: newest };
        let noise = (eta > 0.0).then(|| to.sigma * libm::sqrt(1.0 - libm::pow(shrink, 2.0 * eta)));
        Row { earlier: [one, two, 0.0], noise, ..setup.row(setup.here(at), at, update) }
    });
    Ok(setup.scaled_start(table))
}

/// Weights of the latest three estimates in what their first and second differences add.
fn slopes(setup: &Setup<'_>, i: usize) -> [f64; 3] {
    let length = |i: usize| {
        let [from, to] = setup.levels(i);
        libm::log(from.ratio() / to.ratio())
    };
    let h = (1.0 + setup.eta) * length(i);
    let phi_2 = libm::expm1(-h) / h + 1.0;
    let phi_3 = phi_2 / h - 0.5;
    match usize::from(setup.order).min(i + 1) {
        1 => [0.0; 3],
        2 => {
            let slope = phi_2 * length(i) / length(i - 1);
            [slope, -slope, 0.0]
        }
        _ => {
            let [one, two] = [length(i - 1) / length(i), length(i - 2) / length(i)];
            // Of the difference over the step before, and over the one before that.
            let bend = (phi_2 * one - phi_3) / (one + two);
            let (newer, older) = ((phi_2 + bend) / one, -bend / two);
            [newer, older - newer, -older]
        }
    }
}
