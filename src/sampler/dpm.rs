//! DPM-Solver and DPM-Solver++ as multistep rules: each step looks back at the estimates of those before it.

use super::{
    Error, Process, Setup, Table,
    exponential::{Integrand, Meeting, Step, deviation, exact, midway, moments, weights},
};

/// Lu et al. 2022, arXiv 2211.01095, algorithm 2.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    multistep(setup, Integrand::Data, midway, false)
}

/// The same with the exact integral of the line through two estimates.
pub(super) fn heun_table(setup: &Setup<'_>) -> Result<Table, Error> {
    multistep(setup, Integrand::Data, exact, false)
}

/// Appendix D: the same for the reverse SDE.
pub(super) fn sde_table(setup: &Setup<'_>) -> Result<Table, Error> {
    multistep(setup, Integrand::Data, midway, true)
}

pub(super) fn sde_heun_table(setup: &Setup<'_>) -> Result<Table, Error> {
    multistep(setup, Integrand::Data, exact, true)
}

/// Lu et al. 2022, arXiv 2206.00927, which integrates the noise.
pub(super) fn noise_table(setup: &Setup<'_>) -> Result<Table, Error> {
    multistep(setup, Integrand::Noise, midway, false)
}

pub(super) fn noise_heun_table(setup: &Setup<'_>) -> Result<Table, Error> {
    multistep(setup, Integrand::Noise, exact, false)
}

pub(super) fn noise_sde_table(setup: &Setup<'_>) -> Result<Table, Error> {
    multistep(setup, Integrand::Noise, midway, true)
}

fn multistep(
    setup: &Setup<'_>,
    integrand: Integrand,
    meeting: Meeting,
    stochastic: bool,
) -> Result<Table, Error> {
    setup.require_for(integrand)?;
    let tau = if stochastic { 1.0 } else { 0.0 };
    let table = setup.integrate(integrand, |i| {
        let step = Step::new(integrand, setup.ends(i), tau);
        let (nodes, order) = (setup.nodes(i), setup.order_of(i));
        let weights = match order {
            3 => third_order(nodes, step.z, stochastic),
            _ => weights(&nodes[..order], step.z, meeting),
        };
        (step.keep, weights.map(|weight| step.gain * weight))
    });
    if !stochastic {
        return Ok(table);
    }
    Ok(setup.draw(table, |i| deviation(integrand, setup.ends(i), tau)))
}

/// The reference's weights of three estimates. They are not the mean of the parabola through them: that would count the
/// bend twice as much. For the reverse SDE it has the half that belongs to the bend with the other sign.
fn third_order([_, one, two]: [f64; 3], z: f64, stochastic: bool) -> [f64; 4] {
    let [_, slope, square, _] = moments(z);
    let bend = 0.5 * square + if stochastic { 1.0 / libm::expm1(z) } else { 0.0 };
    // Weights of the slopes between the latest two estimates and between the two before.
    let early = (slope * one - bend) / -two;
    let late = slope - early;
    let (late, early) = (late / -one, early / (one - two));
    [1.0 + late, early - late, -early, 0.0]
}

impl Setup<'_> {
    /// Noise cannot be integrated from a state of nothing else.
    pub(super) fn require_for(&self, integrand: Integrand) -> Result<(), Error> {
        match integrand {
            Integrand::Data => self.require(|_| true, "any process"),
            Integrand::Noise => self.require(
                |process| matches!(process, Process::Exploding { .. } | Process::Preserving { .. }),
                "noise levels or timesteps",
            ),
        }
    }
}
