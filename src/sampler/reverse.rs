//! The reverse SDE of a process that reverts to a mean: speech enhancement with SGMSE.
//!
//! Richter et al. 2022, arXiv 2208.05830. State, data and the mean that the noise leads to, an observation, enter the rules
//! only as differences, so the tables are those of a state relative to the observation. The network reads both together.

use super::{Combination, Error, Knot, Level, MAX_STEPS, Process, Row, Setup, Table};

/// One step of Euler and Maruyama: `x' = x + dt * theta * x + g^2 * dt * score + g * sqrt(dt) * z`. The last returns its mean.
pub(super) fn table(setup: &Setup<'_>) -> Result<Table, Error> {
    let diffusion = setup.diffusion()?;
    Ok(setup.numbered_intervals(|i, at, to| setup.predict(i, diffusion, at, to)))
}

/// The same after a step of annealed Langevin dynamics at the same time: `x' = x + d * score + sqrt(2 * d) * z`, where
/// `d = 2 * (snr * sigma)^2`. The option eta is the `snr`.
pub(super) fn corrected_table(setup: &Setup<'_>) -> Result<Table, Error> {
    let diffusion = setup.diffusion()?;
    let evaluations = 2 * setup.steps();
    if evaluations > MAX_STEPS {
        return Err(Error::TooManyEvaluations { evaluations });
    }
    let rows = (0..evaluations).map(|evaluation| {
        let (i, at) = (evaluation / 2, setup.knots[evaluation / 2]);
        if evaluation % 2 == 1 {
            return setup.predict(i, diffusion, at, setup.knots[i + 1]);
        }
        let root = setup.eta * at.level.sigma;
        let length = 2.0 * root * root;
        Row { noise: Some(2.0 * root), ..setup.along_score(at, 1.0, length) }
    });
    Ok(setup.table(rows.collect()))
}

/// `theta`, and what `g^2` is at 0 and how fast it grows.
#[derive(Clone, Copy)]
struct Diffusion {
    theta: f64,
    initial: f64,
    growth: f64,
}

impl Setup<'_> {
    fn diffusion(&self) -> Result<Diffusion, Error> {
        let accepts = "a process that reverts to a mean";
        self.require(|process| matches!(process, Process::MeanReverting { .. }), accepts)?;
        let Process::MeanReverting { theta, sigma_min, sigma_max } = self.parameterisation.process else {
            return Err(self.unsupported(self.parameterisation.process.what(), accepts));
        };
        let growth = 2.0 * libm::log(sigma_max / sigma_min);
        Ok(Diffusion { theta, initial: sigma_min * sigma_min * growth, growth })
    }

    fn predict(&self, i: usize, Diffusion { theta, initial, growth }: Diffusion, at: Knot, to: Knot) -> Row {
        let dt = at.t - to.t;
        let variance = initial * libm::exp(growth * at.t) * dt;
        let noise = if self.is_last(i) { 0.0 } else { libm::sqrt(variance) };
        Row { noise: Some(noise), ..self.along_score(at, 1.0 + theta * dt, variance) }
    }

    /// `x' = scale * x + length * score`.
    fn along_score(&self, at: Knot, scale: f64, length: f64) -> Row {
        let Level { alpha, sigma } = at.level;
        // score = (alpha * clean - x) / sigma^2
        let part = length / (sigma * sigma);
        self.row(self.here(at), at, Combination { x: scale - part, y: part * alpha })
    }
}
