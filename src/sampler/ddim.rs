//! DDIM, from the trajectory of the probability flow (eta 0) to ancestral sampling (eta 1), and back to the noise.

use super::{
    Combination, Curve, Error, Knot, Level, Prediction, Process, Row, Setup, Table, process::TIMESTEPS,
};

/// Song et al. 2020, equation 12. A clamp leaves the noise as the network has it.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    Ok(setup.numbered_intervals(|i, at, _| {
        let to = stride_below(setup, i);
        let deviation = setup.eta * deviations(at.level, to).0;
        // What stays of the predicted noise; the rest is drawn anew.
        let left = libm::sqrt((to.sigma * to.sigma - deviation * deviation).max(0.0));
        let noise = (setup.eta > 0.0).then_some(deviation);
        Row { noise, ..setup.composed(at, Level { alpha: to.alpha, sigma: left }) }
    }))
}

/// Song et al. 2020, section 4.3: the equation read backwards, from the data up the same grid. The initial state is
/// the data. The network is told the noise level that a step goes to, and not the one it starts from.
pub(super) fn inverse_table(setup: &Setup<'_>) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    if setup.parameterisation.prediction == Prediction::Clean {
        return Err(setup.unsupported("a clean sample", "the noise or v"));
    }
    let rows = (0..setup.steps()).rev().map(|i| {
        let Knot { t, level: to } = setup.knots[i];
        setup.composed(Knot { t, level: stride_below(setup, i) }, to)
    });
    Ok(setup.table(rows.collect()))
}

/// Ho et al. 2020, algorithm 2, between the timesteps of the grid, with the posterior's variance.
pub(super) fn ancestral_table(setup: &Setup<'_>) -> Result<Table, Error> {
    posterior_table(setup, |small, _| small)
}

/// The same with the variance of the forward step.
pub(super) fn large_ancestral_table(setup: &Setup<'_>) -> Result<Table, Error> {
    posterior_table(setup, |_, large| large)
}

fn posterior_table(setup: &Setup<'_>, deviation: fn(f64, f64) -> f64) -> Result<Table, Error> {
    setup.require(|process| matches!(process, Process::Preserving { .. }), "timesteps")?;
    Ok(setup.numbered_intervals(|i, at, _| {
        let [from, to] = setup.levels(i);
        let (small, large) = deviations(from, to);
        let small = setup.eta * small;
        let kept = libm::sqrt((to.sigma * to.sigma - small * small).max(0.0)) / from.sigma;
        let update = Combination { x: kept, y: to.alpha - kept * from.alpha };
        // diffusers draws in every step but one from timestep 0.
        let noise = (setup.eta > 0.0 && at.t > 0.0).then(|| deviation(small, setup.eta * large));
        Row { noise, ..setup.row(setup.here(at), at, update) }
    }))
}

/// Of what was added from `to` to `from`: of the posterior that knows the data, and of the step itself.
fn deviations(from: Level, to: Level) -> (f64, f64) {
    let kept = from.alpha / to.alpha;
    let large = libm::sqrt((1.0 - kept * kept).max(0.0));
    (to.sigma / from.sigma * large, large)
}

impl Setup<'_> {
    /// `x' = alpha * clean + sigma * noise`, both as the network has them, the clean sample clamped.
    fn composed(&self, at: Knot, to: Level) -> Row {
        let noise = self.parameterisation.noise(at);
        let update = Combination { x: to.sigma * noise.x, y: to.alpha };
        Row { direct: to.sigma * noise.y, ..self.row(self.here(at), at, update) }
    }
}

/// diffusers steps down by whole strides, and so not always to the next timestep of the grid.
pub(super) fn stride_below(setup: &Setup<'_>, i: usize) -> Level {
    let below = setup.knots[i].t - stride(setup);
    match setup.grid.curve {
        Curve::Usual | Curve::Leading { .. } | Curve::Trailing | Curve::Linspace if below >= 0.0 => {
            setup.parameterisation.process.level(below)
        }
        Curve::Usual | Curve::Leading { .. } | Curve::Trailing | Curve::Linspace => {
            setup.levels(setup.steps() - 1)[1]
        }
        _ => setup.levels(i)[1],
    }
}

/// The moment from which [`stride_below`] would step to that of the grid.
pub(super) fn stride_above(setup: &Setup<'_>, i: usize) -> Knot {
    match setup.grid.curve {
        Curve::Usual | Curve::Leading { .. } | Curve::Trailing | Curve::Linspace => {
            setup.parameterisation.process.knot(setup.knots[i].t + stride(setup))
        }
        _ => setup.knots[i - 1],
    }
}

fn stride(setup: &Setup<'_>) -> f64 {
    (TIMESTEPS / setup.planned) as f64
}

#[cfg(test)]
mod tests {
    use super::super::*;

    fn network(prediction: Prediction) -> Parameterisation {
        let process = Process::Preserving { betas: Betas::COSINE };
        Parameterisation { process, prediction, time: Time::Linear { scale: 1.0 } }
    }

    fn table(sampler: &str, prediction: Prediction) -> Result<Table, Error> {
        find(sampler)?.table(&network(prediction), &Grid::steps(20), &Options::default())
    }

    /// If the network always says the same noise, the way up is the way down.
    #[test]
    fn the_inverse_leads_back() {
        let run = |table: &Table, x: f64| {
            table.rows.iter().fold(x, |x, row| {
                let y = row.estimate.x * x + row.estimate.y * 0.3;
                row.update.x * x + row.update.y * y + row.direct * 0.3
            })
        };
        let [up, down] = ["ddim-inverse", "ddim"].map(|sampler| table(sampler, Prediction::Epsilon).unwrap());
        assert_eq!(up.initial_scale, 1.0);
        let noise = run(&up, 0.7);
        assert!((run(&down, noise) - 0.7).abs() < 1e-9, "{}", run(&down, noise));
    }

    #[test]
    fn a_clean_sample_does_not_tell_the_noise_that_is_not_there() {
        let refused = table("ddim-inverse", Prediction::Clean);
        assert!(matches!(refused, Err(Error::Unsupported { what: "a clean sample", .. })));
    }
}
