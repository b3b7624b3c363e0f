//! DEIS: the noise, integrated along the polynomial through past estimates.

use super::{
    Error, Setup, Table,
    exponential::{Integrand, Step, exact, weights},
};

/// Zhang and Chen 2022, arXiv 2204.13902, with a polynomial in `ln(sigma / alpha)`: the log-rho of the reference.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|_| true, "any process")?;
    Ok(setup.after_pure_noise(|setup| {
        setup.integrate(Integrand::Noise, |i| {
            let step = Step::new(Integrand::Noise, setup.ends(i), 0.0);
            let nodes = &setup.nodes(i)[..setup.order_of(i)];
            (step.keep, weights(nodes, step.z, exact).map(|weight| step.gain * weight))
        })
    }))
}
