//! Linear multistep: the slope as a polynomial through up to four estimates, integrated exactly over a step.

use super::{Combination, Error, MAX_HISTORY, Row, Setup, Table};

/// As many estimates as can be kept, and this one.
const ORDER: u8 = MAX_HISTORY as u8 + 1;

/// Adams and Bashforth's method on uneven steps of `sigma / alpha`.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require_noise_levels()?;
    let order = usize::from(setup.options.order.unwrap_or(ORDER));
    let table = setup.numbered_intervals(|i, at, _| {
        let [from, to] = setup.levels(i);
        let mut levels = [0.0; ORDER as usize];
        let count = order.min(i + 1);
        (0..count).for_each(|k| levels[k] = setup.knots[i - k].level.ratio());
        let weight = |j| to.alpha * integral(&levels[..count], j, to.ratio());
        // The slope of the state divided by alpha.
        let slope = Combination { x: 1.0 / from.sigma, y: -1.0 / from.ratio() };
        let newest = weight(0);
        let update = Combination { x: to.alpha / from.alpha + newest * slope.x, y: newest * slope.y };
        let mut row = Row { keep: slope, ..setup.row(setup.here(at), at, update) };
        (1..count).for_each(|k| row.earlier[k - 1] = weight(k));
        row
    });
    Ok(setup.scaled_start(table))
}

/// From the first of `nodes` to `end`, of the polynomial that is 1 at node `j` and 0 at the others.
fn integral(nodes: &[f64], j: usize, end: f64) -> f64 {
    let others = || nodes.iter().enumerate().filter(move |(k, _)| *k != j);
    let polynomial = |at: f64| others().map(|(_, node)| (at - node) / (nodes[j] - node)).product::<f64>();
    let (centre, half) = (0.5 * (nodes[0] + end), 0.5 * (end - nodes[0]));
    // Gauss and Legendre's rule of two points is exact for cubics.
    let offset = half / libm::sqrt(3.0);
    half * (polynomial(centre - offset) + polynomial(centre + offset))
}
