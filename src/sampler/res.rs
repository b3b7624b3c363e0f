//! RES, the refined exponential solver, in its multistep form.

use super::{
    Error, Level, Process, Setup, Table,
    exponential::{Integrand, exact, weights},
};

/// Zhang et al. 2023, arXiv 2308.02157, of order two. As in the reference, `eta` leads below the next noise level and noise up
/// to it again, and the latest estimates lie as far apart as that took.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    let knows = |process| !matches!(process, Process::Trigonometric { .. });
    setup.require(knows, "noise levels, timesteps or a flow")?;
    let mut table = setup.integrate(Integrand::Data, |i| {
        let [from, to] = ends(setup, i);
        let shrink = below(setup, i) / from.ratio();
        let z = libm::log(shrink);
        // The last step may have no length.
        let weights = if i == 0 || z == 0.0 {
            weights(&[0.0], z, exact)
        } else {
            let before = libm::log(ends(setup, i - 1)[0].ratio() / below(setup, i - 1));
            weights(&[0.0, before / z], z, exact)
        };
        let gain = to.alpha * (1.0 - shrink);
        (shrink * to.alpha / from.alpha, weights.map(|weight| gain * weight))
    });
    for (i, row) in table.rows.iter_mut().enumerate() {
        let ([_, to], down) = (ends(setup, i), below(setup, i));
        let up = libm::sqrt((to.ratio() - down) * (to.ratio() + down));
        row.noise = (setup.eta > 0.0 && to != Level::DATA).then_some(to.alpha * up);
    }
    Ok(table)
}

/// The reference takes the state of a flow for the data and their noise: its steps are in `ln(sigma)` everywhere.
fn ends(setup: &Setup<'_>, i: usize) -> [Level; 2] {
    let flow = setup.parameterisation.process == Process::RectifiedFlow;
    setup.levels(i).map(|level| if flow { Level { alpha: 1.0, ..level } } else { level })
}

/// The noise level that step `i` leads to, below the one that it ends with.
fn below(setup: &Setup<'_>, i: usize) -> f64 {
    let [high, low] = ends(setup, i).map(Level::ratio);
    let up = setup.eta * low * libm::sqrt(1.0 - (low / high) * (low / high));
    libm::sqrt((low - up) * (low + up))
}
